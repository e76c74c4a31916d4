"""The choice of the attention kernel, with a machine that is made up: right before fast, named, and never slow in silence."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import _cur_sdpa_kernel_backends

from animeflow.core.errors import ConfigError
from animeflow.model.attention_kernel import choose
from animeflow.model.attention_probe import CudaProber, loaded_cudnn
from animeflow.model.attention_switch import NAMES, version
from animeflow.model.work import AttentionCall

JOINT = AttentionCall(heads=24, head_dim=64, queries=4429, keys=4429, layers=24)
DUAL = AttentionCall(heads=24, head_dim=64, queries=4096, keys=4096, layers=13)
CUDA = torch.device("cuda")


@dataclass
class Machine:
    """A Hopper with a new cuDNN and torch's own kernels; milliseconds are per layer of the joint call."""

    speed: dict[str, float] = field(default_factory=lambda: {"cudnn": 1.0, "flash": 1.6, "efficient": 3.0})
    wrong: dict[str, float] = field(default_factory=dict)  # error without a mask
    wrong_masked: dict[str, float] = field(default_factory=dict)
    refuses: frozenset[str] = frozenset()
    refuses_masks: frozenset[str] = frozenset({"flash", "fa3", "fa4"})
    capability: tuple[int, int] = (9, 0)
    cudnn: int | None = 91501
    shadowed: str = ""
    timed: list[str] = field(default_factory=list)

    def missing(self, name):
        return "" if name in self.speed or name == "math" else "not installed"

    def error(self, name, call, *, masked):
        if name in self.refuses or (masked and name in self.refuses_masks):
            raise RuntimeError("No available kernel. Aborting execution.")
        return (self.wrong_masked if masked else self.wrong).get(name, 0.004)

    def milliseconds(self, name, call, *, batch):
        self.timed.append(name)
        return self.speed[name] * call.queries / 4429


def pick(machine: Machine, wish: str = "auto", *, calls=(JOINT, DUAL), also=(), dtype=torch.bfloat16):
    return choose(wish, device=CUDA, dtype=dtype, calls=calls, batch=8, also=also, prober=machine)


def test_the_fastest_that_is_right_wins_and_says_why():
    kernel = pick(Machine(speed={"cudnn": 1.0, "fa3": 0.8, "flash": 1.6, "efficient": 3.0}))
    assert (kernel.name, kernel.cudnn) == ("fa3", "9.15.1")
    trials = {trial.name: trial for trial in kernel.trials}
    assert trials["fa3"].milliseconds == pytest.approx(0.8 * (24 + 13 * 4096 / 4429))
    assert trials["fa3"].tflops == pytest.approx(
        3 * 8 * 4 * 24 * 64 * (24 * 4429**2 + 13 * 4096**2) / trials["fa3"].milliseconds / 1e9
    )
    text = "\n".join(kernel.lines())
    assert "attention: fa3" in text and "cudnn: 3" in text and "fa4: not installed" in text and "cuDNN 9.15.1" in text
    assert kernel.record()["trials"]["fa4"] == {"against": "not installed"}


def test_a_wrong_kernel_is_not_taken_however_fast():
    machine = Machine(speed={"cudnn": 0.1, "fa3": 0.8, "flash": 1.6, "efficient": 3.0}, wrong={"cudnn": 0.3})
    assert pick(machine).name == "fa3"
    assert "cudnn" not in machine.timed
    assert pick(Machine(speed={"cudnn": 0.1, "fa3": 0.8, "efficient": 3}, wrong={"cudnn": float("nan")})).name == "fa3"


def test_a_kernel_that_is_wrong_with_a_mask_only_is_not_taken():
    machine = Machine(speed={"cudnn": 0.1, "fa3": 0.8, "efficient": 3.0}, wrong_masked={"cudnn": 0.3})
    assert pick(machine).name == "fa3"


@pytest.mark.parametrize(
    ("machine", "masked"),
    [
        (Machine(), "cudnn"),
        (Machine(refuses_masks=frozenset({"cudnn", "flash"})), "efficient"),
        (Machine(speed={"fa3": 1.0, "efficient": 3.0}), "efficient"),
        (Machine(speed={"fa3": 1.0}), "math"),
    ],
)
def test_the_kernel_of_masked_calls_is_named(machine, masked):
    kernel = pick(machine)
    assert kernel.masked == masked
    assert f"attention with a mask: {masked}" in "\n".join(kernel.lines())


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (Machine(cudnn=91002, shadowed="9.10.2 on the library path hides the 9.15.1"), "hides the 9.15.1"),
        (Machine(wrong={"cudnn": 0.3}), "wrong by 30.0%"),
        (Machine(refuses=frozenset({"cudnn"})), "No available kernel"),
        (Machine(speed={"flash": 1.6, "efficient": 3.0}, cudnn=None), "not installed"),
    ],
)
def test_a_hopper_without_a_fast_kernel_is_refused_until_one_is_named(machine, reason):
    with pytest.raises(ConfigError, match="no fast attention kernel") as error:
        pick(machine)
    assert reason in str(error.value) and "LD_LIBRARY_PATH" in str(error.value)
    assert "train.attention=flash" in str(error.value)
    assert pick(machine, "flash").name == "flash"


def test_an_older_gpu_and_float32_take_what_there_is():
    assert pick(Machine(speed={"flash": 1.6, "efficient": 3.0}, capability=(8, 0))).name == "flash"
    only = Machine(refuses=frozenset({"cudnn", "flash"}))
    assert pick(only, dtype=torch.float32).name == "efficient"


def test_an_old_cudnn_is_right_where_all_lengths_divide_by_128():
    even = AttentionCall(heads=24, head_dim=64, queries=4096, keys=4096, layers=24)
    assert pick(Machine(cudnn=91002), calls=[even]).name == "cudnn"
    with pytest.raises(ConfigError, match="4429 is no multiple of 128"):
        pick(Machine(cudnn=91002), calls=[even], also=[JOINT])


def test_a_named_kernel_that_is_not_there_lists_those_that_are():
    with pytest.raises(ConfigError, match="not installed") as error:
        pick(Machine(wrong={"efficient": 1.0}), "fa4")
    assert "auto, cudnn, flash, math" in str(error.value)
    with pytest.raises(ConfigError, match="did you mean 'cudnn'"):
        pick(Machine(), "cuddn")


def test_math_is_never_timed_and_taken_only_when_named():
    machine = Machine()
    assert pick(machine).name == "cudnn" and "math" not in machine.timed
    assert pick(machine, "math").order == ("math",)


def test_a_cpu_needs_no_choice():
    kernel = choose("auto", device=torch.device("cpu"), dtype=torch.float32, calls=[JOINT], batch=8)
    assert kernel.name == "torch CPU"
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        choose("cudnn", device=torch.device("cpu"), dtype=torch.float32, calls=[JOINT], batch=8)


def test_applied_tells_torch_the_order_and_takes_it_back():
    before = _cur_sdpa_kernel_backends(with_priority=True)
    kernel = pick(Machine())
    with kernel.applied():
        names = [str(backend).rpartition(".")[2] for backend in _cur_sdpa_kernel_backends(with_priority=True)]
        assert names == ["CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "FLASH_ATTENTION", "MATH"]
    assert _cur_sdpa_kernel_backends(with_priority=True) == before


def test_math_applied_is_math():
    q = torch.randn(1, 2, 16, 8, requires_grad=True)
    kernel = choose("math", device=torch.device("cpu"), dtype=torch.float32, calls=[JOINT], batch=8)
    fused = F.scaled_dot_product_attention(q, q, q)
    with kernel.applied():
        plain = F.scaled_dot_product_attention(q, q, q)
    assert "Flash" in type(fused.grad_fn).__name__ and "Flash" not in type(plain.grad_fn).__name__
    torch.testing.assert_close(fused, plain)


class OnCpu(CudaProber):
    """The measuring part on this machine's own kernels, with a fault at will."""

    def __init__(self, dtype, *, lose=0):
        self.device, self.dtype, self._lose = torch.device("cpu"), dtype, lose

    def _passes(self, name, tensors, mask):
        if name == "flash" and self._lose:
            q, k, v, g = tensors
            k, v = k[:, :, : -self._lose], v[:, :, : -self._lose]
            y, dq, dk, dv = super()._passes(name, [q, k, v, g], mask)
            return [y, dq, F.pad(dk, (0, 0, 0, self._lose)), F.pad(dv, (0, 0, 0, self._lose))]
        return super()._passes(name, tensors, mask)


def test_rounding_is_no_error_and_one_lost_key_is():
    call = AttentionCall(heads=2, head_dim=64, queries=1029, keys=1029, layers=1)
    assert OnCpu(torch.bfloat16).error("flash", call, masked=False) < 0.01
    assert OnCpu(torch.float32).error("flash", call, masked=True) < 1e-4
    assert OnCpu(torch.bfloat16, lose=1).error("flash", call, masked=False) > 0.1


def test_versions_read_as_people_write_them():
    assert [version(number) for number in (91501, 92000, None)] == ["9.15.1", "9.20.0", ""]
    assert set(NAMES) >= {"cudnn", "fa3", "fa4", "flash", "efficient", "math"}
    assert loaded_cudnn()[0] in (None, torch.backends.cudnn.version())
