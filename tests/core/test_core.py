"""Keys are stable and distinct; files are whole or absent; errors survive a process pool."""

from __future__ import annotations

import pickle

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
