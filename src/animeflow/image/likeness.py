"""What two pictures are to each other: the same drawing again, a version of it, or strangers; and the numbers that decided.
Knows two pictures; knows no set, and asks no hash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from .alignment import Placement, View, by_features, placements
from .difference import BLOCK, Difference, Overlay, difference, lines, overlay
from .perceptual import OPAQUE
from .refinement import refined

VERSION = 3
"""Raise it when the same two pictures would get another verdict."""

DUPLICATE, VARIANT, UNRELATED = "duplicate", "variant", "unrelated"

SURE = 0.85  # of the lines agree, frame on frame
FEW = 8  # blocks with lines; a picture with fewer is flat
SPOT = 16  # pixels of the largest spot that recompression and resampling leave
NOISE = 0.004  # share of the area that they change
ODD = 6.0  # times that the least alike blocks may be farther off than others are
WHOLE = 0.95  # of a picture lies inside another: it is a crop of it
CROP_LEAST = 0.45  # of the larger picture that a crop shows; below, it is a detail and not the picture
FIGURE_LEAST = 0.45  # the same for a figure without its background
FIGURE_LINES = 0.65  # of a figure's lines are those of the other
BARE = 0.02  # of a picture is transparent where it was cut out
SAME_INK = 0.9  # of what either shows is shown by both
OVERLAP = 0.6  # of both pictures that a version has in common with the other
LINES = 0.84  # of the lines are those of the other: the same drawing in whatever colours
LOCAL = 0.11  # of the area changed at most: the same picture with another face
REWORKED, REWORKED_BLOCKS, REWORKED_FEATURES = 0.35, 300, 18
"""Share and number of the blocks with the same lines, and features that agree, of a drawing that was painted and lettered anew."""
REWORKED_SAME, REWORKED_CHANGED, REWORKED_OVERLAP = 0.2, 0.6, 0.69  # and of its area, at least, at most, at least
ELSEWHERE = 0.08  # of the frame's side that a corner must lie off
EXPRESSION = 0.04  # of the area changed at most, else more than a face was


@dataclass(frozen=True)
class Likeness:
    """Attributes:
    kind: duplicate, variant or unrelated.
    relation: pixels, reencoded, resized, crop, background, mirrored; expression, outfit, colour, background, reworked; unrelated.
    score: 0 to 1, how much of both is the same.
    alike, same, changed, largest: see `Difference`. cover: the smaller share of content that lies inside the other's frame.
    spot: where the largest change is, as shares of width and height of what both show.
    how: what aligned them: frame, content or features; `scale` and `support` of that.
    """

    kind: str
    relation: str
    score: float = 0.0
    alike: float = 0.0
    same: float = 0.0
    changed: float = 1.0
    largest: int = 0
    cover: float = 0.0
    spot: tuple[float, float] = (0.5, 0.5)
    how: str = ""
    scale: float = 1.0
    support: int = 0

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def likeness(a: View, b: View) -> Likeness:
    """Of two pictures whose bytes differ. The order does not matter, but for `scale` and `how`."""
    placed = _best(a, b)
    if placed is None:
        return Likeness(UNRELATED, UNRELATED)
    placement, over = placed
    both = difference(over.a, over.b, over.frame & (over.ink_a | over.ink_b))
    for other in _others(a, b, placement) if both.changed else ():
        onto = overlay(a, b, other)
        exact = difference(onto.a, onto.b, onto.frame & (onto.ink_a | onto.ink_b))
        if exact.changed < both.changed:
            placement, over, both = other, onto, exact
    found = _judged(a, b, placement, over, both)
    if found.kind != DUPLICATE and (figure := _figure(a, b, placement, over)) is not None:
        return figure
    return found


def in_mirror(a: View, b: View) -> Likeness:
    """The same, where b may be mirrored. What is only alike in the mirror is `mirrored`, whatever else was done to it."""
    plain = likeness(a, b)
    if plain.kind == DUPLICATE:
        return plain
    turned = likeness(a, b.mirrored())
    better = turned.kind == DUPLICATE or (turned.kind == VARIANT and plain.kind == UNRELATED)
    return replace(turned, relation="mirrored") if better else plain


def _best(a: View, b: View) -> tuple[Placement, Overlay] | None:
    """The placement under which most lines agree, refined."""
    best: tuple[float, Placement] | None = None
    for placement in placements(a, b):
        over = overlay(a, b, placement)
        if (over.frame & over.ink_a & over.ink_b).sum() < 4 * BLOCK * BLOCK:
            continue
        score, blocks = lines(over)
        if blocks < FEW:  # flat: only the plain placements mean something, and the first of them will do
            score = 0.5
        if best is None or score > best[0] + 0.02:  # the plainer one where they are equal
            best = score, placement
        if placement.how == "frame" and score > SURE:
            break  # as good as it gets: no need to look for features
    if best is None or best[0] < REWORKED - 0.05:
        return None
    placement = refined(best[1], overlay(a, b, best[1]))
    return placement, overlay(a, b, placement)


def _others(a: View, b: View, placement: Placement) -> Iterator[Placement]:
    """What may fit yet better: whole pixels, on which a crop lies that nobody resized; and features, where a crop of 95 % was laid
    frame on frame over its whole."""
    if (pixels := _to_pixels(placement)) is not None:
        yield pixels
    if placement.how == "frame" and a.source != b.source and (matched := by_features(a, b)) is not None:
        yield matched
        if (pixels := _to_pixels(matched)) is not None:
            yield pixels


def _to_pixels(placement: Placement) -> Placement | None:
    """The same on whole pixels, for pictures of one scale; None for others, and where it is so already."""
    if max(abs(placement.scale_x - 1), abs(placement.scale_y - 1)) > 0.01:
        return None
    found = replace(placement, scale_x=1.0, scale_y=1.0, x=float(round(placement.x)), y=float(round(placement.y)))
    return None if found == placement else found


def _judged(a: View, b: View, placement: Placement, over: Overlay, d: Difference) -> Likeness:
    less, more = sorted((over.covers_a, over.covers_b))

    def verdict(kind: str, relation: str) -> Likeness:
        score = d.same if kind == DUPLICATE else max(d.alike, d.same)
        return Likeness(
            *(kind, relation, round(score * less, 4), round(d.alike, 4), round(d.same, 4), round(d.changed, 5)),
            *(d.largest, round(less, 4), d.spot, placement.how, round(placement.scale_x, 5), placement.support),
        )

    clean = d.largest <= _spot(a, b) and d.changed <= NOISE and d.odd <= ODD
    if d.blocks < FEW:  # hardly a line: only the same flat picture is the same
        flat = clean and d.level < 3 and less > WHOLE and placement.how == "frame"
        return verdict(*((DUPLICATE, _size(a, b)) if flat else (UNRELATED, UNRELATED)))
    if clean and more >= WHOLE and less >= CROP_LEAST:
        return verdict(DUPLICATE, _size(a, b) if less >= 0.98 else "crop")
    if less < OVERLAP:
        return verdict(UNRELATED, UNRELATED)
    if d.alike >= LINES or (d.changed <= LOCAL and d.alike > 0.5):
        recoloured = d.alike >= LINES and d.changed > LOCAL
        return verdict(VARIANT, "colour" if recoloured else "expression" if d.changed <= EXPRESSION else "outfit")
    lined = d.alike >= REWORKED and d.alike * d.blocks >= REWORKED_BLOCKS and placement.support >= REWORKED_FEATURES
    painted = d.same >= REWORKED_SAME and d.changed <= REWORKED_CHANGED and less >= REWORKED_OVERLAP
    if lined and painted and _elsewhere(a, b, placement):
        return verdict(VARIANT, "reworked")
    return verdict(UNRELATED, UNRELATED)


def _figure(a: View, b: View, placement: Placement, over: Overlay) -> Likeness | None:
    """The same figure before other backgrounds, or before none: where one of the two is cut out by its alpha."""
    cut = [(over.solid_a, over.covers_a, over.covers_b, a, b), (over.solid_b, over.covers_b, over.covers_a, b, a)]
    for solid, inside, rest, view, other in cut:
        if view.alpha is None or inside < WHOLE or rest < FIGURE_LEAST:
            continue
        common, either = over.frame & over.ink_a & over.ink_b, over.frame & (over.ink_a | over.ink_b)
        if common.sum() > SAME_INK * either.sum():  # the same shape: its background is no news
            continue
        core = cv2.erode((solid & over.frame).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
        if core.sum() < 16 * BLOCK * BLOCK:
            continue
        d = difference(over.a, over.b, core)
        if d.blocks < 16 or d.alike < FIGURE_LINES:
            continue
        clean = d.largest <= _spot(a, b) and d.changed <= NOISE and d.odd <= ODD
        if not clean and d.changed > LOCAL:
            continue
        return Likeness(
            kind=DUPLICATE if clean and not _cut_out(other) else VARIANT,
            relation="background",
            score=round(max(d.same, d.alike) * inside, 4),
            alike=round(d.alike, 4),
            same=round(d.same, 4),
            changed=round(d.changed, 5),
            largest=d.largest,
            cover=round(rest, 4),
            spot=d.spot,
            how=placement.how,
            scale=round(placement.scale_x, 5),
            support=placement.support,
        )
    return None


def _cut_out(view: View) -> bool:
    """Whether it has no background itself: what it shows beside the figure is drawn, as a second figure."""
    return view.alpha is not None and float((view.alpha < OPAQUE).mean()) > BARE


def _elsewhere(a: View, b: View, placement: Placement) -> bool:
    """Whether a drawing lies at another place or scale of its frame. Pictures that share some lines at the very same place were
    made from one template (a face with other hair, a stage with other people); a drawing that was used again lies elsewhere."""
    (wide_a, high_a), (wide_b, high_b) = a.size, b.size
    corners = [
        (
            placement.scale_x * x * wide_a + placement.x - x * wide_b,
            placement.scale_y * y * high_a + placement.y - y * high_b,
        )
        for x, y in ((0, 0), (1, 1))
    ]
    return max(abs(off) / max(b.size) for corner in corners for off in corner) > ELSEWHERE


def _spot(a: View, b: View) -> float:
    """Pixels of the largest spot that may be noise. In a small picture a face is no larger than one."""
    return min(SPOT, max(min(*a.size, *b.size) / 32, 2))


def _size(a: View, b: View) -> str:
    return "reencoded" if a.source == b.source else "resized"
