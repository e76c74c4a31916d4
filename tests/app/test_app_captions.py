"""`animeflow captions preview`: the captions that a cache would hold, plain where nobody looks, and true figures."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from animeflow.app.cli import main
from animeflow.app.compose import compose
from animeflow.app.verbs import captions_preview
from animeflow.app.wiring import captions
from animeflow.catalogue.post import Post, uid_of
from animeflow.catalogue.table import Catalogue
from animeflow.core.files import sha256
from animeflow.text.caption import variants
from animeflow.text.tags import empty_tags


def post(number: int) -> Post:
    digest = sha256(str(number).encode())
    return Post(
        uid=uid_of(digest), sha256=digest, path=f"{number}.png", width=1700, height=900, bytes=1, format="PNG",
        tags=empty_tags() | {"general": ["1girl", "smile", f"hat_{number}"], "artist": ["kei"]},
        captions={"en": f"A girl in hat {number}."},
        rating="general", score=number, created_at="2024-01-01", source="test", source_id=str(number), url=None,
        origin="human", truth=None, split="train",
    )  # fmt: skip


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    table = Catalogue(folder / "catalogue")
    table.add(post(number) for number in range(120))
    table.commit()
    return folder


def preview(*words: str, count: int = 3) -> str:
    result = CliRunner().invoke(main, ["captions", "preview", "--n", str(count), *words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text encoders."""
    monkeypatch.setattr(captions_preview, "_tower", lambda config, *, load, folder: (None, "not counted"))


@pytest.mark.usefixtures("untold")
def test_it_prints_the_captions_that_a_cache_holds(catalogue: Path):
    said = preview(f"set={catalogue}", "text=anima", count=120)
    assert "\x1b" not in said, "no colour where there is no terminal"
    found = dict(re.findall(r"^([0-9a-f]{16})  .*\n(.*)$", said, re.MULTILINE))
    policy = captions(compose(["text=anima"]))
    for wanted in map(post, range(120)):
        first = variants(wanted.as_dict(), policy, count=1, seed=0, uid=wanted.uid)[0]
        assert found[f"{wanted.uid:016x}"] == first.text
    assert said == preview(f"set={catalogue}", "text=anima", count=120)
    assert "sections: trigger year period quality meta rating count" in said


def test_its_figures_are_those_of_its_captions(catalogue: Path):
    said = preview(f"set={catalogue}", "text=danbooru", "seed=3")
    policy = captions(compose(["text=danbooru"]))
    drawn = [c for n in range(120) for c in variants(post(n).as_dict(), policy, count=4, seed=3, uid=post(n).uid)]
    kinds = Counter(caption.kind for caption in drawn)
    assert "480 captions of 120 pictures" in said and len(re.findall(r"^[0-9a-f]{16}  ", said, re.MULTILINE)) == 3
    for kind, number in kinds.items():
        assert f"{kind} {number / 480:.1%}" in said
    assert "tokens of t5: " in said and "lose their end" in said


@pytest.mark.usefixtures("untold")
def test_what_is_missing_is_said_of_the_pictures_and_not_of_a_language(catalogue: Path, tmp_path: Path):
    table = Catalogue(tmp_path / "catalogue")
    table.add(replace(post(number), captions={} if number < 30 else post(number).captions) for number in range(120))
    table.commit()
    words = ["text=danbooru", "text.kinds={sentence: 1, tags: 0, tags+sentence: 0, sentence+tags: 0}"]
    said = preview(f"set={tmp_path}", *words, count=1)
    assert "a sentence was drawn and the picture has none, so tags alone: 25.0%" in said and "missing" not in said
    said = preview(f"set={catalogue}", *words, "text.languages={ja: 1, en: 0}", count=1)
    assert "so in English: ja 100.0%" in said and "tags alone" not in said
    assert "was drawn and" not in preview(f"set={catalogue}", *words, count=1)


@pytest.mark.usefixtures("untold")
def test_labels_are_ranked_among_what_is_seen_where_there_are_no_shards(catalogue: Path):
    said = preview(f"set={catalogue}", "text=anima", "text.quality=score", "text.kinds.sentence=0", count=120)
    assert "by rank among these 120 pictures" in said
    assert {"masterpiece", "worst quality", "score_9", "score_1"} <= set(re.split(r", |\. |\n", said))


@pytest.mark.usefixtures("untold")
def test_sections_have_a_colour_each_on_a_terminal(catalogue: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Console(force_terminal=True, color_system="standard", width=400)
    )
    monkeypatch.delenv("NO_COLOR", raising=False)
    captions_preview.run([f"set={catalogue}", "text=danbooru", "text.shuffle=0.0", "text.kinds.sentence=0"], count=1)
    said = capsys.readouterr().out
    pairs = set(re.findall(r"\x1b\[([0-9;]+)m([^\x1b]*)\x1b\[0m", said))
    for section, word in (("artist", "kei"), ("general", "smile"), ("count", "1girl"), ("rating", "general")):
        style = {code for code, text in pairs if text == section}
        assert style & {code for code, text in pairs if text == word}
    assert {code for code, text in pairs if text == "kei"}.isdisjoint(code for code, text in pairs if text == "smile")


def test_large_encoders_are_not_loaded_to_count_tokens(monkeypatch: pytest.MonkeyPatch):
    class Large:
        def sizes(self):
            from animeflow.model.protocol import PartSize

            return [PartSize("t5", 4_700_000_000, trainable=False), PartSize("codec", 10**9, trainable=False)]

        def text_tower(self):
            return "loaded"

    monkeypatch.setattr(captions_preview, "family", lambda config: Large())
    tower, why = captions_preview._tower({"model": {}}, load=False, folder=None)
    assert tower is None and why.startswith(
        "not counted: 4.7 B parameters of text encoders would be loaded; --tokens does"
    )
    assert captions_preview._tower({"model": {}}, load=True, folder=None)[0] == "loaded"


def test_it_says_which_tokenizer_counted_and_counts_with_one_that_is_given(catalogue: Path, tmp_path: Path):
    from animeflow.model.tiny_tokenizers import t5_tokenizer

    words = (f"set={catalogue}", "text=danbooru")
    own = preview(*words)
    assert "counted by the model's small stand-in" in own and "--tokenizer FOLDER" in own
    t5_tokenizer(["smile"], length=512).save_pretrained(tmp_path / "t5")
    given = preview(*words, "--tokenizer", str(tmp_path))
    assert f"counted by the tokenizers in {tmp_path}; clip_l, clip_g by a small stand-in" in given
    assert line(given, "clip_l") == line(own, "clip_l") and line(given, "t5") != line(own, "t5")
    result = CliRunner().invoke(main, ["captions", "preview", *words, "--tokenizer", str(catalogue)])
    assert result.exit_code == 2 and "there is no tokenizer" in result.output


def test_tokenizers_alone_count_for_a_large_model(tmp_path: Path):
    from animeflow.model.tiny_tokenizers import t5_tokenizer

    t5_tokenizer(["smile"], length=512).save_pretrained(tmp_path / "tokenizer_3")
    tower, who = captions_preview._tower(compose(["model=sd35_medium"]), load=False, folder=str(tmp_path))
    assert str(tmp_path) in who and tower.num_tokens("smile " * 5)["t5"] == (6, 6)


def line(said: str, encoder: str) -> str:
    return next(row for row in said.splitlines() if f"tokens of {encoder}:" in row)


def test_without_pictures_it_says_what_to_do(tmp_path: Path):
    result = CliRunner().invoke(main, ["captions", "preview", f"set={tmp_path}"])
    assert result.exit_code == 2 and "animeflow catalogue" in result.output
