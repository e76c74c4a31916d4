"""Messages hidden in the colours are read from pictures that an encoder written here marked, and from no others."""

from __future__ import annotations

import io
import math

import cv2
import numpy as np
import pytest
from PIL import Image

from animeflow.image.decode import decode
from animeflow.image.evidence import invisible
from animeflow.image.evidence.invisible import MESSAGES, Message, blocks, chance, decoded
from animeflow.image.evidence.screen import screen
from animeflow.toonworld.dataset import World

BY_LENGTH = {len(message.bits): message for message in MESSAGES}


def picture(height: int = 320, width: int = 360, *, seed: int = 0) -> np.ndarray:
    """Soft colours with coarse grain, far from black and white: where nothing stands out of its block, a mark does not hold."""
    rng = np.random.default_rng(seed)
    soft = cv2.resize(rng.uniform(80, 170, (6, 6, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = np.kron(rng.normal(0, 22, (height // 2, width // 2, 3)), np.ones((2, 2, 1)))
    return np.clip(soft + grain, 0, 255).round().astype(np.uint8)


def marked(pixels: np.ndarray, bits: tuple[int, ...], *, floating: bool) -> np.ndarray:
    """By the words of the scheme, in floating numbers: Haar's low band of U, one value of each block moved, and back."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    u = 0.492 * (blue - y) + (0.5 if floating else 128)
    low = (u[::2, ::2] + u[1::2, ::2] + u[::2, 1::2] + u[1::2, 1::2]) / 2
    moved, number = low.copy(), 0
    for i in range(low.shape[0] // 4):
        for j in range(low.shape[1] // 4):
            block = moved[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            at = np.unravel_index(1 + int(np.argmax(np.abs(block.ravel()[1:]))), (4, 4))
            size = (abs(block[at]) // 36 + 0.25 + 0.5 * bits[number % len(bits)]) * 36
            block[at] = -size if block[at] < 0 else size
            number += 1
    u = u + np.kron((moved - low) / 2, np.ones((2, 2)))
    blue = (u - (0.5 if floating else 128)) / 0.492 + y
    v = 0.877 * (red - y)
    red = v / 0.877 + y
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.stack([red, green, blue], -1).round(), 0, 255).astype(np.uint8)


def saved(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def words(data: bytes) -> list[str]:
    return [sign.word for sign in screen(data, decode(data))]


@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize("length", [32, 46, 48, 64, 136, 224])
def test_a_message_is_read_from_the_pixels_alone(length: int, floating: bool):
    message = BY_LENGTH[length]
    pixels = marked(picture(seed=length), message.bits, floating=floating)
    assert words(saved(pixels)) == [f"certain ai invisible_watermark {message.tool}"]
    good = saved(pixels, "JPEG", quality=95, subsampling=0)
    assert words(good) == [f"certain ai invisible_watermark {message.tool}"]


def test_other_messages_other_places_and_small_pictures_say_nothing():
    rng = np.random.default_rng(9)
    other = marked(picture(), tuple(rng.integers(0, 2, 48).tolist()), floating=True)
    assert words(saved(other)) == []
    xl = marked(picture(), BY_LENGTH[48].bits, floating=True)
    assert words(saved(xl[8:])) == []  # a row of blocks less: every bit stands at another place
    assert words(saved(np.asarray(Image.fromarray(xl).resize((300, 260))))) == []
    assert blocks(xl[:255, :256]) == () and blocks(np.zeros((4, 40_000, 3), np.uint8)) == ()


def test_drawings_and_flat_pictures_hold_no_message():
    world = World(seed=3, sizes=((256, 256), (256, 320)))
    for uid in range(12):
        assert invisible.invisible(decode(saved(world.drawing(uid).pixels))) == []
    for level in range(0, 256, 17):
        flat = np.full((256, 256, 3), (255 - level, 90, level), np.uint8)
        assert invisible.invisible(decode(saved(flat))) == [], level


def test_wrong_bits_are_borne_as_far_as_the_chance_of_an_accident_allows():
    for message in MESSAGES:
        length, errors = len(message.bits), message.errors
        exact = sum(math.comb(length, k) for k in range(errors + 1)) / 2**length
        assert chance(message) == pytest.approx(exact)
        one_more = exact + math.comb(length, errors + 1) / 2**length
        assert errors == 0 or exact <= invisible.CHANCE < one_more
    assert BY_LENGTH[32].errors == 0 and chance(BY_LENGTH[32]) == 2.0**-32
    pixels = picture(seed=1)
    for wrong, found in ((BY_LENGTH[48].errors, True), (BY_LENGTH[48].errors + 2, False)):
        bits = tuple(bit ^ (k < wrong) for k, bit in enumerate(BY_LENGTH[48].bits))
        assert bool(words(saved(marked(pixels, bits, floating=False)))) is found


def test_votes_are_counted_by_their_place_in_the_message():
    rng = np.random.default_rng(2)
    votes = rng.random(1000) < 0.5
    for length in (7, 48, 1000):
        each = [votes[k::length].mean() * 255 > 127 for k in range(length)]
        assert np.array_equal(decoded(votes, length), each)
    assert decoded(votes, 1001) is None


def test_only_the_first_rows_of_a_large_picture_cost_time():
    assert [len(votes) for votes in blocks(np.zeros((9000, 1000, 3), np.uint8))] == [125 * 131] * 2
    assert [len(votes) for votes in blocks(np.zeros((1001, 77, 3), np.uint8))] == [9 * 125] * 2
    assert Message("x", (0,) * 48).errors == 1


def test_a_block_speaks_by_its_largest_value_but_the_first():
    low = np.full((4, 12), 5, np.float32)
    low[0, 0], low[2, 6], low[3, 11] = 30, 36 + 19, 36 + 17
    assert invisible._bits(low).tolist() == [False, True, False]
