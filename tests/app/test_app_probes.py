"""The questions at the end of a run: asked once, of the same scenes and seeds, written down, and shown on the page."""

import csv
import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest

from animeflow.app.bases import tiny_base, tiny_oracle
from animeflow.app.compose import compose
from animeflow.app.probes import Languages, Official, probes
from animeflow.app.wiring import family
from animeflow.core.errors import ConfigError
from animeflow.evaluate.report import write_report
from animeflow.text.database import TagDatabase
from animeflow.text.importers.build import build
from animeflow.toonworld.describe import split, vocabulary
from animeflow.toonworld.languages import LANGUAGES
from animeflow.toonworld.words import ATTRIBUTES

WORDS = Path(str(resources.files("animeflow.toonworld").joinpath("tag_words.csv")))


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("words") / "tags.db"
    build([WORDS], out)
    return out


def config(database: Path, *words: str):
    given = [f"text.database={database}", f"evaluate.oracle={tiny_oracle()}", f"model.weights={tiny_base('sd35')}"]
    small = [
        "evaluate.prompts=2",
        "evaluate.steps=1",
        "evaluate.cfg=1.0",
        "model.codec=null",
        "model.clip_length=77",
        "model.t5_length=77",
    ]
    return compose(["experiment=toonworld_tiny", *given, *small, *words])


def trainer(backbone, *, finished: bool):
    parallel = SimpleNamespace(asks_for_hooks=True, is_main=True)
    return SimpleNamespace(
        finished=finished, parallel=parallel, learner=backbone, progress=SimpleNamespace(images_seen=7)
    )


def test_both_are_asked_at_the_end_alone_and_shown(database, tmp_path):
    settings = config(database, "evaluate.languages=[ja,es]", "evaluate.official=2")
    fam = family(settings)
    backbone = fam.backbone()
    hooks = probes(fam, settings, folder=tmp_path, height=96, width=96)
    assert [type(hook) for hook in hooks] == [Languages, Official]
    for hook in hooks:
        assert hook(trainer(backbone, finished=False)) == {} and not list(tmp_path.iterdir())
    figures = {name: value for hook in hooks for name, value in hook(trainer(backbone, finished=True)).items()}
    assert set(figures) == {
        *(f"languages/{name}" for name in ("en", "ja", "es")),
        "official/default",
        "official/followed",
    }
    found = json.loads((tmp_path / "languages.json").read_text())
    assert found["reference"] == "en" and "女の子" in found["prompts"]["ja"] and "1girl" in found["prompts"]["en"]
    assert (
        found["languages"]["en"]["missing"]
        == 0
        < found["languages"]["ja"]["missing"]
        < found["languages"]["ja"]["words"]
    )
    assert json.loads((tmp_path / "official.json").read_text())["default"]["asked"] == 2
    page = write_report(tmp_path).read_text()
    assert "Points below en" in page and "another artist: that one" in page and 'id="languages"' in page


def test_a_run_that_was_not_asked_has_neither(database, tmp_path):
    settings = config(database)
    assert probes(None, settings, folder=tmp_path, height=96, width=96) == []
    assert "Official styles" not in write_report(tmp_path).read_text()


def test_what_cannot_be_asked_is_said_before_the_run(database, tmp_path):
    where = {"folder": tmp_path, "height": 96, "width": 96}
    with pytest.raises(ConfigError, match="did you mean 'ja'") as error:
        probes(None, config(database, "evaluate.languages=[japanese]"), **where)
    assert error.value.where == "evaluate.languages"
    with pytest.raises(ConfigError, match="read by an oracle"):
        probes(None, config(database, "evaluate.official=4", "evaluate.oracle=null"), **where)
    with pytest.raises(ConfigError, match="database of tags"):
        probes(None, config(database, "evaluate.languages=[ja]", "text.database=null"), **where)


def test_the_drawn_world_s_words_are_those_of_its_sentences(database):
    """Every value has a word in every language, of words that its sentences use, and none is of two tags."""
    rows = list(csv.reader(line for line in WORDS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")))
    said = {row[0]: dict(zip(rows[0][2:], row[2:])) for row in rows[1:]}
    known, drawn = TagDatabase.open(database), set(vocabulary())
    silent = {"solo", "multiple_girls"}
    values = {value for name, all_ in ATTRIBUTES.items() if name not in ("artist", "character") for value in all_} - {
        "none"
    }
    assert set(said) == values | silent
    for name in sorted(values):
        for language, word in said[name].items():
            assert word and set(split(word)) <= drawn, (name, language)
            assert known.translations(name, language) == [word] or word == name
            phrase = LANGUAGES[language].phrases.get(name, word).replace("{color}", "").strip()
            assert set(split(phrase)) <= set(split(word)) | {"的", "の", "髪"}, (name, language, phrase)
    assert not list(known.ambiguities())
