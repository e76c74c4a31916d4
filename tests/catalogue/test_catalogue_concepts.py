"""Folders of concepts become one catalogue in which every picture knows its concept; masks are no pictures."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest
from test_catalogue_sources import picture

from animeflow.app.compose import compose
from animeflow.app.sources import source
from animeflow.app.verbs.catalogue import collect
from animeflow.app.verbs.shard import cut as shards
from animeflow.app.wiring import captions
from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.sources.concepts import ConceptsSource
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.table import Catalogue
from animeflow.catalogue.walk import mask_of
from animeflow.core.errors import ConfigError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three of eileen (one of them again), two of a style; a text and a broken file."""
    for number in range(3):
        picture(tmp_path / "eileen" / f"{number}.png", seed=number)
        (tmp_path / "eileen" / f"{number}.txt").write_text("1girl, smile")
    picture(tmp_path / "eileen" / "again.png", seed=0)
    for number in (5, 6):
        picture(tmp_path / "far" / "away" / f"{number}.png", seed=number)
    picture(tmp_path / "far" / "away" / "hers.png", seed=1)
    (tmp_path / "far" / "away" / "notes.txt").write_text("nothing")
    return tmp_path


def both(folders: Path) -> ConceptsSource:
    eileen = FolderSource(folders / "eileen", name="eileen", rating="general", origin="human")
    return ConceptsSource([eileen, FolderSource(folders / "far", name="ink")])


def test_every_picture_knows_its_concept_and_two_concepts_never_share_one(folders):
    catalogue = Catalogue(folders / "set")
    report = ingest(catalogue, both(folders), workers=0)
    posts = catalogue.posts()
    assert Counter(post.source for post in posts) == {"eileen": 3, "ink": 2}
    assert report.found == report.added + report.rejected.total() == 8
    assert report.rejected == {"duplicate_file": 2, "missing_picture": 1}
    hers = [row for row in catalogue.rejections if row.path.endswith("hers.png")]
    assert len(hers) == 1 and "eileen/1.png" in hers[0].detail  # the concept named first keeps it
    assert {(p.rating, p.origin) for p in posts if p.source == "eileen"} == {("general", "human")}
    assert {(p.rating, p.origin) for p in posts if p.source == "ink"} == {("unknown", "unknown")}


def test_reading_again_changes_nothing_and_a_picture_that_moves_changes_its_concept(folders):
    ingest(Catalogue(folders / "set"), both(folders), workers=0)
    before = (folders / "set" / "catalogue.parquet").read_bytes()
    report = ingest(Catalogue(folders / "set"), both(folders), workers=0)
    assert (report.added, report.updated, report.decoded) == (0, 0, 0)
    assert (folders / "set" / "catalogue.parquet").read_bytes() == before
    (folders / "eileen" / "2.png").rename(folders / "far" / "2.png")
    (folders / "eileen" / "2.txt").unlink()
    ingest(Catalogue(folders / "set"), both(folders), workers=0)
    assert Counter(post.source for post in Catalogue(folders / "set").posts()) == {"eileen": 2, "ink": 3}


def test_a_folder_inside_another_belongs_to_its_own_concept(folders):
    outer, inner = FolderSource(folders / "far", name="all"), FolderSource(folders / "far" / "away", name="ink")
    with pytest.raises(ConfigError, match="no picture"):  # nothing is left for the outer one
        ConceptsSource([outer, inner])
    picture(folders / "far" / "own.png", seed=9)
    names = [(c.facts.source, c.path.name) for c in ConceptsSource([outer, inner]) if not c.reason]
    assert sorted(names) == [("all", "own.png"), ("ink", "5.png"), ("ink", "6.png"), ("ink", "hers.png")]


@pytest.mark.parametrize(
    ("roots", "said"),
    [
        ({}, "no concept"),
        ({"eileen": "nowhere"}, "there is no folder"),
        ({"eileen": "eileen", "she": "eileen/../eileen"}, "'eileen' too"),
        ({"eileen": "empty"}, "no picture"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_read(folders, roots, said):
    (folders / "empty").mkdir()
    (folders / "empty" / "a.txt").write_text("1girl")
    with pytest.raises(ConfigError, match=r"catalogue\.source\.concepts") as error:
        ConceptsSource([FolderSource(folders / root, name=name) for name, root in roots.items()])
    assert said in str(error.value)


def test_a_config_names_concepts_and_their_captions(folders):
    words = ["catalogue=concepts", f"catalogue.source.concepts.eileen.root={folders / 'eileen'}"]
    config = compose([*words, "text.concepts.eileen={trigger: eileen, class: girl}"])
    assert [folder.name for folder in source(config).folders] == ["eileen"]
    assert captions(config).concepts["eileen"].trigger == "eileen"
    with pytest.raises(ConfigError, match="eileen"):
        captions(compose([*words, "text.concepts.eilen.trigger=eileen"]))
    with pytest.raises(ConfigError, match="origin"):
        source(compose([*words, "catalogue.source.concepts.eileen.orign=human"]))
    with pytest.raises(ConfigError, match="is no concept"):
        source(compose(["catalogue=concepts", "catalogue.source.concepts.eileen=pictures"]))


def test_masks_are_no_pictures(tmp_path):
    for name in ("a.png", "a.mask.png", "deep/b.webp", "deep/masks/b.png", "deep/masks/own.png", "masks/c.png"):
        picture(tmp_path / name, seed=len(name))
    for name in ("lost.mask.png", "a.mask.webp", "deep/masks/b.webp"):
        picture(tmp_path / name, seed=3)
    found = {c.path.relative_to(tmp_path).as_posix(): c.reason for c in FolderSource(tmp_path)}
    assert found == {
        "a.png": None, "deep/b.webp": None, "deep/masks/own.png": None, "masks/c.png": None, "lost.mask.png": "missing_picture",
        "a.mask.webp": "unknown_format", "deep/masks/b.webp": "unknown_format",
    }  # fmt: skip
    assert {path.name for path in map(mask_of, (tmp_path / "a.png", tmp_path / "deep/b.webp")) if path} == {
        "a.mask.png",
        "b.png",
    }


def test_the_numbers_of_other_trainers_are_pointed_out(tmp_path, caplog):
    picture(tmp_path / "10_eileen girl" / "a.png")
    with caplog.at_level(logging.INFO):
        list(FolderSource(tmp_path))
    assert "repeats={eileen: 10}" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        list(FolderSource(tmp_path / "10_eileen girl"))
    assert caplog.text.count("repeats") == 1


def test_pictures_of_concepts_that_are_gone_are_not_cut(folders, caplog):
    caplog.set_level(logging.INFO)
    places = {"eileen": folders / "eileen", "ink": folders / "far"}
    roots = {name: f"catalogue.source.concepts.{name}.root={place}" for name, place in places.items()}
    words = [
        "catalogue=concepts",
        f"set={folders / 'set'}",
        "catalogue.workers=0",
        "data.shard.max_upscale=9",
        "data/bucket=tiny",
    ]
    collect(compose([*words, *roots.values()]))
    cut = {
        names: shards(compose([*words, "data.shard.workers=0", *(roots[name] for name in names)])).found
        for names in (("eileen", "ink"), ("eileen",))
    }
    assert cut == {("eileen", "ink"): 5, ("eileen",): 3}
    assert "2 pictures of ink are left out" in caplog.text
