"""Drawings: byte-reproducible, layers that add up, keypoints that sit on their figure, any size."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from animeflow.core.errors import ConfigError
from animeflow.toonworld.draw import draw
from animeflow.toonworld.variants import edit_pair
from animeflow.toonworld.words import ATTRIBUTES
from animeflow.toonworld.world import sample_scene

NINE = [
    (1024, 1024),
    (1152, 896),
    (896, 1152),
    (1216, 832),
    (832, 1216),
    (1344, 768),
    (768, 1344),
    (1536, 640),
    (640, 1536),
]


def composite(drawing):
    pixels = drawing.background.astype(np.float64)
    for k in drawing.depth_order:
        alpha = drawing.figures_rgba[k][..., 3:] / 255
        pixels = pixels * (1 - alpha) + drawing.figures_rgba[k][..., :3] * alpha
    return pixels


def test_bytes_are_the_same_in_another_process():
    code = (
        "import hashlib;from animeflow.toonworld.draw import draw;from animeflow.toonworld.world import sample_scene;"
        "print(hashlib.sha256(b''.join(draw(sample_scene(0,k),96,80).pixels.tobytes() for k in range(4))).hexdigest())"
    )
    here = hashlib.sha256(b"".join(draw(sample_scene(0, k), 96, 80).pixels.tobytes() for k in range(4))).hexdigest()
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert here == there


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("size", [(128, 128), (96, 160), (480, 320)])
def test_layers_add_up_to_the_picture(index, size):
    scene = sample_scene(11, index, count_weights={1 + index % 3: 1.0})
    drawing = draw(scene, *size)
    assert np.abs(composite(drawing) - drawing.pixels).max() <= 2
    assert np.array_equal(drawing.pixels, draw(scene, *size, layers=False).pixels)
    assert set(np.unique(drawing.depth)) == set(range(len(scene.figures) + 1))
    assert drawing.lines.shape == size
    assert 0.01 < (drawing.lines > 127).mean() < 0.4


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [(128, 128), (96, 128), (128, 96), (192, 80), (80, 192)])
def test_keypoints_sit_on_their_figure_and_go_from_left_to_right(count, size):
    for index in range(5):
        drawing = draw(sample_scene(12, index, count_weights={count: 1.0}), *size)
        for points, layer in zip(drawing.keypoints, drawing.figures_rgba, strict=True):
            for name, (x, y) in points.items():
                assert layer[int(y), int(x), 3] > 200, name
            assert points["right_eye"][0] < points["left_eye"][0]
        heads = [points["head"][0] for points in drawing.keypoints]
        assert heads == sorted(heads)


@pytest.mark.parametrize("pose, higher", [("left_arm_up", "left_hand"), ("right_arm_up", "right_hand")])
def test_the_raised_hand_is_the_named_one(pose, higher):
    pair = edit_pair(sample_scene(13, 0, count_weights={1: 1.0}).replace("pose", "arms_at_sides"), "pose", pose)
    down, up = pair.before.keypoints[0], pair.after.keypoints[0]
    lower = {"left_hand": "right_hand", "right_hand": "left_hand"}[higher]
    assert up[higher][1] < up["neck"][1] < up[lower][1] == down[lower][1]


@pytest.mark.parametrize("size", NINE)
def test_the_nine_sizes_of_a_megapixel(size):
    drawing = draw(sample_scene(14, 3, count_weights={2: 1.0}), *size, layers=False)
    assert drawing.pixels.shape == (*size, 3)
    assert all(0 <= x < size[1] and 0 <= y < size[0] for points in drawing.keypoints for x, y in points.values())


@pytest.mark.parametrize("size", [(96, 96), (128, 96), (96, 128), (1024, 1024)])
def test_a_solo_figure_fills_its_frame(size):
    scene = sample_scene(15, 0, count_weights={1: 1.0})
    alpha = draw(scene, *size).figures_rgba[0][..., 3] > 127
    assert np.ptp(np.flatnonzero(alpha.any(1))) > 0.8 * min(size)


@pytest.mark.parametrize("attribute, near", [("eye_color", "left_eye"), ("expression", "mouth"), ("outfit", "neck")])
def test_an_edit_changes_its_region_only(attribute, near):
    scene = sample_scene(16, 1, count_weights={1: 1.0})
    scene = scene.replace("pose", "arms_at_sides").replace("expression", "smile").replace("artist", "bold_brush")
    value = next(v for v in ATTRIBUTES[attribute] if v not in (getattr(scene.figures[0], attribute), "armor"))
    pair = edit_pair(scene, attribute, value, height=256, width=256, layers=True)
    changed = np.abs(pair.before.pixels.astype(int) - pair.after.pixels).max(2) > 0
    assert 0.001 < changed.mean() < 0.35
    assert np.array_equal(pair.before.background, pair.after.background)
    x, y = pair.before.keypoints[0][near]
    rows, columns = np.nonzero(changed)
    assert np.hypot(rows - y, columns - x).min() < 30
    head_top = pair.before.keypoints[0]["head"][1] - 0.2 * 256
    assert rows.min() > head_top


def test_every_value_changes_the_picture():
    scene = sample_scene(17, 0, count_weights={1: 1.0}, named_share=0.0)
    scene = scene.replace("expression", "smile").replace("lighting", "day")
    for attribute, values in ATTRIBUTES.items():
        if attribute == "count":
            continue
        pictures = {draw(scene.replace(attribute, v), 96, 96, layers=False).pixels.tobytes() for v in values}
        assert len(pictures) == len(values), attribute


def test_light_decides_how_bright_a_picture_is():
    means = {}
    for light in ATTRIBUTES["lighting"]:
        scenes = [dataclasses.replace(sample_scene(18, k), lighting=light) for k in range(8)]
        means[light] = np.mean([draw(scene, 64, 64, layers=False).pixels.mean() for scene in scenes])
    assert means["night"] < 85 < means["sunset"] < means["day"] < 185 < means["overexposed"]


def test_an_impossible_size_is_refused():
    with pytest.raises(ConfigError, match="16x16"):
        draw(sample_scene(0, 0), 16, 16)
