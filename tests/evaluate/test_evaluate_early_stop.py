"""The hint finds the lowest point, calls no wobble a rise, and says nothing of curves without a shape."""

from __future__ import annotations

import json
import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_on_disk import write_run

from animeflow.evaluate.early_stop import ENOUGH, early_stop, hint, middle_loss
from animeflow.evaluate.report import write_report


def curve(losses, *, every=100):
    return [{"images": k * every, "step": k, "val/loss_mid": loss} for k, loss in enumerate(losses)]


def valley(count, best, *, depth=0.3, rise=0.002, noise=0.0, seed=0):
    """Falls like a training, then rises from point `best` on."""
    draws = random.Random(seed)
    return [
        1.0 - depth * (1 - math.exp(-3 * min(k, best) / max(1, best)))
        + rise * max(0, k - best) + noise * draws.gauss(0, 1)
        for k in range(count)
    ]  # fmt: skip


@given(count=st.integers(6, 30), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_lowest_point_is_found_and_a_rise_from_it_is_called_one(count, data):
    best = data.draw(st.integers(2, count - 4))
    found = early_stop(curve(valley(count, best, rise=0.02)))
    assert found.best_images == best * 100 and found.last_images == (count - 1) * 100
    assert found.overfits and found.rise > 0 and found.flat_from is None
    assert f"{best * 100:,} images" in found.sentence and f"train.images={best * 100}" in found.advice


@given(count=st.integers(3, 30), share=st.floats(0.05, 0.5))
@settings(max_examples=60, deadline=None)
def test_a_curve_that_falls_to_its_end_is_never_told_to_stop(count, share):
    found = early_stop(curve([1 - share * k / count for k in range(count)]))
    assert found.best_images == found.last_images and not found.overfits and found.rise == 0
    assert found.flat_from is None and "still falling" in found.sentence


def test_wobble_is_seldom_mistaken_and_a_real_rise_seldom_missed():
    def told(rise):
        runs = [early_stop(curve(valley(20, 8, rise=rise, noise=0.003, seed=seed))) for seed in range(200)]
        return sum(run.overfits for run in runs) / len(runs)

    assert told(0.0) < 0.2  # level from its lowest point on
    assert told(-0.004) < 0.05  # still falling
    assert told(0.004) > 0.95  # 12 deviations in the end


@given(scale=st.floats(0.1, 10), shift=st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_the_verdict_on_a_rise_does_not_depend_on_the_unit_of_the_loss(scale, shift):
    losses = valley(12, 6, rise=0.02, noise=0.001, seed=3)
    plain, scaled = early_stop(curve(losses)), early_stop(curve([scale * loss for loss in losses]))
    assert scaled.overfits == plain.overfits and scaled.best_images == plain.best_images
    assert scaled.rise == pytest.approx(plain.rise)
    assert scaled.wobble == pytest.approx(scale * plain.wobble)


def test_a_level_end_says_from_where():
    losses = [1.0, 0.9, 0.8, 0.7, *[0.7 - 1e-5 * k for k in range(12)]]
    found = early_stop(curve(losses))
    assert found.flat_from == 300 and not found.overfits
    assert "stopped falling at about 300 images" in found.sentence


@pytest.mark.parametrize("count", range(ENOUGH))
def test_two_points_have_no_shape(count):
    assert early_stop(curve([1.0] * count)) is None


def test_lines_without_the_figure_read_it_off_the_times_that_are_there():
    line = {"images": 1, "val/loss": 9.0, "val/loss_t0.100": 5.0, "val/loss_t0.300": 1.0, "val/loss_t0.550": 2.0}
    line |= {"val/loss_t0.800": 3.0, "val/loss_t0.900": 50.0, "val/loss_bucket12x12": 70.0}
    assert middle_loss(line) == pytest.approx(2.0)
    assert middle_loss(line | {"val/loss_mid": 0.5}) == 0.5
    assert middle_loss({"images": 1, "train/loss": 1.0}) is None
    assert middle_loss({"images": 1, "val/loss_mid": float("nan")}) is None
    assert middle_loss({"images": 1, "val/loss_t0.500": float("nan")}) is None


def test_a_resumed_run_counts_a_point_once():
    lines = curve([1.0, 0.9, 0.8, 0.7])
    again = [*lines, {"images": 200, "val/loss_mid": 0.6}, {"images": 250, "train/loss": 1.0}]
    found = early_stop(again)
    assert found.points == ((0, 1.0), (100, 0.9), (200, 0.6), (300, 0.7))


def test_the_page_marks_the_place(tmp_path):
    write_run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text("\n".join(line for line in lines if "val/loss" not in line) + "\n")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        for line in curve(valley(12, 5, rise=0.02), every=2000):
            file.write(json.dumps(line) + "\n")
    assert hint(tmp_path).startswith("the held-out loss was lowest at 10,000 images")
    page = write_report(tmp_path).read_text()
    text = re.sub(r"<[^>]+>", " ", page)
    assert "The held-out loss was lowest at 10,000 images" in text and "animeflow ema" in text
    assert re.search(r"lowest: 0\.71\d*", text) and 'class="chance"' in page
