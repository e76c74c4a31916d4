"""What a set does with pictures that a generator made, and with those of which nothing is known, unless somebody says otherwise."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from animeflow.app.cli import execute
from animeflow.app.compose import compose
from animeflow.app.verbs import catalogue, shard
from animeflow.core.errors import DataError

PARAMETERS = "1girl, smile\nNegative prompt: lowres\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 112x112"


def fill(folder: Path, *, plain: int, ai: int = 0) -> Path:
    """Pictures; the last `ai` of them bear a generator's text."""
    folder.mkdir(parents=True)
    for i in range(plain + ai):
        said = PngInfo()
        if i >= plain:
            said.add_text("parameters", PARAMETERS)
        pixels = np.random.default_rng(i).integers(0, 255, (112, 112, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png", pnginfo=said)
        (folder / f"{i:02d}.txt").write_text("1girl, smile")
    return folder


def words(folder: Path, *more: str) -> list[str]:
    """Of a set that is catalogued."""
    said = ["experiment=pictures_tiny", f"catalogue.root={folder}", f"set={folder.parent / folder.name}_set", "catalogue.workers=0",
            "data.shard.workers=0", "data.shard.max_upscale=50", "data.shard.min_side=0", *more]  # fmt: skip
    catalogue.collect(compose(said))
    return said


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.tar"))}


def test_what_a_generator_made_is_out_until_it_is_allowed(tmp_path: Path) -> None:
    plain, mixed = words(fill(tmp_path / "plain", plain=4)), words(fill(tmp_path / "mixed", plain=4, ai=3))
    without, kept = shard.cut(compose(plain)), shard.cut(compose(mixed))
    assert "curate" not in without.config, "a set without them is what it was before they were forbidden"
    assert kept.config["curate"]["counts"] == {
        "origin.ai": {"dropped": 3, "kept": 0},
        "rest": {"dropped": 0, "kept": 4},
    }
    assert tars(tmp_path / "plain_set") == tars(tmp_path / "mixed_set") != {}
    allowed = shard.cut(compose([*mixed, "curate.provenance.ai=allow"]))
    assert allowed.found == 7 and allowed.config["curate"]["query"]["provenance"]["ai"] == "allow"


def test_a_set_of_nothing_else_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = words(fill(tmp_path / "all", plain=0, ai=3))
    with pytest.raises(DataError, match="no picture") as caught:
        shard.cut(compose(said))
    assert "origin.ai 3" in str(caught.value) and "curate.provenance.ai=allow" in str(caught.value)
    assert execute("certify", said) == 1
    told = capsys.readouterr()
    assert "0 of 0 pictures" in told.out and "the set has no picture" in told.err
    allowed = [*said, "curate.provenance.ai=allow"]
    assert execute("certify", allowed) == 0 and "3 of 3 pictures are known to be synthetic" in capsys.readouterr().out


def test_certify_fails_on_unknown_origins_and_shards_count_them(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("animeflow.core.log.setup", lambda: None)  # its handler would keep the lines from this test
    caplog.set_level(logging.INFO, logger="animeflow")
    said, statement = words(fill(tmp_path / "mine", plain=3)), tmp_path / "mine_set" / "catalogue" / "statement.json"
    assert execute("certify", said) == 1
    told = capsys.readouterr()
    assert "3 are of unknown origin" in told.out and not statement.exists()
    assert "3 of 3 pictures are of unknown origin" in told.err
    for part in ("where: curate.require.origin", "decide --origin", "curate.require.origin=false"):
        assert part in told.err
    assert shard.cut(compose(said)).found == 3
    assert [line for line in caplog.messages if "3 of 3 pictures are of unknown origin" in line and "certify" in line]
    caplog.clear()

    nobody = [*said, "curate.require.origin=false"]
    assert execute("certify", nobody) == 0 and statement.exists()
    assert shard.cut(compose(nobody)).found == 3 and not [line for line in caplog.messages if "unknown" in line]
    both = [*said, "curate.require.origin=true"]
    with pytest.raises(DataError, match="3 of 3 pictures are of unknown origin"):
        shard.cut(compose(both))
    capsys.readouterr()
    assert execute("certify", both, json=True) == 1
    assert json.loads(capsys.readouterr().out)["missing"] == {"origin": 3}
    assert execute("certify", [*said, "curate.require.origin=certfy"]) == 2
    assert "did you mean 'certify'" in capsys.readouterr().err


def test_a_set_whose_origins_somebody_states_is_certified(tmp_path: Path) -> None:
    said = words(fill(tmp_path / "mine", plain=3), "+catalogue.source.origin=human")
    assert execute("certify", said) == 0
