"""Keys are stable and distinct; files are whole or absent; errors survive a process pool."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal

import pytest
import torch

from animeflow.core import files, seed
from animeflow.core.batch import Batch
from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError, did_you_mean


def test_keys_depend_on_every_part_and_their_order_and_never_change() -> None:
    assert (
        len({seed.key(0, 1), seed.key(1, 0), seed.key(0, "1"), seed.key(0, 1, ""), seed.key(0, 11), seed.key(0)}) == 6
    )
    assert seed.key(0, 7, 1, "noise") == 4578809053482256605, "a changed key would change every resumed run"


def test_draws_are_functions_of_position() -> None:
    before = torch.random.get_rng_state()
    first = seed.normal((3, 4), 0, 5, 1)
    seed.normal((9,), 0, 6, 1)
    assert torch.equal(first, seed.normal((3, 4), 0, 5, 1))
    assert not torch.equal(first, seed.normal((3, 4), 0, 5, 2))
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is not touched"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(path) == {"old": 1}
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "x").write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_whole(tmp_path) -> None:
    for names in (["a", "b"], ["c"]):
        with files.atomic_folder(tmp_path / "f") as temporary:
            for name in names:
                (temporary / name).write_text(name)
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["c"]


def _writer(path: str, moment: str) -> None:
    """In a process of its own: replaces a folder and is killed at `moment`."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    replace = os.replace
    if moment == "between":
        files.os.replace = lambda a, b: replace(a, b) if str(b).endswith(".old") else die()
    if moment == "removing":
        files.shutil.rmtree = die
    with files.atomic_folder(path) as temporary:
        (temporary / "new").write_text("x")
        if moment == "writing":
            die()


@pytest.mark.parametrize(("moment", "holds"), [("writing", "old"), ("between", "old"), ("removing", "new")])
@pytest.mark.parametrize("how", ["sweep", "write"])
def test_a_kill_at_any_moment_of_a_replacement_leaves_a_whole_folder(tmp_path, moment, holds, how) -> None:
    with files.atomic_folder(tmp_path / "f") as temporary:
        (temporary / "old").write_text("x")
    child = multiprocessing.get_context("fork").Process(target=_writer, args=(str(tmp_path / "f"), moment))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) > 1 or not (tmp_path / "f").exists(), "the kill left something behind"
    if how == "sweep":
        files.sweep(tmp_path)
    else:
        with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "f"):
            raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert [p.name for p in (tmp_path / "f").iterdir()] == [holds]


def test_a_sweep_leaves_living_writers_and_strangers_alone(tmp_path) -> None:
    (tmp_path / ".notes.tmp").mkdir()
    with files.atomic_folder(tmp_path / "f") as temporary:
        (temporary / "x").write_text("x")
        child = multiprocessing.get_context("fork").Process(target=files.sweep, args=(tmp_path,))
        child.start()
        child.join()
        files.sweep(tmp_path)
        assert (temporary / "x").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".notes.tmp", "f"]


def test_a_second_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch) -> None:
    with files.atomic_folder(tmp_path / "f") as temporary:
        (temporary / "old").write_text("x")
    replace = os.replace

    def fail(a: object, b: object) -> None:
        if str(a).endswith(".tmp"):
            raise OSError("disk")
        replace(a, b)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"), files.atomic_folder(tmp_path / "f"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["old"]


def test_addresses_change_with_any_fact_and_not_with_their_order() -> None:
    assert files.address(a=1, b="x") == files.address(b="x", a=1)
    assert files.address(a=1, b="x") != files.address(a=1, b="y")


def test_conditioning_rows_and_cat_are_inverse() -> None:
    cond = Conditioning({"x": torch.arange(6.0).reshape(3, 2), "ids": torch.arange(3)})
    joined = Conditioning.cat([cond.rows([0]), cond.rows(slice(1, 3))])
    assert all(torch.equal(joined[name], cond[name]) for name in cond)
    assert cond.to(dtype=torch.bfloat16)["ids"].dtype == torch.int64
    with pytest.raises(ValueError, match="disagree"):
        Conditioning({"x": torch.zeros(2), "y": torch.zeros(3)})


def test_batch_knows_its_length() -> None:
    assert len(Batch(torch.zeros(2, 1, 1, 1), Conditioning({"x": torch.zeros(2)}), (1, 2), (0, 0), 2)) == 2


def test_errors_say_what_where_why_and_what_to_do_also_across_processes() -> None:
    error = ConfigError("lr is -1", where="optim.lr", why="it must rise", do="set 1e-4")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ConfigError)
    assert str(again) == str(error) == "lr is -1\n  where: optim.lr\n  why:   it must rise\n  do:    set 1e-4"


def test_suggestions_are_near_or_absent() -> None:
    assert did_you_mean("learnrate", ["learn_rate", "seed"]) == " (did you mean 'learn_rate'?)"
    assert did_you_mean("xyz", ["learn_rate"]) == ""
