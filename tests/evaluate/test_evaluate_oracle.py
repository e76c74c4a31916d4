"""The oracle learns from drawn pictures, comes back from disk the same, and reads the same whatever stands beside a
picture.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from animeflow.core.errors import DataError
from animeflow.core.files import read_json, write_json
from animeflow.evaluate import adherence
from animeflow.evaluate.drawn import classes, draw_many
from animeflow.evaluate.oracle import SIDE, Oracle, OracleNet, framed, resized
from animeflow.evaluate.training import Budget, as_tensors, blemished, examine, fit, train_oracle
from animeflow.toonworld.words import ATTRIBUTES

SIZES = ((64, 64), (80, 56), (56, 80))


def untrained(seed: int = 0) -> Oracle:
    torch.manual_seed(seed)
    return Oracle(OracleNet(sum(map(len, ATTRIBUTES.values()))), ATTRIBUTES, {"seed": seed})


@pytest.fixture(scope="module")
def drawn():
    return list(draw_many(24, seed=1, sizes=SIZES))


def test_saved_and_loaded_it_reads_the_same(tmp_path, drawn):
    oracle, pictures = untrained(), [pixels for pixels, _ in drawn]
    oracle.save(tmp_path / "oracle")
    again = Oracle.load(tmp_path / "oracle", vocabulary=ATTRIBUTES)
    assert again.read(pictures) == oracle.read(pictures)
    assert again.vocabulary == oracle.vocabulary
    assert list(again.vocabulary) == list(ATTRIBUTES)
    assert again.record == oracle.record
    assert again.fingerprint == oracle.fingerprint != untrained(seed=1).fingerprint


def test_changed_files_and_other_worlds_are_refused(tmp_path):
    untrained().save(tmp_path / "oracle")
    with pytest.raises(DataError, match="other attributes"):
        Oracle.load(tmp_path / "oracle", vocabulary={"hair_color": ("red_hair",)})
    with pytest.raises(DataError, match="no oracle"):
        Oracle.load(tmp_path / "absent")
    facts = read_json(tmp_path / "oracle" / "oracle.json")
    write_json(tmp_path / "oracle" / "oracle.json", facts | {"sha256": "0" * 64})
    with pytest.raises(DataError, match="not the ones its record describes"):
        Oracle.load(tmp_path / "oracle")


def test_a_reading_does_not_depend_on_its_neighbours(drawn):
    oracle, pictures = untrained(), [pixels for pixels, _ in drawn]
    alone = oracle.probabilities(pictures[5:6])
    together = oracle.probabilities(pictures)
    for name in ATTRIBUTES:
        torch.testing.assert_close(alone[name][0], together[name][5], rtol=1e-4, atol=1e-6)
        assert together[name].sum(1).tolist() == pytest.approx([1.0] * len(pictures), abs=1e-5)
    assert oracle.read([]) == []


@pytest.mark.parametrize("size", [(96, 96), (112, 80), (80, 112), (1216, 832), (832, 1216), (64, 640), (640, 64)])
def test_every_shape_is_framed_to_a_square_inside_or_beside_it(size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    square = framed(picture)
    assert square.shape[0] == square.shape[1]
    assert square.shape[0] <= size[0]
    assert resized([picture]).shape == (1, 3, SIDE, SIDE)


def test_pictures_do_not_depend_on_the_number_of_workers(drawn):
    again = list(draw_many(6, seed=1, sizes=SIZES, workers=2))
    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(drawn, again, strict=False))
    assert [picture.shape[:2] for picture, _ in drawn[:3]] == list(SIZES)


def test_figures_of_a_crowd_have_no_class(drawn):
    for (_, scene), row in zip(drawn, as_tensors(drawn)[1].tolist()):
        asked = {name for name, index in zip(ATTRIBUTES, row) if index >= 0}
        assert asked == set(adherence.truth(scene))
        assert row == classes(scene)


def test_blemishes_stay_near_the_picture_and_are_repeatable(drawn):
    x = resized([pixels for pixels, _ in drawn]).float() / 255
    once, again = (blemished(x, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(once, again)
    assert 0.005 < (once.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs().max() < 0.1


def test_training_is_repeatable(drawn):
    budget = Budget(steps=3, batch=8)
    weights = [fit(*as_tensors(drawn), seed=2, budget=budget).state_dict() for _ in range(2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_tiny_budget_beats_chance_by_far():
    oracle = train_oracle(
        sizes=((64, 64),), seed=1, budget=Budget(pictures=300, test_pictures=80, steps=60, batch=24), workers=1
    )
    accuracy = oracle.record["accuracy"]
    assert set(accuracy) == set(ATTRIBUTES)
    assert oracle.record["mean_accuracy"] > 0.5  # guessing gives about 0.3
    assert accuracy["lighting"] > 0.8
    assert oracle.record["parameters"] < 400_000
    world = list(draw_many(40, seed=77, sizes=((64, 64),)))
    assert examine(oracle, world)["background"] > 0.5
