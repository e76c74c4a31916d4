"""What a user mistypes, forgets or has broken: one message that says what, where and what to do; exit code 2; no traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from animeflow.toonworld.draw import draw
from animeflow.toonworld.world import sample_prompt_scenes

Verb = Callable[..., str]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three whole pictures with their tags, and four files that are none."""
    folder = tmp_path_factory.mktemp("wrong") / "pictures"
    folder.mkdir()
    for number, scene in enumerate(sample_prompt_scenes(0, 3)):
        pixels = draw(scene, 128, 128, layers=False).pixels
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        (folder / f"{number}.txt").write_text("1girl, smile")
    whole = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.png").write_bytes(b"this is no picture")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    return folder


@pytest.fixture(scope="module")
def words(pictures: Path, animeflow: Verb) -> tuple[str, ...]:
    """The words of a run whose catalogue and shards are there, and nothing else."""
    folder = pictures.parent
    words = (
        "experiment=pictures_tiny", f"catalogue.root={pictures}", f"set={folder}/set", f"run={folder}/run", "catalogue.workers=0",
        "data.shard.workers=0", "train.threads=1",
    )  # fmt: skip
    for verb in ("catalogue", "shard"):
        animeflow(verb, *words)
    return words


def refusal(animeflow: Verb, verb: str, *words: str) -> str:
    """What a verb says when it refuses, after checking its form."""
    said = animeflow(verb, *words, code=2)
    assert "Traceback" not in said
    message = said[said.index("error: ") :]
    first, *rest = message.splitlines()
    assert len(first) > len("error: ") and rest, f"only one line: {message}"
    assert all(re.match(r"  (where:|why:  |do:   ) \S", line) for line in rest), message
    return message


def test_broken_pictures_are_listed_with_a_reason_and_stop_nothing(
    words: tuple[str, ...], animeflow: Verb, pictures: Path
) -> None:
    said = animeflow("catalogue", *words)
    assert "7 found = 0 added + 3 known + 4 rejected" in said
    rows = [json.loads(line) for line in (pictures.parent / "set/catalogue/rejected.jsonl").read_text().splitlines()]
    reasons = {Path(row["path"]).name: row["reason"] for row in rows}
    assert reasons == {
        "cut.png": "truncated", "empty.png": "empty", "words.png": "unknown_format", "notes.pdf": "unknown_format",
    }  # fmt: skip


def test_a_picture_that_vanished_is_rejected_and_the_rest_goes_on(
    words: tuple[str, ...], animeflow: Verb, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((128, 128, 3), 90 * number, np.uint8))
    own = (*words, f"catalogue.root={folder}", f"set={tmp_path}/set")
    animeflow("catalogue", *own)
    (folder / "1.png").unlink()
    assert "2 in = 1 written + 1 rejected" in animeflow("shard", *own)


@pytest.mark.parametrize(
    "verb, slip, says",
    [
        ("catalogue", "catalogue.root=nowhere", ["nowhere does not exist", "catalogue.root"]),
        ("catalogue", "catalogue.rot=x", ["did you mean 'catalogue.root'"]),
        ("catalogue", "catalogue=foldr", ["unknown catalogue 'foldr'", "did you mean 'folder'"]),
        ("catalogue", "catalogue.val_share=2", ["val_share=2 is not a share"]),
        ("shard", "set=nowhere", ["the catalogue is empty", "animeflow catalogue"]),
        ("shard", "data.bucket.budget=100", ["hold no bucket", "data.bucket"]),
        ("shard", "data.bucket.step=20", ["is not a multiple of 16", "data.bucket.step=16"]),
        ("shard", "data.bucket.kind=pixel", ["did you mean 'pixels'"]),
        ("shard", "data.bucket.budget=many", ["'many' is not a whole number", "data.bucket (pixels).budget"]),
        ("shard", "data.shard.min_side=4000", ["none of 3 pictures could be used"]),
        ("cache", "model.codec=nowhere", ["no codec in nowhere", "model.codec", "animeflow codec"]),
        ("cache", "set=nowhere", ["there is no set here", "nowhere", "set=..."]),
        ("train", "train.imagess=10", ["did you mean 'train.images'"]),
        ("train", "optim.lr=fast", ["'fast' is not a number", "optim (adamw).lr"]),
        ("train", "train.precision=fp16", ["fp16 is not offered", "bf16"]),
        ("train", "train.processes=8", ["1 processes were started, 8 expected"]),
        ("sample", "run=nowhere", ["no checkpoint", "nowhere", "animeflow train"]),
        ("sample", "set=nowhere", ["no checkpoint"]),
        ("sample", "sample.source=nowhere", ["nowhere does not exist", "sample.source"]),
        ("export", "run=nowhere", ["no checkpoint", "animeflow train"]),
        ("report", "run=nowhere", ["no numbers to show"]),
        ("plan", "data.loader.batch=7", ["7 images of a chunk", "use a micro-batch of 1 or 7;"]),
    ],
)
def test_a_slip_is_told_with_place_and_remedy(
    verb: str,
    slip: str,
    says: list[str],
    words: tuple[str, ...],
    animeflow: Verb,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = words if slip.startswith(("model.codec", "set=")) else (*words, "model.codec=null")
    message = refusal(animeflow, verb, *given, slip)
    assert all(part in message for part in says), message


@pytest.mark.parametrize(
    "slip, says",
    [
        ("model.weights=nowhere", ["nowhere", "model.weights"]),
        ("model.text=nowhere", ["no text encoders", "model.text"]),
        ("model.flavour=medim", ["did you mean 'medium'"]),
        ("model.t5_pad_policy=comfi", ["did you mean 'comfy'", "model.t5_pad_policy"]),
    ],
)
def test_a_wrong_model_is_told_before_anything_is_encoded(
    slip: str, says: list[str], words: tuple[str, ...], animeflow: Verb, pictures: Path
) -> None:
    message = refusal(animeflow, "cache", *words, "model.codec=null", slip)
    assert all(part in message for part in says), message
    assert not (pictures.parent / "set" / "cache").exists()


def test_training_without_a_cache_names_the_verb_that_makes_it(words: tuple[str, ...], animeflow: Verb) -> None:
    assert "animeflow cache" in refusal(animeflow, "train", *words, "model.codec=null")


def test_a_damaged_shard_stops_with_its_path(
    words: tuple[str, ...], animeflow: Verb, tmp_path: Path, pictures: Path
) -> None:
    own = (*words, f"set={tmp_path}/set", "model.codec=null")
    for verb in ("catalogue", "shard"):
        animeflow(verb, *own)
    tar = next((tmp_path / "set" / "shards").rglob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-512])
    message = refusal(animeflow, "cache", *own)
    assert str(tar) in message and "shard" in message
    animeflow("shard", *own)  # what the message tells to do
