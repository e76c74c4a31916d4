"""A data set is a function of its settings: idempotent, healing, the same with any number of workers."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from animeflow.core.errors import ConfigError, DataError
from animeflow.toonworld import variants
from animeflow.toonworld.dataset import World, encode_png, read_truth, write_dataset
from animeflow.toonworld.draw import draw
from animeflow.toonworld.sheet import contact_sheet
from animeflow.toonworld.show import showcase
from animeflow.toonworld.world import is_held_out, sample_scene

SIZES = [(64, 64), (80, 64)]


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_twice_adds_nothing_and_lost_files_come_back_byte_for_byte(tmp_path):
    assert write_dataset(tmp_path, 12, seed=1, sizes=SIZES) == 12
    first = hashes(tmp_path)
    assert len(first) == 14
    assert write_dataset(tmp_path, 12, seed=1, sizes=SIZES) == 0
    (tmp_path / "0000003.png").unlink()
    (tmp_path / "0000007.png").write_bytes((tmp_path / "0000007.png").read_bytes()[:100])
    (tmp_path / "truth.jsonl").unlink()
    (tmp_path / "manifest.json").unlink()
    assert write_dataset(tmp_path, 12, seed=1, sizes=SIZES) == 2
    assert hashes(tmp_path) == first


def test_in_two_parts_is_the_same_as_in_one(tmp_path):
    write_dataset(tmp_path / "one", 10, sizes=SIZES)
    write_dataset(tmp_path / "two", 4, sizes=SIZES)
    write_dataset(tmp_path / "two", 6, start=4, sizes=SIZES)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_two_workers_write_what_one_writes(tmp_path):
    write_dataset(tmp_path / "one", 70, sizes=[(32, 32)])
    assert write_dataset(tmp_path / "two", 70, sizes=[(32, 32)], workers=2) == 70
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_truth_says_what_the_file_shows(tmp_path):
    write_dataset(tmp_path, 6, seed=4, sizes=SIZES)
    facts = read_truth(tmp_path)
    assert [fact.index for fact in facts] == list(range(6))
    for fact in facts:
        pixels = cv2.imread(str(tmp_path / fact.file))[..., ::-1]
        assert pixels.shape == (fact.height, fact.width, 3)
        assert np.array_equal(pixels, draw(fact.scene, fact.height, fact.width, layers=False).pixels)
        assert fact.scene == World(seed=4, sizes=tuple(SIZES)).scene(fact.index)
        assert not is_held_out(fact.scene)


def test_another_world_in_the_same_folder_is_refused(tmp_path):
    write_dataset(tmp_path, 2, sizes=SIZES)
    with pytest.raises(DataError, match="other seed"):
        write_dataset(tmp_path, 2, seed=9, sizes=SIZES)
    with pytest.raises(DataError, match="no truth"):
        read_truth(tmp_path / "nowhere")


def test_settings_may_come_from_yaml_or_json():
    world = World(sizes=[[64, 64]], count_weights={"1": 1, "2": 1})
    assert world == World(sizes=((64, 64),), count_weights={1: 1.0, 2: 1.0})
    assert world.drawing(0).pixels.shape == (64, 64, 3)
    with pytest.raises(ConfigError, match="count_weights"):
        World(count_weights={4: 1.0})


@pytest.mark.parametrize("kind", variants.NEAR_KINDS)
def test_near_duplicates_look_alike_and_are_not_equal(kind):
    pixels = draw(sample_scene(0, 5), 128, 128, layers=False).pixels
    other = variants.near_duplicate(pixels, kind)
    assert other.shape != pixels.shape or not np.array_equal(other, pixels)
    small = [cv2.resize(p, (16, 16), interpolation=cv2.INTER_AREA).astype(float) for p in (pixels, other)]
    assert np.abs(small[0] - small[1]).mean() < 16
    with pytest.raises(ConfigError):
        variants.near_duplicate(pixels, "jepg")


def test_watermarks_and_machine_made_pictures_are_seeded_and_marked(tmp_path):
    pixels = draw(sample_scene(0, 5), 128, 112, layers=False).pixels
    marked = variants.watermarked(pixels, "sample")
    assert marked.shape == pixels.shape
    assert 4 < np.abs(marked.astype(int) - pixels).mean() < 60
    fake, metadata = variants.generator_like(pixels, seed=3)
    assert np.array_equal(fake, variants.generator_like(pixels, seed=3)[0])
    png = variants.embed_text(encode_png(fake), metadata)
    assert b"parameters" in png
    assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], fake)
    assert np.array_equal(variants.exact_duplicate(pixels), pixels)


def test_contact_sheets_keep_their_pictures():
    pictures = [draw(scene, 48, 40 + 8 * (k % 2), layers=False).pixels for k, scene in enumerate(showcase(7))]
    sheet = contact_sheet(pictures, 3, labels=[f"picture {k}" for k in range(7)])
    assert sheet.shape == (3 * (48 + 16 + 4) + 4, 3 * (48 + 4) + 4, 3)
    assert np.array_equal(sheet[4:52, 56:104], pictures[1])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], 3)
