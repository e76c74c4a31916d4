"""Benchmarks say what is so: every reader brought the same bytes, ratios come from the same round, and JSON holds it all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from animeflow.app.verbs import bench
from animeflow.bench import images, reader
from animeflow.bench.rounds import by_turns, median, ratio

TINY = {"count": 12, "shape": (4, 8, 8), "batch": 4, "rounds": 3}


def test_every_reader_brings_the_same_bytes_and_ratios_are_of_the_round(tmp_path: Path):
    found = json.loads(json.dumps(reader.measure(folder=tmp_path, **TINY)))
    assert {"memcpy", "ours", "ours, no hash", "ours, new memory", "webdataset", "safetensors"} <= set(found["readers"])
    assert found["same_bytes"] == dict.fromkeys(found["readers"], True)
    for facts in found["readers"].values():
        assert len(facts["rounds"]) == 3 and min(facts["rounds"]) > 0
        assert facts["times_memcpy"] > 0 and facts["times_webdataset"] > 0
    assert found["readers"]["memcpy"]["times_memcpy"] == found["readers"]["webdataset"]["times_webdataset"] == 1
    assert found["settings"]["latents"] == 12
    assert not list(tmp_path.iterdir()), "what was written for it is gone"


def test_a_reader_that_brings_other_bytes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    honest = reader.stock.stream_tars

    def flipped(tars: list[str]) -> Iterator:
        for number, item in enumerate(honest(tars)):
            yield item ^ 1 if number == 5 else item

    monkeypatch.setattr(reader.stock, "stream_tars", flipped)
    found = reader.measure(folder=tmp_path, **TINY)
    assert [name for name, same in found["same_bytes"].items() if not same] == ["webdataset"]


def test_the_clock_counts_each_way_by_turns_and_after_a_first_try():
    seen: list[str] = []
    now = [0.0]

    def way(name: str, seconds: float):
        def run() -> int:
            seen.append(name)
            now[0] += seconds * (1 + seen.count(name))  # slower with every round
            return 6

        return run

    rates = by_turns({"a": way("a", 1), "b": way("b", 3)}, rounds=2, clock=lambda: now[0])
    assert seen == ["a", "b"] * 3
    assert rates == {"a": [2.0, 1.5], "b": [pytest.approx(2 / 3), 0.5]}
    assert ratio(rates, "a", "b") == pytest.approx(3) and median(rates, "a") == 1.75


def test_images_compares_all_ways_of_both_kinds_with_inter_area():
    found = json.loads(json.dumps(images.measure(count=1, source=(250, 200), target=(120, 96), rounds=1)))
    for kind in ("jpeg", "png"):
        ways = found["kinds"][kind]["ways"]
        assert ways[images.BASE]["times_base"] == 1 and ways[images.BASE]["psnr_to_base"] is None
        assert min(way["times_base"] for way in ways.values()) > 0
        assert ways["cv2 + torch bilinear, antialiased"]["psnr_to_base"] > 30
        assert 20 < ways["Pillow + LANCZOS"]["psnr_to_base"] < 60
    # Of a lossless picture we make what OpenCV makes, so only the time may differ.
    assert found["kinds"]["png"]["ways"]["ours"]["psnr_to_base"] is None


def test_the_verb_prints_json_alone_and_writes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    asked = {}

    def run(config, *, against, rounds):
        asked.update(seed=config["seed"], against=against, rounds=rounds)
        return {"bench": "reader", "threads": torch.get_num_threads()}

    monkeypatch.setattr(reader, "run", run)
    bench.run(["seed=3"], kind="reader", rounds=2, out=str(tmp_path / "found.json"))
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "found.json").read_text())
    assert asked == {"seed": 3, "against": None, "rounds": 2}
    assert printed["machine"]["versions"]["torch"] == torch.__version__ and printed["threads"] == 1
