"""The cost of cataloguing a picture is the sum of its parts, and the projection is that sum times four million."""

from __future__ import annotations

import pytest

from animeflow.bench.screen import SET, measure


def test_the_projection_follows_from_the_parts():
    found = measure(count=1, sizes={"jpeg, small": (96, 64), "png, small": (64, 64)}, rounds=1)
    for kind in found["kinds"].values():
        parts = dict(kind["milliseconds"])
        total = parts.pop("all")
        assert set(parts) == {"sha256", "decode", "fingerprint", "signs", "measures"}
        assert total == pytest.approx(sum(parts.values()), abs=0.02) and min(parts.values()) >= 0
        assert kind["core_hours_of_4M"] == pytest.approx(SET * total / 3.6e6, abs=0.06)
