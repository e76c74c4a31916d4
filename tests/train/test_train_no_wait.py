"""No step waits for the device: nothing in it reads a number back to the host.

A GPU is not needed to see that. Reading a tensor's value dispatches an operator of its own, on every device, and so does every
operator whose result's size depends on values.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from animeflow.core import seed as keyed
from animeflow.core.batch import Batch
from animeflow.model import registry
from animeflow.recipe.velocity import Velocity
from animeflow.train.feed import Fed
from animeflow.train.settings import Guard

sys.path.insert(0, str(Path(__file__).parent))
from toy import trainer

WAITS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "unique", "equal", "_unique2")


READS = ("cpu", "numpy", "tolist", "item", "__bool__", "__float__", "__int__", "__array__")


class Watch(TorchDispatchMode):
    """Notes every operator inside that would wait, and every call that reads a tensor or makes one on a device out of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._undo = pytest.MonkeyPatch()

    def __enter__(self):
        for name in READS:
            self._note(torch.Tensor, name, lambda *_, **__: True)
        # By that word: a device that is asked for by name is this one in a test, and a GPU in a run.
        self._note(torch.Tensor, "to", lambda _, *where, **named: any(w == "cpu" for w in where if isinstance(w, str)))
        self._note(torch, "tensor", lambda *_, **named: named.get("device") is not None)
        self._note(torch, "as_tensor", lambda *_, **named: named.get("device") is not None)
        return super().__enter__()

    def __exit__(self, *error):
        self._undo.undo()
        return super().__exit__(*error)

    def _note(self, owner, name, waits) -> None:
        plain = getattr(owner, name)

        def noted(*args, **kwargs):
            if waits(*args, **kwargs):
                self.seen.append(name)
            return plain(*args, **kwargs)

        self._undo.setattr(owner, name, noted)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in WAITS or by_mask:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_watch_sees_what_waits():
    with Watch() as watch:
        value = torch.ones(3)
        bool(value.sum() > 0)
        value.max().item()
        value[value > 0]
        value.cpu().numpy()
        value.to("cpu").tolist()
        torch.tensor([1.0], device=value.device)
    assert {"cpu", "numpy", "to", "tolist", "tensor", "item", "__bool__"} <= set(watch.seen)


@pytest.mark.parametrize("spike", ["off", "log", "skip"])
def test_a_step_reads_nothing_back(tmp_path, spike) -> None:
    run = trainer(tmp_path, images=800, settings={"guard": Guard(spike=spike)})
    steps = iter(run.steps)
    for number in range(40):  # past the warm-up of the guard
        batches = [run.recipe.prepare(batch) for batch in next(steps)]
        fed = Fed(batches, {}, 0.0)
        with Watch() as watch:
            reports, totals, verdict = run.step(batches)
            run._count(fed)
            run.books.add(fed, reports, totals)
            torch.cat([verdict.report, totals.values])
        assert not watch.seen, f"step {number}"


@pytest.mark.parametrize("family", ["sd35", "anima"])
def test_forward_and_backward_of_a_family_read_nothing_back(family) -> None:
    fam = registry.constructor(family)(flavour="tiny", seed=0)
    tower, learner = fam.text_tower(), fam.backbone()
    rows = tower.encode(["1girl, blue hair", "scenery"])
    cond = tower.collate(rows)
    batch = Batch(keyed.normal((2, fam.codec().channels, 12, 12), "latents"), cond, (1, 2), (0, 0), 2, 0, (0, 1))
    recipe = Velocity(learner, seed=1, patch=fam.patch)
    batch = recipe.prepare(batch)
    recipe.loss(batch).loss.backward()  # tables that are made once are made now
    with Watch() as watch:
        recipe.loss(batch).loss.backward()
    assert not watch.seen
