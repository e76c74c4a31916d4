"""Copies are duplicates, an expression is a variant and never a duplicate, another scene is neither."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from animeflow.image.alignment import View
from animeflow.image.decode import decode
from animeflow.image.encode import encode_png
from animeflow.image.likeness import DUPLICATE, UNRELATED, VARIANT, in_mirror, likeness
from animeflow.image.picture import Picture
from animeflow.toonworld.dataset import World
from animeflow.toonworld.draw import draw
from animeflow.toonworld.variants import edit_pair
from animeflow.toonworld.words import ATTRIBUTES

WORLD = World(seed=11, sizes=((256, 256),))


def view(pixels: np.ndarray, alpha: np.ndarray | None = None) -> View:
    found = decode(encode_png(np.ascontiguousarray(pixels)))
    return View.of(Picture(found.pixels, found.facts, alpha))


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def webp(pixels: np.ndarray) -> np.ndarray:
    _, data = cv2.imencode(".webp", pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 75])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def resized(pixels: np.ndarray, scale: float) -> np.ndarray:
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


COPIES = {
    "jpeg60": (lambda p: jpeg(p, 60), "reencoded"),
    "jpeg95": (lambda p: jpeg(p, 95), "reencoded"),
    "webp": (webp, "reencoded"),
    "half": (lambda p: resized(p, 0.5), "resized"),
    "resized and saved": (lambda p: jpeg(resized(p, 0.8), 75), "resized"),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_a_duplicate(name):
    make, relation = COPIES[name]
    for index in range(3):
        pixels = WORLD.drawing(index).pixels
        found = likeness(view(pixels), view(make(pixels)))
        assert (found.kind, found.relation) == (DUPLICATE, relation), (index, found)


def test_a_crop_is_found_and_is_a_duplicate_nearly_always():
    found = []
    for index in range(6):
        pixels = WORLD.drawing(index).pixels
        top, left = 3 * index % 30, 5 * index % 30
        found.append(likeness(view(pixels), view(jpeg(pixels[top : top + 224, left : left + 226], 85))))
    assert all(one.kind != UNRELATED for one in found)
    assert sum(one.kind == DUPLICATE and one.relation == "crop" for one in found) >= 4


def test_a_changed_face_is_never_a_duplicate_even_after_recompression():
    kinds = []
    for index in range(5):
        scene = WORLD.scene(index)
        for value in ("smile", "open_mouth", "angry"):
            pair = edit_pair(scene, "expression", value, height=256, width=256)
            if pair.scene_before == pair.scene_after:
                continue
            kinds.append(likeness(view(pair.before.pixels), view(jpeg(pair.after.pixels, 80))).kind)
    assert len(kinds) > 8
    assert DUPLICATE not in kinds
    assert kinds.count(VARIANT) >= 0.9 * len(kinds)


def test_a_removed_background_is_a_duplicate_and_a_changed_face_on_it_is_not():
    pair = edit_pair(WORLD.scene(1), "expression", "angry", height=256, width=256)
    alpha = np.zeros((256, 256), np.uint8)
    cv2.ellipse(alpha, (128, 140), (92, 108), 0, 0, 360, 255, -1)
    cut = {
        k: np.where(alpha[..., None] > 0, p, 255)
        for k, p in (("same", pair.before.pixels), ("face", pair.after.pixels))
    }
    whole = view(jpeg(pair.before.pixels, 90))
    same = likeness(view(cut["same"], alpha), whole)
    assert (same.kind, same.relation) == (DUPLICATE, "background"), same
    assert likeness(view(cut["face"], alpha), whole).kind == VARIANT


def test_other_scenes_of_one_style_are_strangers():
    views = [view(WORLD.drawing(index).pixels) for index in range(7)]
    kinds = [likeness(a, b).kind for k, a in enumerate(views) for b in views[:k]]
    assert set(kinds) == {UNRELATED}


def test_the_order_of_the_two_does_not_matter():
    a, b = WORLD.drawing(2).pixels, resized(WORLD.drawing(2).pixels[10:230, 20:240], 0.7)
    one, two = likeness(view(a), view(b)), likeness(view(b), view(a))
    assert (one.kind, one.relation) == (two.kind, two.relation)
    assert one.scale * two.scale == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_crop_of_a_small_picture_has_no_difference_however_it_was_cut(cut: int):
    """What is measured around a pixel at the edge must not see paper beside a picture, nor half a pixel of shift."""
    world = World(seed=0, sizes=((96, 96), (112, 96)))
    for index in range(6):
        pixels = world.drawing(index).pixels
        found = likeness(view(pixels[cut:-cut, cut:-cut]), view(pixels))
        assert (found.kind, found.changed) == ("duplicate", 0.0), (index, found)


def test_a_changed_face_is_no_noise_in_a_small_picture():
    """Two figures of 96 pixels have faces of ten: less than what recompression leaves in a large picture."""
    world = World(seed=0, sizes=((96, 96),), count_weights={2: 1.0}, named_share=0.0)
    for index in range(8):
        scene = world.scene(index)
        faces = [face for face in ATTRIBUTES["expression"] if face != scene.figures[0].expression]
        changed = draw(scene.replace("expression", faces[index % len(faces)]), 96, 96).pixels
        assert likeness(view(world.drawing(index).pixels), view(changed)).kind == "variant", index


def test_a_mirrored_copy_is_a_duplicate_and_a_mirrored_version_is_none():
    for index in range(3):
        scene = WORLD.scene(index)
        pair = edit_pair(
            scene, "expression", "angry" if scene.figures[0].expression != "angry" else "smile", height=256, width=256
        )
        before, after = (drawing.pixels for drawing in (pair.before, pair.after))
        found = in_mirror(view(before), view(resized(jpeg(before[:, ::-1], 80), 0.8)))
        assert (found.kind, found.relation) == (DUPLICATE, "mirrored"), (index, found)
        found = in_mirror(view(before), view(after[:, ::-1]))
        assert (found.kind, found.relation) == (VARIANT, "mirrored"), (index, found)


def test_words_that_were_not_mirrored_with_the_picture_make_it_a_version():
    pixels = WORLD.drawing(1).pixels

    def lettered(picture: np.ndarray) -> np.ndarray:
        return cv2.putText(picture.copy(), "LOGO 7", (70, 120), cv2.FONT_HERSHEY_DUPLEX, 0.9, (250, 20, 20), 2)

    with_it = in_mirror(view(lettered(pixels)), view(lettered(pixels)[:, ::-1]))
    assert (with_it.kind, with_it.relation) == (DUPLICATE, "mirrored")
    upright = in_mirror(view(lettered(pixels)), view(lettered(pixels[:, ::-1])))
    assert (upright.kind, upright.relation) == (VARIANT, "mirrored")


def test_a_symmetric_drawing_is_what_it_is_without_a_mirror():
    """Its copy is a copy, its mirrored self as well, and a version with another face stays a version."""
    half = resized(WORLD.drawing(2).pixels, 0.7)
    whole = np.concatenate([half, half[:, ::-1]], 1)
    assert in_mirror(view(whole), view(jpeg(whole, 80))).relation == "reencoded"
    changed = whole.copy()
    cv2.circle(changed, (60, 60), 9, (250, 30, 30), -1)
    found = in_mirror(view(whole), view(changed))
    assert (found.kind, found.relation) == (VARIANT, "expression")


def test_a_mouth_of_a_few_pixels_in_a_large_figure_is_no_copy():
    """Fewer pixels change than recompression may change; but what recompression does it does everywhere."""
    for index in range(2):
        pixels = np.tile(World(seed=2, sizes=((192, 192),)).drawing(index).pixels, (4, 3, 1))
        changed = pixels.copy()
        changed[288:291, 292:300] = 255 - changed[288:291, 292:300]
        found = likeness(view(pixels), view(changed))
        assert (found.kind, found.relation) == (VARIANT, "expression") and found.largest <= 16, (index, found)
        assert likeness(view(pixels), view(jpeg(pixels, 75))).kind == DUPLICATE


def test_a_figure_that_was_taken_out_of_a_cut_out_pair_is_no_copy_of_the_pair():
    """Beside a figure without a background there is no background, but something drawn."""
    pixels = WORLD.drawing(1).pixels
    both = np.zeros(pixels.shape[:2], np.uint8)
    cv2.ellipse(both, (80, 128), (70, 120), 0, 0, 360, 255, -1)
    one = both.copy()
    cv2.ellipse(both, (210, 170), (38, 70), 0, 0, 360, 255, -1)
    pair, alone = (view(np.where(alpha[..., None] > 0, pixels, 255), alpha) for alpha in (both, one))
    assert likeness(pair, alone).kind != DUPLICATE
    assert likeness(view(pixels), alone).kind == DUPLICATE, "before its background it is one"
