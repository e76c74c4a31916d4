"""The verbs of tags and prompts, and prompts of other languages on their way into a picture."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from animeflow.app.cli import main
from animeflow.app.compose import compose
from animeflow.app.prompts import example_prompts, typed_prompts
from animeflow.app.tag_database import with_other_names
from animeflow.app.verbs import sample as verb
from animeflow.app.verbs.tags_lint import catalogue_tags
from animeflow.app.wiring import captions
from animeflow.core.errors import ConfigError
from animeflow.sample import generate, png
from animeflow.text.blocklist import Blocklist
from animeflow.text.database import TagDatabase
from animeflow.text.importers.build import build

SAMPLE = str(resources.files("animeflow.text").joinpath("sample_tags.csv"))
PROMPT = "女の子、(長い髪:1.2)、笑顔"


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("tags") / "tags.db"
    build([Path(SAMPLE)], out)
    return str(out)


def call(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.stdout


def test_the_verbs_answer_in_json(database, tmp_path) -> None:
    call("tags", "build", SAMPLE, "--out", str(tmp_path / "t.db"), "--licence", "mine")
    ambiguous = json.loads(call("tags", "ambiguous", "--database", str(tmp_path / "t.db"), "--json"))
    assert {"word": "rin", "class": 5, "tags": ["kaede_rin", "ringo_natsume"], "reviewed": False} in ambiguous
    shown = json.loads(call("tags", "show", "猫耳", "--database", database, "--json"))
    assert [tag["name"] for tag in shown["tags"]] == ["cat_ears"] and shown["tags"][0]["implies"] == ["animal_ears"]
    linted = json.loads(call("tags", "lint", "--database", database, "--json"))
    assert linted["tags"] == {"looked_at": 65, "blocked": 0, "faults": {}}
    read = json.loads(call("prompt", "normalise", PROMPT, f"text.database={database}", "--json"))
    assert (read["text"], read["language"]) == ("1girl, (long hair:1.2), smile", "ja")


def test_build_and_lint_tell_one_number_of_forbidden_words(tmp_path) -> None:
    """A forbidden tag, an alias and a translation of it, and an alias that another tag has too: each word once."""
    table, out = tmp_path / "mine.csv", str(tmp_path / "t.db")
    table.write_text(
        "tag,category,count,aliases,ja\nloli,general,9,some_alias|other_alias,悪い語|別の語\n"
        "hat,general,5,headgear|other_alias,帽子\n", encoding="utf-8",
    )  # fmt: skip
    report = build([table], Path(out))
    linted = json.loads(call("tags", "lint", "--database", out, "--json"))
    known = TagDatabase.open(out)
    words = ["loli", "some alias", "other alias", "悪い語", "別の語", "hat", "headgear", "帽子"]
    forbidden = [word for word in words if known.is_blocked(word)]
    assert len(forbidden) == 5 == report.blocked == linted["forbidden_words"]
    assert report.lines()[-2].endswith(": 5") and f"of the database: {report.lines()[-2]}" in call(
        "tags", "lint", "--database", out
    )


def test_the_verbs_answer_in_words(database) -> None:
    assert "class 2, another tag in another language: 2 left" in call("tags", "ambiguous", "--database", database)
    assert "cat_ears: general" in call("tags", "show", "orejas de gato", "--database", database)
    assert call("prompt", "normalise", PROMPT, f"text.database={database}").startswith(
        "1girl, (long hair:1.2), smile\n"
    )
    assert "looked at 65" in call("tags", "lint", "--database", database)


@pytest.mark.parametrize(("word", "what"), [("cat_earz", "did you mean 'cat_ears'"), ("loli", "forbidden")])
def test_a_word_that_is_not_known_and_one_that_is_not_shown(database, word, what) -> None:
    result = CliRunner().invoke(main, ["tags", "show", word, "--database", database])
    assert result.exit_code == 2 and what in result.stderr


def test_prompts_stay_as_they_are_unless_asked(database) -> None:
    words = ["experiment=toonworld_tiny", f"sample.prompts=['{PROMPT}']"]
    assert example_prompts(compose(words), 1) == [PROMPT]
    config = compose([*words, "sample.language=auto", f"text.database={database}"])
    assert example_prompts(config, 1) == ["1girl, (long hair:1.2), smile"] and typed_prompts(config, 1) == [PROMPT]
    with pytest.raises(ConfigError, match="needs a database of tags"):
        example_prompts(compose([*words, "sample.language=ja"]), 1)
    drawn = compose(["experiment=toonworld_tiny", "sample.language=auto", f"text.database={database}"])
    assert example_prompts(drawn, 3) == typed_prompts(drawn, 3)  # English already


def test_a_picture_records_its_prompt_as_typed_and_as_read(database, tmp_path, monkeypatch) -> None:
    saved = {}

    def drawn(family, prompts, *, seeds, **_):
        pixels = np.zeros((4, 4, 3), np.uint8)
        return [generate.Sample(pixels, {"prompt": p, "seed": s}) for p in prompts for s in seeds]

    monkeypatch.setattr(generate, "generate", drawn)
    monkeypatch.setattr(png, "save", lambda path, pixels, recipe: saved.update({path.name: recipe}))
    net = SimpleNamespace(parameters=lambda: iter(()))
    defaults = SimpleNamespace(solver="euler", positive="")
    family = SimpleNamespace(defaults=defaults, backbone=lambda: net)
    monkeypatch.setattr(verb, "_weights", lambda *_: (family, {}))
    monkeypatch.setattr(verb, "newest_checkpoint", lambda _: None)
    words = ["experiment=toonworld_tiny", f"sample.prompts=['{PROMPT}','smile']", "sample.seeds=[3,4]"]
    words += ["sample.height=64", "sample.width=64", f"sample.out={tmp_path}"]
    verb.picture(compose([*words, "sample.language=ja", f"text.database={database}"]))
    assert saved["000_4.png"] == {
        "prompt": "1girl, (long hair:1.2), smile",
        "seed": 4,
        "typed": {"prompt": PROMPT, "language": "ja"},
    }
    assert saved["001_3.png"]["typed"] == {"prompt": "smile", "language": "ja"}
    verb.picture(compose(words))
    assert saved["000_4.png"] == {"prompt": PROMPT, "seed": 4}


def test_captions_and_their_address_are_the_same_without_a_database(database) -> None:
    config = compose(["experiment=toonworld_tiny"])
    assert config["text"]["database"] is None
    older = {**config, "text": {key: value for key, value in config["text"].items() if key != "database"}}
    assert captions(config).facts() == captions(older).facts() and "database" not in captions(config).facts()


def test_the_blocklist_knows_every_other_name(tmp_path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("tag,category,aliases,ja\nloli,general,other_bad,悪い名\nhat,general,cap,帽子\n", encoding="utf-8")
    build([rows], tmp_path / "tags.db")
    config = compose(["experiment=toonworld_tiny", f"text.database={tmp_path / 'tags.db'}"])
    found = with_other_names(Blocklist.default(), config)
    assert found.blocked(["other_bad", "悪い名", "cap", "帽子", "hat"]) == {"other_bad", "悪い名"}
    same = with_other_names(Blocklist.default(), compose(["experiment=toonworld_tiny"]))
    assert same is Blocklist.default()


def test_lint_of_a_set_counts_the_tags_of_its_pictures(tmp_path, monkeypatch) -> None:
    from animeflow.catalogue import table

    posts = [
        SimpleNamespace(tags={"general": ["hat", "smile"], "artist": ["kei"]}),
        SimpleNamespace(tags={"general": ["hat"]}),
    ]
    monkeypatch.setattr(table, "Catalogue", lambda folder: SimpleNamespace(iterate=lambda: iter(posts)))
    config = compose(["experiment=toonworld_tiny", f"set={tmp_path}"])
    with pytest.raises(ConfigError, match="no catalogue"):
        list(catalogue_tags(config))
    (tmp_path / "catalogue").mkdir()
    assert list(catalogue_tags(config)) == [("hat", "general", 2), ("smile", "general", 1), ("kei", "artist", 1)]
