"""A detector finds a planted artefact on pictures that it never saw; its scores order a queue, and masks stay a person's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from animeflow.annotate.detector import LEAST, WINDOW, Budget, Detector, _window, auc, queue, train_detector
from animeflow.annotate.masks import RECORD, write_masks
from animeflow.annotate.patches import spread
from animeflow.core.errors import ConfigError, DataError
from animeflow.image.encode import encode_png
from animeflow.image.mask import read_mask
from animeflow.toonworld.dataset import World
from animeflow.toonworld.variants import generator_like

WORLD = World(seed=11, sizes=((96, 96), (112, 96)))


def picture(uid: int) -> np.ndarray:
    """Odd ones as a weak generator would have made them."""
    pixels = WORLD.drawing(uid).pixels
    return generator_like(pixels, seed=uid)[0] if uid % 2 else pixels


@pytest.mark.slow
def test_a_planted_artefact_is_found_on_pictures_that_were_held_back(tmp_path: Path):
    budget = Budget(steps=80, patches=4, lr=4e-3)
    detector, quality = train_detector({uid: bool(uid % 2) for uid in range(160)}, picture, budget=budget)
    assert quality.auc >= 0.95 and quality.positives == quality.negatives == 20
    fresh = {uid: detector.score(picture(uid)) for uid in range(1000, 1040)}
    made, drawn = ([score for uid, score in fresh.items() if uid % 2 == odd] for odd in (1, 0))
    assert auc(made, drawn) >= 0.95
    assert {uid % 2 for uid in queue(fresh)[:10]} == {1}
    detector.save(tmp_path / "detector", quality)
    again = Detector.load(tmp_path / "detector")
    assert [again.score(picture(uid)) for uid in (1000, 1001)] == [fresh[1000], fresh[1001]]


def test_too_few_labels_teach_nothing():
    with pytest.raises(DataError, match=f"both have to be {LEAST}"):
        train_detector(dict.fromkeys(range(50), False) | dict.fromkeys(range(50, 60), True), picture, budget=Budget())
    with pytest.raises(DataError, match="no detector"):
        Detector.load(Path("nothing"))


def test_no_more_pictures_are_read_than_were_asked_for_and_of_large_ones_a_window_is_held(tmp_path: Path):
    read: list[int] = []

    def noise(uid: int) -> np.ndarray:
        read.append(uid)
        return np.random.default_rng(uid).integers(0, 256, (64, 500, 3), np.uint8)

    labels = {uid: bool(uid % 2) for uid in range(200)}
    detector, quality = train_detector(labels, noise, budget=Budget(steps=1, patches=1, pictures=LEAST))
    assert quality.positives == quality.negatives == LEAST // 4
    assert len(read) == len(set(read)) == 2 * LEAST and sum(uid % 2 for uid in read) == LEAST
    held = _window(noise(0), 0, 0)
    assert held.shape == (64, WINDOW, 3) and held.base is None
    versions = {Detector(detector.net, patches=n).save(tmp_path / str(n), quality) for n in (1, 4)}
    assert len(versions) == 2, "a picture scored by other patches is scored anew"


def test_area_under_the_curve_is_the_chance_of_the_right_order():
    assert auc([3, 4], [1, 2]) == 1 and auc([1, 2], [3, 4]) == 0 and auc([1, 1], [1]) == 0.5
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 200), rng.normal(0, 1, 300)
    assert auc(a, b) == pytest.approx(np.mean([x > y for x in a for y in b]))


def test_a_queue_is_ordered_by_score_or_doubt():
    scores = {1: 0.9, 2: 0.51, 3: 0.2, 4: 0.9}
    assert queue(scores) == [1, 4, 2, 3] and queue(scores, by="doubt") == [2, 3, 1, 4]
    with pytest.raises(ConfigError, match="score or doubt"):
        queue(scores, by="loss")


@pytest.mark.parametrize("size", [(64, 64), (20, 300), (500, 70)])
def test_patches_lie_inside_and_reach_every_edge(size: tuple[int, int]):
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    pixels = np.stack([y % 256, x % 256, (y // 256) * 16 + x // 256], -1).astype(np.uint8)
    patches = spread(pixels, 9)
    assert {patch.shape for patch in patches} == {(64, 64, 3)}
    rows = {int(row) for patch in patches for row in (patch[..., 0] + 256 * (patch[..., 2].astype(int) // 16)).ravel()}
    assert {0, size[0] - 1} <= rows


def test_masks_are_written_beside_pictures_with_their_tool_and_never_over_a_persons(tmp_path: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(3):
        (pictures / f"{i}.png").write_bytes(encode_png(np.full((12, 16, 3), 80 * i, np.uint8)))
    hers = encode_png(np.full((12, 16, 3), 7, np.uint8))
    (pictures / "1.mask.png").write_bytes(hers)
    (pictures / "3.png").write_bytes(b"no picture")

    def segment(pixels: np.ndarray) -> np.ndarray:
        return np.where(np.arange(pixels.shape[1])[None] < 8, 255, 0).astype(np.uint8).repeat(pixels.shape[0], 0)

    items = [(i, pictures / f"{i}.png") for i in range(4)] + [(4, Path(f"{tmp_path}/a.tar!4.png"))]
    catalogue = tmp_path / "catalogue"
    found = write_masks(catalogue, items, segment, tool="half", version="1")
    assert (found.written, found.there, found.refused) == (2, 1, {"unknown_format": 1, "in_an_archive": 1})
    assert (pictures / "1.mask.png").read_bytes() == hers
    mask = read_mask((pictures / "0.mask.png").read_bytes(), height=12, width=16)
    assert np.array_equal(mask, segment(np.zeros((12, 16, 3), np.uint8)))
    rows = [json.loads(line) for line in (catalogue / RECORD).read_text().splitlines()]
    assert rows == [{"uid": uid, "mask": f"{uid}.mask.png", "tool": "half", "version": "1"} for uid in (0, 2)]

    def broken(pixels: np.ndarray) -> np.ndarray:
        if pixels[0, 0, 0] == 160:
            raise ConfigError("no plane")
        return segment(pixels)

    for i in (0, 2):
        (pictures / f"{i}.mask.png").unlink()
    with pytest.raises(ConfigError, match="no plane"):
        write_masks(tmp_path / "other", items, broken, tool="half", version="1")
    assert [json.loads(line)["uid"] for line in (tmp_path / "other" / RECORD).read_text().splitlines()] == [0]
    write_masks(tmp_path / "other", items, segment, tool="half", version="1")
    again = write_masks(catalogue, items, segment, tool="half", version="1")
    assert again.written == 0 and len((catalogue / RECORD).read_text().splitlines()) == 2
