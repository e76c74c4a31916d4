"""The doctor's judgements from facts that no machine here has, and what it prints. No GPU, no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from animeflow.app.cli import main
from animeflow.app.compose import compose
from animeflow.app.doctor import disk, gpu, host, steps, versions
from animeflow.app.doctor.checks import Check, checks, examine, failed, wandb
from animeflow.app.doctor.driver import Build, Driver, judge, parse_smi
from animeflow.app.doctor.finding import ERROR, OK, WARNING, Finding, error, ok, warning
from animeflow.app.doctor.page import as_json, summary
from animeflow.core.errors import ConfigError, DataError

CUDA13 = Build("2.13.0+cu130", cuda="13.0", available=True)
BLIND = Build("2.13.0+cu130", cuda="13.0", reason="Found no NVIDIA driver on your system")
CPU = Build("2.13.0+cpu")
NEW = Driver(card=True, version="580.65.06", cuda=(13, 0))
OLD = Driver(card=True, version="550.54.14", cuda=(12, 4))

SMI = """
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 570.86.10              Driver Version: 570.86.10      CUDA Version: 12.8     |
|-----------------------------------------+------------------------+----------------------+
"""


@pytest.mark.parametrize(
    ("build", "driver", "level", "words"),
    [
        (CUDA13, NEW, OK, "580.65.06"),
        (Build("2.13.0+cu126", cuda="12.6", available=True), NEW, OK, "CUDA 12.6"),  # a newer driver runs older CUDA
        (Build("2.13.0+cu128", cuda="12.8", available=True), OLD, OK, "CUDA 12.8"),  # minor versions within 12
        (BLIND, OLD, ERROR, "580"),  # what the driver has to become
        (CPU, NEW, ERROR, "pip install --force-reinstall 'torch==2.13.0'"),
        (CPU, OLD, ERROR, "580 or newer and restart, then: pip install"),
        (CPU, Driver(card=True), ERROR, "no driver"),
        (CPU, Driver(), OK, "no NVIDIA GPU"),
        (BLIND, Driver(), WARNING, "the CPU is used"),
        (BLIND, Driver(card=True), ERROR, "no driver"),
        (BLIND, NEW, ERROR, "Found no NVIDIA driver"),
        (BLIND, Driver(card=True, cuda=(13, 0), hidden=""), WARNING, "unset CUDA_VISIBLE_DEVICES"),
        (BLIND, Driver(card=True, trouble="Driver/library version mismatch"), ERROR, "restart the machine"),
        (Build("2.13.0+rocm6.4", hip="6.4", available=True), Driver(), WARNING, "ROCm"),
    ],
)
def test_torch_and_driver(build, driver, level, words) -> None:
    (found,) = judge(build, driver)
    assert found.level == level
    assert words in f"{found.what} {found.why} {found.do}"
    assert level == OK or found.do


def test_windows_is_not_sent_to_a_build_for_the_cpu() -> None:
    (found,) = judge(CPU, Driver(card=True, version="581.0", cuda=(13, 0), system="Windows"))
    assert found.level == ERROR
    assert "pip install" not in str(found.do)


def test_what_nvidia_smi_prints() -> None:
    assert parse_smi(SMI) == ("570.86.10", (12, 8))
    assert parse_smi("no devices were found") == (None, None)


@pytest.mark.parametrize(
    ("capability", "arches", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),  # a binary of 8.0 runs on 8.9
        ((8, 0), ["sm_86"], False),  # not the other way round
        ((6, 1), ["sm_75", "sm_90"], False),
        ((12, 0), ["sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),  # PTX
    ],
)
def test_whether_torch_has_kernels_for_a_gpu(capability, arches, runs) -> None:
    assert gpu.has_kernels(capability, arches) is runs


def test_gpus_are_judged_by_memory_generation_and_bf16() -> None:
    def levels(*cards: gpu.Card) -> list[str]:
        return [finding.level for finding in gpu.judge(cards)]

    assert levels() == [WARNING]
    assert levels(gpu.Card(0, "H200", (9, 0), 139.8, 139.0)) == [OK, OK]
    assert levels(gpu.Card(0, "H200", (9, 0), 139.8, 20.0)) == [WARNING, OK]
    assert levels(gpu.Card(0, "RTX 3070", (8, 6), 7.6, 7.4)) == [WARNING, OK]
    assert levels(gpu.Card(0, "T4", (7, 5), 15.0, 14.8)) == [OK, WARNING]
    assert levels(gpu.Card(0, "P40", (6, 1), 24.0, 24.0, known=False)) == [ERROR, WARNING]


def test_versions_are_compared_by_number() -> None:
    need = versions.Need.parse("torch>=2.11")
    assert [need.fits(each) for each in ("2.9.1", "2.11", "2.13.0+cu130", "3.0")] == [False, True, True, True]
    both = versions.Need.parse("opencv-python-headless (>=4.10,<5)")
    assert [both.fits(each) for each in ("4.9", "4.13.0.92", "5.0")] == [False, True, False]
    close = versions.Need.parse("thing~=1.4.2")
    assert [close.fits(each) for each in ("1.4.1", "1.4.9", "1.5")] == [False, True, False]


def test_a_missing_and_an_old_package_name_what_installs_them() -> None:
    required = [versions.Need.parse(line) for line in ("torch>=2.11", "peft>=0.19", "numpy>=2.0")]
    found = versions.judge_packages(required, {"torch": "2.9.1", "peft": None, "numpy": "2.3"})
    assert [(each.level, each.do) for each in found] == [
        (ERROR, "pip install 'torch>=2.11'"),
        (ERROR, "pip install 'peft>=0.19'"),
    ]
    (well,) = versions.judge_packages(required, {"torch": "2.13.0+cpu", "peft": "0.21.2", "numpy": "2.3"})
    assert well.level == OK


def test_an_option_counts_only_where_the_settings_ask_for_it() -> None:
    need = versions.Need.parse("bitsandbytes>=0.49; extra == 'lowbit'")
    assert need.extra == "lowbit"
    for asked, level in (((), OK), (("lowbit",), ERROR)):
        (found,) = versions.judge_extras([need], {"bitsandbytes": None}, asked=asked)
        assert (found.level, found.do) == (level, "pip install 'animeflow[lowbit]'")
    assert versions.asked_by(compose(["optim=adamw8bit"])) == {"lowbit"}
    assert versions.asked_by(compose([])) == set()


def test_the_checkout_tells_what_it_needs(tmp_path) -> None:
    python, required = versions.needs(Path(versions.__file__).resolve().parents[2])
    assert python.startswith(">=3.")
    assert {"torch", "diffusers", "click"} <= {need.name for need in required if need.extra is None}
    assert "lowbit" in {need.extra for need in required}
    assert versions.judge_python("3.10.1", python)[0].level == ERROR
    assert versions.judge_python("3.12.4", python, free_threaded=True)[0].level == WARNING


def test_the_host_is_judged() -> None:
    level = {
        "crowded": host.judge_threads(2.0, 8, said="8")[0],
        "quiet": host.judge_threads(2.0, 2, said=None)[0],
        "no memory": host.judge_memory(4.0, 0.5)[0],
        "little": host.judge_memory(8.0, 6.0)[0],
        "enough": host.judge_memory(64.0, 40.0)[0],
        "small shm": host.judge_shared(0.0625, gpus=8)[0],
        "shm of one GPU": host.judge_shared(0.0625, gpus=1)[0],
        "few files": host.judge_files(256)[0],
        "clock behind": host.judge_clock(1.0e9, 1.7e9)[0],
        "clock": host.judge_clock(1.8e9, 1.7e9)[0],
        "latin": host.judge_terminal({}, terminal=True, encoding="iso8859-1")[0],
    }
    assert {name for name, found in level.items() if found.level == OK} == {
        "quiet",
        "enough",
        "shm of one GPU",
        "clock",
    }
    assert level["no memory"].level == ERROR
    assert level["crowded"].do == "export OMP_NUM_THREADS=2"
    assert host.judge_shared(None, gpus=8) == []


def test_the_probe_of_a_disk_leaves_nothing(tmp_path) -> None:
    place = disk.measure("runs", tmp_path / "runs" / "mine", size=2**20)
    assert place.folder == tmp_path
    assert place.speed and place.free_gib > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "level"),
    [
        (disk.Place("runs", Path("/d"), 500.0, 900.0), OK),
        (disk.Place("runs", Path("/d"), 500.0, 3.0), WARNING),
        (disk.Place("runs", Path("/d"), 8.0, 900.0), WARNING),
        (disk.Place("runs", Path("/d"), 0.5, 900.0), ERROR),
        (disk.Place("runs", Path("/d"), 500.0, refusal="Permission denied"), ERROR),
    ],
)
def test_disks_are_judged(place, level) -> None:
    assert disk.judge(place).level == level


def test_a_folder_that_refuses_is_told(tmp_path, monkeypatch) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "NamedTemporaryFile", refuse)
    place = disk.measure("runs", tmp_path)
    assert (place.speed, place.refusal) == (None, "Permission denied")


def test_a_loss_that_is_no_number_is_an_error() -> None:
    assert steps.judge([1.2, 1.1], [0.5, 0.1], "cpu", "m").level == OK
    assert steps.judge([1.2, float("nan")], [0.5, 0.1], "cpu", "m").level == ERROR


def test_a_key_of_wandb_is_looked_for_only_when_asked(tmp_path) -> None:
    assert wandb(compose([]), environment={}) == []
    asked = compose(["train.wandb=online"])
    assert wandb(asked, environment={"HOME": str(tmp_path)})[0].do == "wandb login"
    assert wandb(asked, environment={"HOME": str(tmp_path), "WANDB_API_KEY": "x"})[0].level == OK
    (tmp_path / ".netrc").write_text("machine api.wandb.example login user password x\n")
    assert wandb(asked, environment={"HOME": str(tmp_path)})[0].level == OK


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on() -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError("division by zero")

    def refused() -> list[Finding]:
        raise ConfigError("no kernel works", why="too old", do="update")

    todo = [Check("a", broken), Check("b", refused), Check("c", lambda: [ok("c", "fine")])]
    found = [line for _, lines in examine(todo) for line in lines]
    assert [line.level for line in found] == [ERROR, ERROR, OK]
    assert found[0].what == "ZeroDivisionError: division by zero"
    assert "test_app_doctor" in str(found[0].trace)
    assert (found[1].what, found[1].why, found[1].do, found[1].trace) == ("no kernel works", "too old", "update", None)
    assert failed(found) and not failed(found[2:])


def test_a_word_that_is_wrong_is_a_finding() -> None:
    todo = [check for check in checks(["optim.lrr=1"]) if check.title in ("settings", "versions")]
    (_, (first, *_)), (_, rest) = examine(todo)
    assert first.level == ERROR and "did you mean" in first.what
    assert not failed(rest)


def test_json_says_the_same() -> None:
    found = [ok("a", "fine"), warning("b", "so so", do="x"), Finding("c", ERROR, "bad", do="y", trace="Traceback")]
    told = json.loads(as_json(found, 1.23))
    assert (told["good"], told["counts"]) == (False, {"ok": 1, "warning": 1, "error": 1})
    assert told["findings"][1] == {"name": "b", "level": "warning", "what": "so so", "do": "x"}
    assert "trace" not in told["findings"][2]
    assert "trace" in json.loads(as_json(found, 1.23, debug=True))["findings"][2]
    assert summary(found) == "1 ok, 1 warning, 1 error"
    assert summary([error("a", "x", do="y")] * 2) == "0 ok, 0 warnings, 2 errors"


def test_help_of_the_doctor_loads_no_torch() -> None:
    code = (
        "from animeflow.app.cli import main\nmain(['doctor', '--help'], standalone_mode=False)\n"
        "import sys; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout


def test_the_command_exits_with_0_or_2(tmp_path, monkeypatch) -> None:
    """The whole line of checks on this machine, as JSON; then one with a base that is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = CliRunner().invoke(main, ["doctor", "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    bad = [line for line in told["findings"] if line["level"] == ERROR]
    assert (done.exit_code, told["good"]) == (2 if bad else 0, not bad)
    named = {line["name"]: line for line in told["findings"]}
    assert named["training steps"]["level"] == OK
    assert named["attention"]["what"].startswith("torch CPU")
    models = [line for name, line in named.items() if name.startswith("model ")]
    assert models and all(line["level"] == WARNING and "models/" in line["what"] for line in models)
    assert list(tmp_path.iterdir()) == []

    monkeypatch.setattr("animeflow.app.verbs.doctor.checks", lambda words, base: checks(words, base=base)[-2:-1])
    done = CliRunner().invoke(main, ["doctor", "--base", "nowhere"], catch_exceptions=False)
    assert done.exit_code == 2
    assert done.stdout.startswith("error    base")
    assert "do: " in done.stdout and "\x1b" not in done.stdout


def test_what_a_broken_folder_lacks_is_told(tmp_path) -> None:
    from animeflow.app.doctor.models import incomplete

    (tmp_path / "model_index.json").write_text(
        json.dumps(
            {"_class_name": "Pipeline", "vae": ["diffusers", "X"], "extra": [None, None], "tokenizer": ["t", "Y"]}
        )
    )
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text("{}")
    (tmp_path / "half.safetensors").write_bytes((1000).to_bytes(8, "little") + b"{}")
    told = "\n".join(incomplete(tmp_path))
    assert "'vae' that is not there" in told
    assert "no vocabulary" in told
    assert "half.safetensors" in told
    assert "extra" not in told
    with pytest.raises(DataError):
        from animeflow.app.doctor.base import header

        header(tmp_path / "half.safetensors")
