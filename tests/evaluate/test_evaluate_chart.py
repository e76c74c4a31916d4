"""Charts put values where the scale says, break lines at gaps, and keep labels apart."""

from __future__ import annotations

import math
import re

import pytest

from animeflow.evaluate.chart import Bullet, Frame, Series, bullets, columns, lines, panels
from animeflow.evaluate.svg import Scale, log_ticks, nice_step, path, spread, ticks


def places(drawn: str, kind: str) -> list[tuple[float, float]]:
    d = re.search(rf'<path d="([^"]*)" class="{kind}"', drawn)[1]
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", d)]


def test_a_scale_is_affine_and_upside_down_on_paper():
    y = Scale(0.0, 2.0, 300.0, 100.0)
    assert [y(v) for v in (0.0, 0.5, 1.0, 2.0)] == [300.0, 250.0, 200.0, 100.0]


def test_a_logarithmic_scale_gives_equal_steps_to_equal_ratios():
    y = Scale(0.01, 100.0, 0.0, 400.0, log=True)
    assert [y(v) for v in (0.01, 0.1, 1.0, 100.0)] == pytest.approx([0, 100, 200, 400])


@pytest.mark.parametrize("bounds", [(1.0, 1.0, False), (0.0, 1.0, True), (2.0, 1.0, False)])
def test_impossible_scales_are_refused(bounds):
    low, high, log = bounds
    with pytest.raises(ValueError, match="no scale"):
        Scale(low, high, 0, 1, log=log)


def test_lines_map_values_exactly():
    frame = Frame(1000, 300, left=50, right=50, top=20, bottom=30)
    drawn = lines(
        [Series("a", [(0, 0.0), (50, 0.5), (100, 1.0)])],
        name="n",
        title="t",
        x_label="x",
        y_label="y",
        frame=frame,
        y_limits=(0.0, 1.0),
    )
    assert places(drawn, "line accent") == [(50, 270), (500, 145), (950, 20)]


def test_bars_have_the_height_of_their_values():
    frame = Frame(500, 240, left=50, right=10, top=20, bottom=20)
    drawn = columns([("a", 1.0), ("b", 2.0)], name="n", title="t", x_label="x", y_label="y", frame=frame)
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" class="bar', drawn)]
    assert heights == pytest.approx([200 / 2.2, 200 / 1.1], abs=0.01)


def test_bullets_share_one_scale_from_nothing_to_all():
    drawn = bullets([Bullet("a", 0.5, chance=0.25, other=0.75)], name="n", title="t", width=1000)
    track = float(re.search(r'width="([\d.]+)" height="[\d.]+" class="track"', drawn)[1])
    bar = float(re.search(r'width="([\d.]+)" height="[\d.]+" class="bar accent"', drawn)[1])
    left = float(re.search(r'<rect x="([\d.]+)"', drawn)[1])
    chance = float(re.search(r'<line x1="([\d.]+)"[^>]*class="chance"', drawn)[1])
    other = float(re.search(r'cx="([\d.]+)"', drawn)[1])
    assert [bar, chance - left, other - left] == pytest.approx([0.5 * track, 0.25 * track, 0.75 * track], abs=0.02)


def test_panels_share_their_axes():
    drawn = panels(
        [Series("a", [(0, 1.0), (10, 1.0)]), Series("b", [(0, 2.0), (10, 2.0)])],
        name="n",
        title="t",
        x_label="x",
        num_columns=2,
        y_limits=(0.0, 2.0),
    )
    first, second = (float(y) for y in re.findall(r'd="M[\d.]+ ([\d.]+)', drawn))
    floor = max(float(y) for y in re.findall(r'y1="([\d.]+)"', drawn))
    assert floor - second == pytest.approx(2 * (floor - first))


def test_gaps_in_the_data_are_gaps_in_the_line():
    x = y = Scale(0, 1, 0, 1)
    assert path([(0, 0.0), (0.5, None), (0.6, math.nan), (1, 1.0)], x, y) == "M0.00 0.00 M1.00 1.00"


def test_a_chart_without_values_is_refused():
    with pytest.raises(ValueError, match="no values"):
        lines([Series("a", [(0, None)])], name="n", title="t", x_label="x", y_label="y")


def test_ticks_are_round_and_inside():
    assert ticks(0, 24_000, 6) == [0, 5000, 10000, 15000, 20000]
    assert ticks(0.37, 1.02, 4) == [0.4, 0.6, 0.8, 1.0]
    assert log_ticks(0.4, 3.0) == [0.5, 1, 2]
    assert nice_step(0.9, 5) == 0.2


def test_labels_keep_apart_and_in_order():
    placed = spread([100.0, 101.0, 50.0, 102.0], 20)
    assert sorted(placed) == sorted(placed, key=lambda v: v)
    assert min(b - a for a, b in zip(sorted(placed), sorted(placed)[1:])) >= 20 - 1e-3
    assert placed[2] < placed[0] < placed[1] < placed[3]
