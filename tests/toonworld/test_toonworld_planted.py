"""What is planted is what its truth says: copies have their original's pixels or nearly so, versions differ in one place."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from animeflow.core.errors import DataError
from animeflow.toonworld.dataset import World, write_dataset
from animeflow.toonworld.planted import ALONE, FOLDER, KINDS, NAME, plant, read_planted

WORLD = World(seed=5, sizes=((96, 96), (112, 96)))
EACH, COUNT = 3, 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    write_dataset(folder, COUNT, seed=5, sizes=WORLD.sizes)
    plant(folder, WORLD, count=COUNT, each=EACH)
    return folder


def pixels(file: Path) -> np.ndarray:
    return cv2.imread(str(file)).astype(int)


def of_kind(folder: Path, kind: str) -> list[tuple[Path, Path | None]]:
    found = [line for line in read_planted(folder) if line["planted"]["kind"] == kind]
    return [
        (folder / line["file"], folder / line["planted"]["of"] if line["planted"]["of"] else None) for line in found
    ]


def test_every_kind_is_there_with_its_truth_and_no_original_is_used_twice(folder: Path):
    lines = list(read_planted(folder))
    assert [sum(line["planted"]["kind"] == kind for line in lines) for kind in KINDS] == [EACH] * len(KINDS)
    originals = [line["planted"]["of"] for line in lines if line["planted"]["of"]]
    assert len(set(originals)) == len(originals) == EACH * (len(KINDS) - len(ALONE))
    assert all((folder / name).is_file() for name in originals)


def test_copies_have_the_pixels_of_their_original(folder: Path):
    for file, original in of_kind(folder, "copy"):
        assert file.read_bytes() == original.read_bytes()
    for file, original in of_kind(folder, "repacked"):
        assert file.read_bytes() != original.read_bytes() and np.array_equal(pixels(file), pixels(original))
    for file, original in of_kind(folder, "jpeg"):
        assert 0 < np.abs(pixels(file) - pixels(original)).mean() < 8
    for file, original in of_kind(folder, "mirrored"):
        assert np.array_equal(pixels(file), pixels(original)[:, ::-1])
    for kind in ("resize", "crop"):
        for file, original in of_kind(folder, kind):
            assert pixels(file).shape < pixels(original).shape


def test_a_version_differs_in_one_place_and_says_so_in_its_tags(folder: Path):
    truths = {line["file"]: line for line in read_planted(folder)}
    for file, original in of_kind(folder, "variant"):
        changed = (np.abs(pixels(file) - pixels(original)).max(-1) > 8).mean()
        assert 0 < changed < 0.15
        scene = truths[file.relative_to(folder).as_posix()]["scene"]
        assert scene["figures"][0]["expression"] in truths[file.relative_to(folder).as_posix()]["tags"]["general"]


def test_machine_made_ones_carry_a_generators_text_and_watermarks_cover_the_picture(folder: Path):
    for file, _ in of_kind(folder, "generated"):
        assert b"Negative prompt: bad hands" in file.read_bytes()
    for file, _ in of_kind(folder, "watermarked"):
        assert b"Negative prompt" not in file.read_bytes()


def test_planting_again_gives_the_same_bytes(folder: Path, tmp_path: Path):
    write_dataset(tmp_path, COUNT, seed=5, sizes=WORLD.sizes)
    plant(tmp_path, WORLD, count=COUNT, each=EACH)
    for file in sorted((folder / FOLDER).iterdir()):
        assert (tmp_path / FOLDER / file.name).read_bytes() == file.read_bytes()
    assert (tmp_path / NAME).read_bytes() == (folder / NAME).read_bytes()


def test_planting_fewer_takes_the_others_out(tmp_path: Path):
    write_dataset(tmp_path, COUNT, seed=5, sizes=WORLD.sizes)
    for each in (2, 1, 0):
        plant(tmp_path, WORLD, count=COUNT, each=each)
        files = {f"{FOLDER}/{file.name}" for file in (tmp_path / FOLDER).iterdir()}
        assert files == {line["file"] for line in read_planted(tmp_path)} and len(files) == each * len(KINDS)


def test_more_copies_than_pictures_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="plant fewer"):
        plant(tmp_path, WORLD, count=5, each=1)
    assert not list(tmp_path.iterdir())
