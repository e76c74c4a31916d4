"""Which of several tags a word may stand for: only where the tags are one thing elsewhere too, and one is far more frequent."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from animeflow.app.cli import main
from animeflow.text.database import TagDatabase
from animeflow.text.importers.build import build

HEAD = "tag,category,count,aliases,es,fr,de,it\n"
ROWS = [
    "dress,general,5000,,vestido,robe longue,Kleid,abito",
    "gown,general,100,,vestido,robe longue,Kleid,veste",  # the same in three languages
    "cannon,general,5000,,cañón,canon,Kanone,cannone",
    "canyon,general,100,,cañón,gorge,Schlucht,gola",  # the same in one alone
    "shoes,general,5000,,calzado,souliers,Schuhe,scarpe",
    "sneakers,general,2000,,calzado,souliers,Schuhe,scarpe",  # too frequent beside it
    "hat,general,9000,,sombrero,chapeau,Hut,cappello",
    "sombrero,general,10,,sombrero mexicano,chapeau,Hut,cappello",  # the word is its own name
    "loli,general,1,,vestido prohibido,mot,Wort,parola",
    "child,general,900,,vestido prohibido,mot,Wort,parola",  # a word of a forbidden tag
    "rin,character,5000,,chica,fille,Frau,donna",
    "woman,general,100,,chica,fille,Frau,donna",  # a name
]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    table, out = tmp_path / "mine.csv", tmp_path / "t.db"
    table.write_text(HEAD + "\n".join(ROWS) + "\n", encoding="utf-8")
    build([table], out)
    return out


def test_only_words_of_tags_that_share_other_words_are_proposed(database):
    found = TagDatabase.open(database).proposals()
    assert {(each.tag, each.language, each.word) for each in found} >= {
        ("dress", "es", "vestido"),
        ("dress", "de", "Kleid"),
    }
    assert {each.tag for each in found} == {"dress", "hat"}  # of hat the words that are no tag's name
    assert "sombrero" not in {each.word for each in found}
    assert next(each for each in found if each.word == "vestido").others == (("gown", 100),)


def test_nothing_of_a_forbidden_tag_is_proposed(database):
    words = " ".join(each.word + each.tag for each in TagDatabase.open(database).proposals())
    assert "prohibido" not in words and "child" not in words and "loli" not in words


def test_a_person_settles_them_by_the_table_and_settled_ones_are_not_proposed_again(database, tmp_path):
    known, table = TagDatabase.open(database), tmp_path / "look.csv"
    assert known.translations("dress", "es") == []
    words = ["tags", "ambiguous", "--database", str(database), "--propose", str(table)]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert CliRunner().invoke(main, words).exit_code == 2, "what somebody has looked over is not overwritten"
    lines = table.read_text(encoding="utf-8").splitlines()
    assert (
        lines[0] == "tag,language,surface,reviewed,pictures,also means"
        and "dress,es,vestido,yes,5000,gown (100)" in lines
    )
    kept = [line for line in lines if not line.startswith("dress,de,")]  # the person says no to one
    table.write_text("\n".join(kept) + "\n", encoding="utf-8")
    build([table], database)
    settled = TagDatabase.open(database)
    assert settled.translations("dress", "es") == ["vestido"] and settled.translations("gown", "es") == []
    assert settled.translations("dress", "de") == [] and settled.translations("cannon", "es") == []
    assert {each.word for each in settled.proposals()} == {"Kleid"}
