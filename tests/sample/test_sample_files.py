"""PNG files with their recipe, and contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from animeflow.core.errors import ConfigError, DataError
from animeflow.sample import png
from animeflow.sample.sheet import contact_sheet

RECIPE = {
    "prompt": "1girl, 青い髪, (hatsune miku:1.2)\nsecond line",
    "negative": "worst quality",
    "seed": 2**62 + 1,
    "height": 64,
    "width": 48,
    "solver": "euler",
    "schedule": "linear",
    "steps": 28,
    "nfe": 28,
    "cfg": 4.5,
    "shift": 3.0,
    "model": {"name": "sd35", "flavour": "tiny"},
    "animeflow": "0.1.0",
}


def picture(seed: int = 0, h: int = 64, w: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_pixels_and_recipe_come_back_equal(tmp_path):
    path = png.save(tmp_path / "folder" / "a.png", picture(), RECIPE)
    assert png.read_recipe(path) == RECIPE
    assert np.array_equal(np.asarray(Image.open(path)), picture())
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]  # nothing is left beside it


def test_other_programs_find_their_three_lines(tmp_path):
    with Image.open(png.save(tmp_path / "a.png", picture(), RECIPE)) as opened:
        text = opened.text["parameters"]
    assert text.startswith(RECIPE["prompt"] + "\nNegative prompt: worst quality\n")
    settings = dict(part.split(": ") for part in text.splitlines()[-1].split(", "))
    assert settings["Seed"] == str(2**62 + 1)
    assert settings["Size"] == "48x64"  # width x height there
    assert settings["Steps"] == "28"
    assert settings["CFG scale"] == "4.5"
    assert settings["Sampler"] == "Euler"
    assert settings["Model"] == "sd35 tiny"


@pytest.mark.parametrize(
    ("solver", "schedule", "words"),
    [
        ("er_sde", "beta", {"Sampler": "ER SDE", "Schedule type": "Beta", "Eta": "0.5"}),
        ("euler_ancestral", "simple", {"Sampler": "Euler a", "Schedule type": "Simple", "Eta": "0.5"}),
        ("dpmpp_2m_sde", "karras", {"Sampler": "DPM++ 2M SDE", "Schedule type": "Karras", "Eta": "0.5"}),
        ("dopri5", "beta57", {"Sampler": "dopri5", "Schedule type": "beta57"}),  # names nobody else has a word for
    ],
)
def test_other_programs_read_their_own_words(solver, schedule, words):
    eta = {"eta": 0.5} if "Eta" in words else {}
    last = png.parameters(RECIPE | {"solver": solver, "schedule": schedule} | eta).splitlines()[-1]
    settings = dict(part.split(": ") for part in last.split(", "))
    assert settings.items() >= words.items()
    assert ("Eta" in settings) == ("Eta" in words)


def test_equal_samples_are_equal_files(tmp_path):
    one, two = (png.save(tmp_path / name, picture(), RECIPE) for name in ("a.png", "b.png"))
    assert one.read_bytes() == two.read_bytes()


def test_a_picture_without_recipe_is_told_apart_from_no_picture(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "bare.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(DataError, match="no recipe"):
        png.read_recipe(tmp_path / "bare.png")
    with pytest.raises(DataError, match="not a readable picture"):
        png.read_recipe(tmp_path / "text.png")
    with pytest.raises(DataError, match="not a readable picture"):
        png.read_recipe(tmp_path / "absent.png")


def test_sheet_holds_every_picture_and_leaves_holes_empty():
    rows = [[picture(1), picture(2)], [picture(3), None]]
    plain = contact_sheet(rows, cell=64)
    for i, row in enumerate(rows):
        for j, pixels in enumerate(row):
            y, x = 16 + i * 72, 16 + j * 72 + 8  # 48 wide in a cell of 64
            if pixels is not None:
                assert np.array_equal(plain[y : y + 64, x : x + 48], pixels)
    assert len(np.unique(plain[-80:, -80:].reshape(-1, 3), axis=0)) == 1


def test_labels_and_title_take_room_and_leave_ink():
    rows = [[picture(1), picture(2)]]
    plain = contact_sheet(rows, cell=64)
    labelled = contact_sheet(
        rows,
        cell=64,
        row_labels=["1girl, blue hair, " * 30],
        column_labels=["seed 1", "seed 2"],
        title="run after 4,000 images",
    )
    assert labelled.shape[0] > plain.shape[0]
    assert labelled.shape[1] > plain.shape[1]
    assert int((labelled[:, :70] < 100).sum()) > 100
    small = contact_sheet([[picture(1, 16, 16)]], cell=64)
    assert np.array_equal(small[16:80:4, 16:80:4], picture(1, 16, 16))  # enlarged by whole pixels


def test_a_name_stands_below_its_picture():
    rows = [[picture(1)], [picture(2), picture(3)]]
    plain = contact_sheet(rows, cell=64)
    named = contact_sheet(rows, cell=64, cell_labels=[["a.png"], ["b.png", "c.png resized"]])
    assert named.shape[0] > plain.shape[0] and named.shape[1] == plain.shape[1]
    tall = named.shape[0] - plain.shape[0]
    below = named[16 + 64 : 16 + 64 + tall // 2]
    assert (below[:, 16:80] < 100).any() and not (below[:, 88:152] < 100).any()
    with pytest.raises(ConfigError, match="cell labels"):
        contact_sheet(rows, cell=64, cell_labels=[["a.png"], ["b.png"]])


def test_labels_that_do_not_fit_the_pictures_are_an_error():
    with pytest.raises(ConfigError, match="2 row labels for 1 row"):
        contact_sheet([[picture()]], row_labels=["a", "b"])
    with pytest.raises(ConfigError, match="no pictures"):
        contact_sheet([])
