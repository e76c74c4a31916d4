"""Everything found is accounted for, once; the same run twice changes no byte."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from animeflow.catalogue import check
from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.post import Post, uid_of
from animeflow.catalogue.sources.danbooru import DanbooruSource
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.split import split_of
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import ConfigError, DataError
from animeflow.image.encode import encode_png
from animeflow.image.picture import Limits
from animeflow.text.blocklist import Blocklist


def drawn(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (24 + seed, 20, 3), dtype=np.uint8))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six good pictures and one of everything else."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(drawn(number))
        (folder / f"{number}.txt").write_text(f"1girl, tag {number}, smile")
    (folder / "again.png").write_bytes(drawn(0))
    (folder / "blocked.png").write_bytes(drawn(7))
    (folder / "blocked.txt").write_text("1girl, shotacon, smile")
    (folder / "cut.png").write_bytes(drawn(8)[:-100])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "huge.png").write_bytes(drawn(9))
    (folder / "text.png").write_text("this is no picture at all, but a text")
    (folder / "video.mp4").write_bytes(bytes(100))
    (folder / "lonely.caption").write_text("No picture.")
    return folder


LIMITS = Limits(max_pixels=32 * 20)
REJECTED = {
    "duplicate_file": 1, "blocked": 1, "truncated": 1, "empty": 1, "too_large": 1, "unknown_format": 2, "missing_picture": 1,
}  # fmt: skip


def take(catalogue: Catalogue, folder: Path, **options):
    return ingest(catalogue, FolderSource(folder), **{"workers": 0, "limits": LIMITS} | options)


def state(catalogue: Catalogue) -> dict[str, tuple[str, int]]:
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in catalogue.folder.rglob("*")
        if file.is_file()
    }


def rejected(catalogue: Catalogue) -> dict[str, str]:
    lines = (catalogue.folder / "rejected.jsonl").read_text().splitlines()
    return {Path(row["path"]).name: row["reason"] for row in map(json.loads, lines)}


def test_found_is_added_plus_known_plus_rejected(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    report = take(catalogue, pictures)
    assert (report.found, report.added, report.known, dict(report.rejected)) == (14, 6, 0, REJECTED)
    assert report.found == report.added + report.known + report.rejected.total()
    assert len(catalogue) == len(catalogue.posts()) == 6
    assert rejected(catalogue)["cut.png"] == "truncated" and len(rejected(catalogue)) == 8
    assert "6 added" in report.lines()[0]
    summary = catalogue.summary()
    assert summary["posts"] == 6 and summary["rejected"] == REJECTED and summary["source"] == {"folder": 6}


def test_twice_changes_no_byte_and_decodes_nothing(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    before = state(catalogue)
    for again in (catalogue, Catalogue(tmp_path / "catalogue")):
        report = take(again, pictures)
        assert (report.found, report.added, report.known, report.decoded) == (14, 0, 6, 0)
        assert dict(report.rejected) == REJECTED
        assert state(again) == before


def test_without_the_cache_of_verdicts_the_result_is_the_same(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    before = state(catalogue)
    (catalogue.folder / "seen.sqlite").write_bytes(b"broken")
    report = take(Catalogue(tmp_path / "catalogue"), pictures)
    assert report.known == 6 and report.decoded > 6
    assert {name: entry for name, entry in state(catalogue).items() if name != "seen.sqlite"} == {
        name: entry for name, entry in before.items() if name != "seen.sqlite"
    }


def test_two_runs_over_halves_give_the_bytes_of_one_run(tmp_path, pictures):
    one = Catalogue(tmp_path / "one")
    take(one, pictures)
    two = Catalogue(tmp_path / "two")
    aside = {name: (pictures / name).read_bytes() for name in ("5.png", "5.txt", "text.png", "huge.png")}
    for name in aside:
        (pictures / name).unlink()
    take(two, pictures)
    for name, data in aside.items():
        (pictures / name).write_bytes(data)
    report = take(Catalogue(tmp_path / "two"), pictures)
    assert (report.added, report.known) == (1, 5)
    for name in ("catalogue.parquet", "rejected.jsonl", "manifest.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def test_processes_change_nothing(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(check, "CHUNK", 3)
    here, there = Catalogue(tmp_path / "here"), Catalogue(tmp_path / "there")
    take(here, pictures)
    take(there, pictures, workers=2)
    for name in ("catalogue.parquet", "rejected.jsonl", "manifest.json", "seen.sqlite"):
        assert (here.folder / name).read_bytes() == (there.folder / name).read_bytes()


def die_on_cut(paths, limits):
    """Stands for a decoder that crashes on a hostile file."""
    if any("cut" in path for path in paths):
        os._exit(11)
    return [check.check(path, limits) for path in paths]


def test_a_worker_that_dies_costs_one_file(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(check, "CHUNK", 4)
    monkeypatch.setattr(check, "_check_chunk", die_on_cut)
    report = take(Catalogue(tmp_path / "catalogue"), pictures, workers=2)
    assert report.rejected["decoder_died"] == 1 and report.rejected["truncated"] == 0
    assert report.added == 6 and report.found == report.added + report.rejected.total()


def test_a_catalogue_among_its_pictures_does_not_list_itself(pictures):
    catalogue = Catalogue(pictures / "catalogue")
    assert take(catalogue, pictures).found == 14
    before = state(catalogue)
    assert take(catalogue, pictures).found == 14 and state(catalogue) == before


def test_new_facts_replace_old_ones_without_decoding(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    order = [post.path for post in catalogue.posts()]
    (pictures / "3.txt").write_text("1boy, solo")
    report = take(catalogue, pictures)
    assert (report.known, report.updated, report.added, report.decoded) == (6, 1, 0, 0)
    assert [post.path for post in catalogue.posts()] == order
    assert catalogue.posts("path like '%3.png'")[0].tags["general"] == ["1boy", "solo"]


def test_a_post_that_becomes_blocked_or_broken_leaves(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    (pictures / "3.txt").write_text("1girl, Toddler con, smile")
    (pictures / "4.png").write_bytes(drawn(4)[:-50])
    (pictures / "5.png").write_bytes(drawn(5) + b"")
    report = take(catalogue, pictures)
    assert len(catalogue) == 4 and report.rejected["blocked"] == 2 and report.rejected["truncated"] == 2
    assert "toddler" not in (catalogue.folder / "rejected.jsonl").read_text().lower()
    assert b"toddler" not in (catalogue.folder / "catalogue.parquet").read_bytes().lower()
    (pictures / "3.txt").write_text("1girl, smile")
    (pictures / "4.png").write_bytes(drawn(4))
    assert take(catalogue, pictures).added == 2 and len(Catalogue(catalogue.folder)) == 6


def test_a_replaced_file_replaces_its_post(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    (pictures / "4.png").write_bytes(drawn(6))
    report = take(catalogue, pictures)
    assert (report.added, report.known) == (1, 5) and len(catalogue) == 6
    assert [post.height for post in catalogue.posts("path like '%4.png'")] == [30]


def test_blocklist_looks_at_sentences_and_can_only_grow(tmp_path, pictures):
    (pictures / "1.caption").write_text("A picture of lolicon art.")
    strict = Blocklist.default().extended([("tag 2", "loli")])
    report = take(Catalogue(tmp_path / "catalogue"), pictures, blocklist=strict)
    assert report.rejected["blocked"] == 3


def test_a_child_beside_a_sexual_rating_is_refused(tmp_path, pictures):
    (pictures / "1.txt").write_text("child, rating:explicit")
    (pictures / "2.txt").write_text("child, rating:general")
    report = take(Catalogue(tmp_path / "catalogue"), pictures)
    before = take(Catalogue(tmp_path / "other"), pictures, blocklist=Blocklist(["hat"]))
    assert (report.rejected["blocked"], before.rejected["blocked"]) == (2, 0)  # one of the pictures is blocked anyway


def test_two_sources_share_a_catalogue(tmp_path, pictures):
    other = tmp_path / "other"
    other.mkdir()
    (other / "copy.png").write_bytes(drawn(2))
    (other / "fresh.png").write_bytes(drawn(1) + b"trailing bytes")
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    report = take(catalogue, other)
    assert (report.added, dict(report.rejected)) == (1, {"duplicate_file": 1})
    assert len(catalogue) == 7 and len(rejected(catalogue)) == 9
    assert "pictures/2.png" in (catalogue.folder / "rejected.jsonl").read_text()


def test_two_posts_with_one_file_do_not_take_turns(tmp_path):
    data = drawn(1)
    (tmp_path / "7.png").write_bytes(data)
    md5 = hashlib.md5(data).hexdigest()
    posts = [{"id": number, "md5": md5, "tag_string_general": f"tag_{number}", "rating": "g"} for number in (7, 8)]
    (tmp_path / "posts.json").write_text(json.dumps([posts[0], posts[1] | {"file_path": "7.png"}]))
    catalogue = Catalogue(tmp_path / "catalogue")
    source = DanbooruSource(tmp_path / "posts.json")
    report = ingest(catalogue, source, workers=0)
    assert (report.added, report.rejected["named_twice"]) == (1, 1)
    source = DanbooruSource(tmp_path / "posts.json", pictures=tmp_path)
    report = ingest(catalogue, source, workers=0)
    assert (report.known, report.updated, report.rejected["named_twice"]) == (1, 0, 1)
    assert catalogue.posts()[0].tags["general"] == ["tag_7"]


def test_add_is_idempotent_by_bytes(tmp_path, pictures):
    source, target = Catalogue(tmp_path / "a"), Catalogue(tmp_path / "b")
    take(source, pictures)
    posts = source.posts()
    assert target.add(posts) == {"added": 6} and target.add(posts) == {"known": 6}
    assert target.add([Post.from_dict(posts[0].as_dict() | {"path": "elsewhere.png"})]) == {"duplicate_file": 1}
    assert target.commit() and not target.commit()
    assert target.posts() == posts == Catalogue(tmp_path / "b").posts()
    assert (target.folder / "catalogue.parquet").read_bytes() == (source.folder / "catalogue.parquet").read_bytes()


def test_rows_are_the_files_they_say(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    for post in catalogue.posts():
        data = catalogue.file(post).read_bytes()
        assert (
            post.sha256 == hashlib.sha256(data).hexdigest()
            and post.uid == uid_of(post.sha256) == int(post.sha256, 16) >> 193
        )
        assert post.path.startswith("pictures/") and post.bytes == len(data)
        assert 0 <= post.uid < 2**63
        assert Post.from_dict(json.loads(json.dumps(post.as_dict()))) == post


def test_a_catalogue_moves_with_its_pictures(tmp_path, pictures):
    take(Catalogue(tmp_path / "catalogue"), pictures)
    (tmp_path / "new").mkdir()
    for name in ("pictures", "catalogue"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    catalogue = Catalogue(tmp_path / "new" / "catalogue")
    assert all(catalogue.file(post).is_file() for post in catalogue.posts())
    assert take(catalogue, tmp_path / "new" / "pictures").decoded == 0


def test_filters_are_sql(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    assert catalogue.posts() == catalogue.posts("width > 1") == []
    take(catalogue, pictures)
    assert [post.height for post in catalogue.posts("height >= 28 and list_contains(tags.general, 'smile')")] == [
        28,
        29,
    ]
    with pytest.raises(ConfigError, match="the filter does not work"):
        catalogue.posts("hight > 2")
    with pytest.raises(ConfigError):
        catalogue.posts("1=1) union all select * from read_csv('/etc/passwd'")


def test_split_is_a_function_of_the_picture():
    uids = range(0, 2**62, 2**62 // 20_000)
    small = {uid for uid in uids if split_of(uid, 0.02) == "val"}
    large = {uid for uid in uids if split_of(uid, 0.1) == "val"}
    assert small < large and 300 < len(small) < 500 and 1800 < len(large) < 2200
    assert split_of(1, 0.0) == "train" and split_of(1, 1.0) == "val"
    with pytest.raises(ConfigError, match="val_share"):
        split_of(1, 2)


def test_a_broken_catalogue_says_where(tmp_path, pictures):
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    (catalogue.folder / "catalogue.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="is not a catalogue"):
        Catalogue(tmp_path / "catalogue")


def test_an_interrupted_commit_leaves_the_old_state(tmp_path, pictures, monkeypatch):
    catalogue = Catalogue(tmp_path / "catalogue")
    take(catalogue, pictures)
    before = state(catalogue)
    (pictures / "new.png").write_bytes(drawn(6))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        take(Catalogue(catalogue.folder), pictures)
    monkeypatch.undo()
    assert state(catalogue) == before
    assert take(Catalogue(catalogue.folder), pictures).added == 1


@pytest.mark.slow
def test_pictures_below_a_linked_root_are_stored_relative_to_it(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    for root in ("pictures", "link"):
        catalogue = Catalogue(tmp_path / "catalogue", root=tmp_path / root)
        for named in ("pictures", "link"):
            assert catalogue.stored_path(tmp_path / named / "a.png") == "a.png"


def test_real_pictures_are_all_accounted_for(tmp_path, test_data):
    images = test_data / "images"
    catalogue = Catalogue(tmp_path / "catalogue", root=images)
    report = ingest(catalogue, DanbooruSource(images / "posts.jsonl"), workers=0)
    assert (report.found, report.added, dict(report.rejected)) == (113, 111, {"unknown_format": 2})
    by_path = {post.path: post for post in catalogue.posts()}
    for row in (images / "manifest.csv").read_text().splitlines()[1:]:
        file, number, _, width, height = row.split(",")[:5]
        post = by_path[file]
        assert (post.source_id, post.width, post.height) == (number, int(width), int(height))
    again = ingest(catalogue, DanbooruSource(images / "posts.jsonl"), workers=0)
    assert (again.added, again.known, again.decoded) == (0, 111, 0)
    strict = ingest(
        Catalogue(tmp_path / "strict"),
        DanbooruSource(images / "posts.jsonl"),
        workers=0,
        limits=Limits(max_pixels=8_000_000),
    )
    assert strict.rejected["too_large"] >= 5 and strict.found == strict.added + strict.rejected.total()
