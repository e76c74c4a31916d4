"""Every kind of file ends in the one database; twice is once; what contradicts, repeats or breaks is told exactly."""

from __future__ import annotations

import itertools
import json

import pytest
from tag_toys import make, sample_file, write

from animeflow.core.errors import AnimeflowError, DataError
from animeflow.text.database import TagDatabase
from animeflow.text.importers import build as building
from animeflow.text.importers.build import build
from animeflow.text.importers.listed import assigned
from animeflow.text.importers.reading import read
from animeflow.text.script import language_code, languages_of, normal, speaks

TAGS = [
    {
        "name": "long_hair",
        "post_count": 500,
        "category": 0,
        "is_deprecated": False,
        "updated_at": "2025-01-02T03:04:05",
    },
    {"name": "cat_ears", "post_count": 40, "category": 0, "is_deprecated": False},
    {"name": "animal_ears", "post_count": 90, "category": 0, "is_deprecated": False},
    {"name": "old_word", "post_count": 3, "category": 0, "is_deprecated": True},
    {"name": "kei", "post_count": 7, "category": 1, "is_deprecated": False},
    {"name": "odd", "post_count": 7, "category": 6, "is_deprecated": False},
]
ALIASES = [
    {"antecedent_name": "longhair", "consequent_name": "long_hair", "status": "active"},
    {"antecedent_name": "very_longhair", "consequent_name": "longhair", "status": "active"},
    {"antecedent_name": "nekomimi", "consequent_name": "cat_ears", "status": "deleted"},
    {"antecedent_name": "kitty_ears", "consequent_name": "cat_ears", "status": "active"},
    {"antecedent_name": "animal_ears", "consequent_name": "cat_ears", "status": "active"},
    {"antecedent_name": "ring_a", "consequent_name": "ring_b", "status": "active"},
    {"antecedent_name": "ring_b", "consequent_name": "ring_a", "status": "active"},
]
IMPLICATIONS = [
    {"antecedent_name": "kitty_ears", "consequent_name": "animal_ears", "status": "active"},
    {"antecedent_name": "animal_ears", "consequent_name": "cat_ears", "status": "active"},
    {"antecedent_name": "long_hair", "consequent_name": "nothing", "status": "active"},
]
WIKI = [
    {"title": "long_hair", "other_names": ["ロングヘア", "长发", "긴 머리", "女性", "capelli"], "is_deleted": False},
    {"title": "cat_ears", "other_names": ["猫耳・x, y"], "is_deleted": False},
    {"title": "kei", "other_names": ["けい"], "is_deleted": True},
]
FILES = {
    "tags__json": TAGS,
    "tag_aliases__jsonl": "\n".join(json.dumps(row) for row in ALIASES),
    "tag_implications__json": {"tag_implications": IMPLICATIONS},
    "wiki__json": WIKI,
    "list__csv": 'long_hair,0,400,"longhair,/lh"\ncat_ears,4,30,\n,0,1,\nsmile,0,10,"ニコニコ,smiling"\n',
    "zh-Hans__words__csv": "long_hair,长发/长头发\nunheard_of,什么\ncat_ears,猫耳\n",
    "pt-BR__mine__txt": "long hair=cabelo longo\ncat earsorelhas\nsmile=sorriso\n",
    "mine__csv": "tag,lang,translation\nlong_hair,de-DE,Langes Haar|lange Mähne\nsmile,es-ES,sonrisa\nsmile,es-ES,\n",
    "mine__jsonl": json.dumps(
        {"name": "smile", "translations": {"fr": ["sourire"]}, "implies": ["cat_ears"], "aliases": ["grin"]}
    ),
}


def words(database: TagDatabase, name: str) -> set[tuple[str, str, str]]:
    return {(each["word"], each["language"], each["kind"]) for each in database.words(name)}


def test_one_database_of_a_file_of_every_kind(tmp_path) -> None:
    database, report = make(tmp_path, **FILES)
    assert {name: category for name, category, _ in database.names()} == {
        "long_hair": "general",
        "animal_ears": "general",
        "cat_ears": "general",
        "smile": "general",
        "kei": "artist",
        "old_word": "general",
    }
    assert database.count("long_hair") == 500 and database.count("smile") == 10  # the larger count is the newer list
    assert database.is_deprecated("old_word") and not database.is_deprecated("smile")
    assert words(database, "long_hair") == {
        ("long hair", "en", "canonical"),
        ("longhair", "en", "alias"),
        ("very longhair", "en", "alias"),  # through the alias of an alias
        ("/lh", "en", "nickname"),
        ("capelli", "en", "alias"),
        ("ロングヘア", "ja", "translation"),
        ("长发", "zh-Hans", "translation"),
        ("长头发", "zh-Hans", "translation"),
        ("긴 머리", "ko", "translation"),
        ("女性", "zh", "translation"),
        ("女性", "ja", "translation"),
        ("cabelo longo", "pt-BR", "translation"),
        ("Langes Haar", "de", "translation"),
        ("lange Mähne", "de", "translation"),
    }
    assert words(database, "smile") == {
        ("smile", "en", "canonical"),
        ("smiling", "en", "alias"),
        ("grin", "en", "alias"),
        ("ニコニコ", "ja", "translation"),
        ("sorriso", "pt-BR", "translation"),
        ("sonrisa", "es", "translation"),
        ("sourire", "fr", "translation"),
    }
    assert words(database, "kei") == {("kei", "en", "canonical")}
    assert database.implied("kitty_ears") == frozenset()  # an alias is no tag of its own
    assert database.implied("cat_ears") == {"animal_ears"} and database.implied("smile") == {"cat_ears", "animal_ears"}
    assert report.conflicts == [
        ("two categories", "cat_ears: general and character"),
        ("an alias that is a tag itself", "animal_ears: alias of cat_ears"),
        ("an implication in a circle", "animal_ears implies cat_ears"),
    ]
    skipped = {file.path.rsplit("/")[-1]: dict(file.skipped) for file in report.files if file.skipped}
    assert skipped == {
        "tags.json": {"category 6 is not about a picture": 1},
        "tag_aliases.jsonl": {"status deleted": 1, "of aliases in a circle": 2},
        "tag_implications.json": {"of a tag that is in no list": 1},
        "wiki.json": {"a comma in a name": 1, "a deleted page": 1},
        "list.csv": {"no name in the row": 1},
        "zh-Hans.words.csv": {"of a tag that is in no list": 1},
        "pt-BR.mine.txt": {"not a tag and its translation": 1},
        "mine.csv": {"nothing about the tag in the row": 1},
    }
    text = "\n".join(report.lines())
    assert "conflicts, two categories: 1" in text and "skipped 1: status deleted" in text


def test_twice_is_once_and_the_order_of_files_is_nothing(tmp_path) -> None:
    paths = [write(tmp_path, name.replace("__", "."), content) for name, content in FILES.items()]
    out = tmp_path / "tags.db"
    first = build(paths, out)
    state = (out.read_bytes(), out.stat().st_ino, TagDatabase.open(out).identity)
    second = build(paths, out)
    assert first.changed and not second.changed
    assert state == (out.read_bytes(), out.stat().st_ino, TagDatabase.open(out).identity)
    assert (first.conflicts, first.totals, first.ambiguous) == (second.conflicts, second.totals, second.ambiguous)
    for turn, order in enumerate(itertools.islice(itertools.permutations(paths), 0, None, 60_001)):
        other = tmp_path / f"{turn}.db"
        build(order, other)
        assert TagDatabase.open(other).identity == state[2]


def test_files_may_come_one_after_the_other(tmp_path) -> None:
    paths = [write(tmp_path, name.replace("__", "."), content) for name, content in FILES.items()]
    together, apart = tmp_path / "a.db", tmp_path / "b.db"
    build(paths, together)
    build(paths[:1] + paths[4:5], apart)
    build(paths[1:2] + paths[5:], apart)
    build(paths[2:4], apart)
    assert TagDatabase.open(together).identity == TagDatabase.open(apart).identity
    assert {each["source"] for each in TagDatabase.open(apart).sources()} == {path.name for path in paths}


def test_an_import_that_fails_leaves_what_was_there(tmp_path, monkeypatch) -> None:
    database, _ = make(tmp_path, **FILES)
    before = database.path.read_bytes()

    def broken(*_: object) -> None:
        raise RuntimeError("the power went")

    monkeypatch.setattr(building, "_judge", broken)
    with pytest.raises(RuntimeError):
        build([write(tmp_path, "more.csv", "wink,0,5,\nhat,0,4,\n")], database.path)
    assert database.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_who_reads_while_it_is_made_again_reads_the_old_one_to_the_end(tmp_path) -> None:
    database, _ = make(tmp_path, **FILES)
    assert database.resolve("wink") == []
    build([write(tmp_path, "more.csv", "wink,0,5,\nhat,0,4,\n")], database.path)
    assert database.resolve("wink") == [] and database.resolve("smile")
    assert TagDatabase.open(database.path).resolve("wink")[0].name == "wink"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("rows.json", [{"antecedent_name": "a", "consequent_name": "b"}], "aliases or implications"),
        ("words.csv", "long_hair,cabello largo\ncat_ears,orejas de gato\n", "the language of these"),
        ("latin.csv", "long_hair,caf\xe9\n".encode("latin-1"), "no UTF-8"),
        ("empty.csv", "", "empty"),
        ("what.csv", "a\nb\nc\n", "of no kind"),
        ("broken.json", "[{", "no JSON object"),
        ("ja.only.csv", "long_hair,ロング\n", "no tag in these files"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_makes_no_database(tmp_path, name, content, what) -> None:
    with pytest.raises(DataError, match=what):
        make(tmp_path, **{name.replace(".", "__"): content})
    assert not (tmp_path / "tags.db").exists()


def test_a_missing_file_and_a_file_that_is_no_database_are_told(tmp_path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        build([tmp_path / "no.csv"], tmp_path / "tags.db")
    write(tmp_path, "tags.db", "words")
    with pytest.raises(DataError, match="no database of tags"):
        build([sample_file()], tmp_path / "tags.db")
    assert (tmp_path / "tags.db").read_text() == "words"


@pytest.mark.parametrize(
    ("word", "languages"),
    [
        ("猫耳っ娘", ("ja",)),
        ("ﾈｺ", ("ja",)),
        ("고양이", ("ko",)),
        ("Ханьфу", ("ru",)),
        ("长发", ("zh-Hans",)),  # 长 and 发 are in GB 2312 alone
        ("長髪", ("ja",)),  # 髪 is in JIS alone
        ("女性", ("zh", "ja")),
        ("長髮", ("zh", "ja")),  # JIS has the old form too
        ("long hair", ()),
        (":3", ()),
        ("ตาราง", ("th",)),
    ],
)
def test_the_letters_tell_the_language_as_far_as_they_can(word, languages) -> None:
    assert languages_of(word) == languages


def test_codes_of_languages_have_one_form() -> None:
    codes = {
        "zh-CN": "zh-Hans",
        "zh_TW": "zh-Hant",
        "de-DE": "de",
        "pt-br": "pt-BR",
        "jp": "ja",
        "x": None,
        "English": None,
    }
    assert {code: language_code(code) for code in codes} == codes
    assert speaks("zh-Hant", "zh") and speaks("zh", "zh-Hans") and not speaks("zh-Hant", "zh-Hans")


def test_signs_of_equality_inside_tags_are_no_break() -> None:
    assert list(assigned(["a=b", "=_===_=", "=^===^=", "no sign", "x=y=z"])) == [
        *(["a", "b"], ["=_=", "=_="], ["=^=", "=^="], ["no sign"], ["x=y=z"]),
    ]


def test_numbers_of_e621_are_known_by_those_that_danbooru_has_not(tmp_path) -> None:
    database, _ = make(tmp_path, list__csv="wolf,5,10,\nhi_res,7,9,\nconditional_dnp,8,3,\nhat,0,2,\n")
    assert {name: kind for name, kind, _ in database.names()} == {"wolf": "general", "hi_res": "meta", "hat": "general"}


def test_licence_source_and_date_are_kept(tmp_path) -> None:
    write(tmp_path, "a.csv", "# licence: MIT\n# source: mine\n# date: 2024-05-06\ntag,category\nhat,general\n")
    build([tmp_path / "a.csv", write(tmp_path, "tags.json", TAGS)], tmp_path / "tags.db", licence="unknown to me")
    found = TagDatabase.open(tmp_path / "tags.db").sources()
    assert [(each["source"], each["date"], each["licence"]) for each in found] == [
        ("mine", "2024-05-06", "MIT"),
        ("tags.json", "2025-01-02", "unknown to me"),
    ]
    assert all(len(each["hash"]) == 64 for each in found)


def test_every_real_file_is_known_by_what_is_in_it(test_data) -> None:
    """Kinds, and that what is not read is counted: rows that say something and rows that do not are all rows."""
    kinds = {path.name: read(path)[0].kind for path in sorted((test_data / "tags").rglob("*.*")) if path.is_file()}
    assert kinds == {
        "danbooru_top30k.csv": "list of tags with aliases",
        "extra-quality-tags.csv": "list of tags with aliases",
        "tags.json": "Danbooru's tags",
        "tag_aliases.jsonl": "Danbooru's tag_aliases",
        "wiki_pages.json": "Danbooru's wiki_pages",
        "danbooru_wiki_other_names.csv": "table of one's own",
        "physton_11lang.csv": "table of one's own",
        "ja.hand.csv": "tags with translations",
        "ja.machine_top20k.csv": "tags with translations",
        "zh-Hans.tagcomplete.csv": "tags with translations",
        "zh-Hant.tagcomplete.csv": "tags with translations",
        "pt-BR.bdtm.txt": "tag=translation",
    }


def test_the_sample_is_read_whole(tmp_path) -> None:
    report = build([sample_file()], tmp_path / "tags.db")
    assert not report.conflicts and dict(report.files[0].skipped) == {"the tag's own name again": 1}  # German Butter
    assert report.files[0].licence.startswith("Apache-2.0")
    assert normal("Ｌong__Hair ") == "long hair"
    assert issubclass(DataError, AnimeflowError)
