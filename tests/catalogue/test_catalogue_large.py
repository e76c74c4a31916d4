"""What holds for millions of rows, on few: however it is divided, whatever is spilled, whenever it is killed, the result is one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from animeflow.catalogue import beside, files, index, pending, refusals, seen
from animeflow.catalogue.aside import Aside
from animeflow.catalogue.files import Files
from animeflow.catalogue.index import Index, Sorted, Texts
from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.ordered import merged
from animeflow.catalogue.post import Post, uid_of
from animeflow.catalogue.refusals import Refusals, Rejection
from animeflow.catalogue.shelf import Shelf
from animeflow.catalogue.sources import array, dump, matching
from animeflow.catalogue.sources.danbooru import DanbooruSource
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.gallery_dl import GalleryDlSource
from animeflow.catalogue.sources.matching import Names
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import DataError
from animeflow.core.files import sha256


def post(number: int, *, path: str | None = None, **facts: Any) -> Post:
    digest = sha256(str(number).encode())
    return Post(
        uid_of(digest), digest, path or f"{number % 7}/{number}.png", 9, 8, 100 + number, "PNG",
        {"general": [f"tag {number}"], "character": [], "copyright": [], "artist": [], "meta": []}, {"en": f"No {number}."},
        "general", number, None, "drawn", str(number), None, "unknown", {"n": number} if number % 3 else None, "train", **facts,
    )  # fmt: skip


# tables beside the catalogue -----------------------------------------------------------------------------------------


def some_scores(draw: np.random.Generator, uids: int, most: int) -> list[dict[str, Any]]:
    """Rows of some pictures: one, several, or many names of each."""
    chosen = draw.choice(uids, draw.integers(1, uids), replace=False).tolist()
    return [
        {"uid": uid, "name": f"n{name}", "score": float(draw.random())}
        for uid in chosen
        for name in range(draw.integers(1, most))
    ]


@pytest.mark.parametrize("seed", range(3))
def test_parts_and_one_table_have_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int):
    """One part or many, merged at any time: the last rows of each uid, in order. Read before and after merging alike."""
    draw = np.random.default_rng(seed)
    monkeypatch.setattr(beside, "FAN", 3)
    monkeypatch.setattr(beside, "ROWS_PER_GROUP", 16)
    file, wanted = tmp_path / "tool.parquet", dict[int, list[dict[str, Any]]]()
    for version in range(int(draw.integers(5, 10))):
        rows = some_scores(draw, 60, int(draw.choice([2, 40])))
        wanted |= {row["uid"]: [] for row in rows}
        for row in rows:
            wanted[row["uid"]].append(row)
        beside.append(file, beside.SCORES, rows, about={"version": str(version)})
        if draw.random() < 0.2:
            assert beside.settle(file, beside.SCORES)
        assert beside.told(file) == {"version": str(version)}
        assert len(beside._parts(file)) < 3 * 3
        assert beside.uids(file).tolist() == sorted(wanted)
    every = [row for uid in wanted for row in wanted[uid]]
    beside.put(tmp_path / "whole.parquet", beside.SCORES, every, about=beside.told(file))
    whole = beside.read(tmp_path / "whole.parquet", beside.SCORES)
    assert beside.read(file, beside.SCORES).equals(whole) and len(whole) == len(every)
    beside.settle(file, beside.SCORES)
    assert file.read_bytes() == (tmp_path / "whole.parquet").read_bytes() and not file.with_suffix(".parts").exists()
    before = file.stat()
    assert not beside.put(file, beside.SCORES, every[:5] and wanted[every[0]["uid"]], about=beside.told(file))
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_parts_that_were_merged_and_not_removed_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed between the write of what was merged and the removal of its parts, in both places where parts are merged."""
    monkeypatch.setattr(beside, "FAN", 2)
    file = tmp_path / "prints.parquet"
    rows = [[{"uid": uid, "print": b"%d %d" % (part, uid)} for uid in range(part, 40, part + 1)] for part in range(2)]
    removed = Path.unlink

    def unlink(path: Path, **options: bool) -> None:
        if path.name.startswith("0"):
            raise KeyboardInterrupt
        removed(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        beside_part = beside._folder(file)
        beside.append(file, beside.PRINTS, rows[0])
        with pytest.raises(KeyboardInterrupt):
            beside.append(file, beside.PRINTS, rows[1])
    assert len(list(beside_part.glob("0*"))) == 3 and len(beside._parts(file)) == 1
    table = beside.read(file, beside.PRINTS)
    with monkeypatch.context() as patch:
        patch.setattr(beside, "_sweep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            beside.settle(file, beside.PRINTS)
    assert beside.read(file, beside.PRINTS).equals(table) and pq.read_table(file).num_rows == len(table)
    assert not beside.settle(file, beside.PRINTS) and beside.read(file, beside.PRINTS).equals(table)
    assert not beside_part.exists()


@pytest.mark.parametrize("removals", range(4))
def test_parts_that_were_removed_in_part_do_not_bring_back_what_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removals: int
):
    """The table is written; killed after some of its parts are gone, the oldest of which would stand for the newest."""
    file, left = tmp_path / "prints.parquet", removals
    for version in range(3):
        beside.append(file, beside.PRINTS, [{"uid": uid, "print": b"%d" % version} for uid in (1, 2 + version)])
    wanted, removed = beside.read(file, beside.PRINTS), os.unlink

    def unlink(path: Any, **options: Any) -> None:
        nonlocal left
        if os.fspath(path).endswith(".parquet"):
            if not left:
                raise KeyboardInterrupt
            left -= 1
        removed(path, **options)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(os, "unlink", unlink)
        beside.settle(file, beside.PRINTS)
    assert len(beside._parts(file)) == 3 - removals
    assert beside.read(file, beside.PRINTS).equals(wanted)
    assert wanted["print"].to_pylist() == [b"2", b"0", b"1", b"2"]


def test_a_part_that_another_process_merges_meanwhile_is_looked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "prints.parquet"
    beside.append(file, beside.PRINTS, [{"uid": 1, "print": b"a"}])
    listed, done = beside._parts, list[bool]()

    def parts(of: Path) -> list[Path]:
        found = listed(of)
        if not done:
            done.append(True)
            beside.settle(file, beside.PRINTS)
        return found

    monkeypatch.setattr(beside, "_parts", parts)
    assert beside.read(file, beside.PRINTS).to_pylist() == [{"uid": 1, "print": b"a"}]


def test_a_damaged_part_is_told_with_its_folder(tmp_path: Path):
    file = tmp_path / "prints.parquet"
    rows = [{"uid": uid, "print": b"%d" % uid} for uid in range(500)]
    beside.append(file, beside.PRINTS, rows)
    (part,) = beside._parts(file)
    data = bytearray(part.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)  # from the head of the first page
    part.write_bytes(data)
    with pytest.raises(DataError, match=r"prints\.parts"):
        beside.read(file, beside.PRINTS)


def test_rows_of_one_picture_may_be_in_many_groups():
    rows = [pa.table({"uid": pa.array([1] * 3 + [at] * 2, pa.int64()), "v": range(5)}) for at in (1, 1)]
    later = pa.table({"uid": pa.array([0, 5], pa.int64()), "v": [10, 11]})
    found = pa.concat_tables(merged([iter(rows), iter([later])]))
    assert found["uid"].to_pylist() == [0, *[1] * 10, 5] and found["v"].to_pylist() == [10, *range(5), *range(5), 11]


# the catalogue ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_catalogue_is_as_a_plain_dictionary_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int):
    """Random additions, other facts, moves and removals, committed and opened again at random, against a list of posts."""
    draw = random.Random(seed)
    monkeypatch.setattr(pending, "SOME", draw.choice([1, 3, 1024]))
    monkeypatch.setattr(index, "_BATCH", 5)
    folder, wanted = tmp_path / "set", dict[str, Post]()
    catalogue = Catalogue(folder)
    for _ in range(120):
        number = draw.randrange(40)
        one = post(number, path=draw.choice([None, None, f"moved/{number}.png"]), licence=draw.choice([None, "a", "b"]))
        known = wanted.get(one.sha256)
        match draw.randrange(12):
            case 0 if known is not None:
                catalogue.remove(one.sha256)
                del wanted[one.sha256]
            case 1 | 2 if known is not None:
                catalogue.move(one)
                wanted[one.sha256] = one
            case 3:
                catalogue.commit(final=draw.random() < 0.5)
                assert catalogue.posts() == catalogue_order(catalogue, wanted)
            case 4:
                catalogue.commit()
                catalogue = Catalogue(folder)
            case _:
                (verdict,) = catalogue.add([one])
                told = "added" if known is None else "known" if known == one else "updated"
                if known is not None and known.path != one.path:
                    told = "duplicate_file"
                else:
                    wanted[one.sha256] = one
                assert verdict == told
        assert len(catalogue) == len(wanted) and (one.sha256 in catalogue) == (one.sha256 in wanted)
        for sha, each in wanted.items():
            assert catalogue.path_of(sha) == each.path and catalogue.sha_at(each.path) == sha
    catalogue.commit()
    assert {p.sha256: p for p in Catalogue(folder).posts()} == wanted
    some = [p for p in wanted.values() if draw.random() < 0.6]
    counts = Catalogue(folder).counts(np.array([p.uid for p in some], np.int64))
    for name, counted in counts.items():
        assert counted == Counter(getattr(p, name) for p in some)


def catalogue_order(catalogue: Catalogue, wanted: dict[str, Post]) -> list[Post]:
    posts = catalogue.posts()
    assert {p.sha256 for p in posts} == set(wanted)
    return [wanted[p.sha256] for p in posts]


@pytest.mark.parametrize("some", [1, 4, 1024])
def test_rows_keep_their_places_whatever_is_kept_as_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: int):
    """Others replaced, some left out, new ones changed before they were ever written: as a list of rows would be."""
    catalogue = Catalogue(tmp_path / "set")
    catalogue.add(post(number) for number in range(20))
    catalogue.commit()
    monkeypatch.setattr(pending, "SOME", some)
    catalogue = Catalogue(tmp_path / "set")
    catalogue.add(post(number) for number in range(20, 31))
    for number in (3, 7, 25, 30, 3):
        catalogue.add([post(number, licence="new")])
    for number in (0, 8, 19, 22):
        catalogue.remove(post(number).sha256)
    catalogue.add([post(8, licence="back")])
    catalogue.commit()
    other = {3: "new", 7: "new", 25: "new", 30: "new", 8: "back"}
    wanted = [post(n, licence=other.get(n)) for n in range(31) if n not in (0, 19, 22)]
    assert catalogue.posts() == wanted == Catalogue(tmp_path / "set").posts()


def test_the_last_row_of_a_path_has_it_and_the_others_are_homeless(tmp_path: Path):
    rows = [post(1, path="a.png"), post(2), post(3, path="a.png"), post(4, path="a.png")]
    pq.write_table(pa.Table.from_pylist([each.as_row() for each in rows], pending.SCHEMA), tmp_path / "table")
    made = Index.read(tmp_path / "table")
    assert [made.row_of(each.sha256) for each in rows] == [0, 1, 2, 3] and made.row_of("0" * 64) is None
    assert made.row_at("a.png") == 3 and made.row_at("b.png") is None
    assert made.homeless == {rows[0].sha256, rows[2].sha256}
    assert [made.digest(row) for row in range(4)] == [each.digest() for each in rows]


def test_numbers_that_meet_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, "number_of", lambda text: len(text))
    rows = [post(number) for number in range(30)]
    pq.write_table(pa.Table.from_pylist([each.as_row() for each in rows], pending.SCHEMA), tmp_path / "table")
    made = Index.read(tmp_path / "table")
    assert [made.row_at(each.path) for each in rows] == list(range(30)) and not made.homeless
    assert Sorted(np.array([5, 3, 5], np.uint64)).find(5) == [0, 2]


def test_texts_are_known_once_they_were_added(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Texts, "RECENT", 7)
    texts, draw, wanted = Texts(), random.Random(0), set[str]()
    for _ in range(2000):
        text = str(draw.randrange(700))
        assert texts.add(text) == (text not in wanted)
        wanted.add(text)
    assert all((str(number) in texts) == (str(number) in wanted) for number in range(800))
    assert len(texts._older) < 12


def test_files_are_found_by_their_names(tmp_path: Path):
    paths = [tmp_path / name for name in ("a.png", "b/ü c.png", os.fsdecode(b"b/\xff.png"), "b/d.png")]
    made = Files(tmp_path, paths)
    assert list(made) == paths and [made.find(path) for path in paths] == [0, 1, 2, 3]
    assert tmp_path / "b" not in made and Path("/elsewhere/a.png") not in made


@pytest.mark.parametrize("most", [1, 4, 1000])
def test_refusals_are_one_sorted_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int):
    monkeypatch.setattr(refusals, "MOST", most)
    draw, wanted, file = random.Random(1), set[Rejection](), tmp_path / "rejected.jsonl"
    listed = Refusals(file)
    for _ in range(120):
        one = Rejection(f"{draw.randrange(30)} \u2028.png", draw.choice("ab"), "", draw.choice(["first", "second"]))
        if draw.random() < 0.03:
            listed.forget(one.source)
            wanted = {each for each in wanted if each.source != one.source}
        elif draw.random() < 0.1:
            counts = listed.write()
            assert counts is None or dict(counts) == {
                r: sum(each.reason == r for each in wanted) for r in {each.reason for each in wanted}
            }
            listed = draw.choice([listed, Refusals(file)])
        else:
            listed.add(one)
            wanted.add(one)
        assert list(listed) == sorted(wanted)
    listed.write()
    before = file.stat().st_mtime_ns
    listed.forget("first")
    for each in wanted:
        listed.add(each)
    assert listed.write() is None and file.stat().st_mtime_ns == before


def test_what_is_put_aside_comes_back_in_order(monkeypatch: pytest.MonkeyPatch):
    aside, posts = Aside(), [post(number, evidence=("certain ai tag x",)) for number in range(20)]
    for each in posts:
        aside.add(each)
    assert list(aside) == posts == list(aside)


def test_records_are_found_by_the_first_or_the_last_that_had_a_key():
    shelf = Shelf()
    shelf.put(["a", "b"], {"n": 1})
    shelf.put(["b", "c"], {"n": 2})
    shelf.put(["a"], {"n": 3})
    shelf.put(["d"], {"n": [4.5, None, "ü\ud800"]})
    assert [shelf.get(key) for key in "abcx"] == [{"n": 1}, {"n": 1}, {"n": 2}, None]
    assert [each["n"] for each in shelf] == [1, 2, [4.5, None, "ü\ud800"]]
    shelf.put(["a"], {"n": 5}, replace=True)
    assert shelf.get("a") == {"n": 5} and shelf.get("b") == {"n": 1}


def test_texts_whose_numbers_meet_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A path that is taken for another would be refused as named twice: a picture lost."""
    monkeypatch.setattr(index, "number_of", lambda text: len(text) % 5)
    monkeypatch.setattr(Texts, "RECENT", 3)
    monkeypatch.setattr(Texts, "SMALL", 40)
    texts = Texts()
    every = ["a", "b", "ab", "a\udcff", "é", "", "abcdef", *(f"{n} of them" for n in range(40))]
    assert [texts.add(text) for text in every] == [True] * len(every)
    assert not any(texts.add(text) for text in every) and all(text in texts for text in every)
    assert not any(text in texts for text in ("c", "abcdeg", "a\udcfe", "41 of them", "ab\0a", "a\0"))


def test_two_rows_of_a_path_are_found_among_others_of_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, "number_of", lambda text: 0)
    rows = [post(1, path="a.png"), post(2, path="b.png"), post(3, path="a.png"), post(4, path="c.png")]
    pq.write_table(pa.Table.from_pylist([each.as_row() for each in rows], pending.SCHEMA), tmp_path / "table")
    assert Index.read(tmp_path / "table").homeless == {rows[0].sha256}


def test_of_two_paths_whose_numbers_meet_both_pictures_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In every list that is looked up by numbers: named twice, the files of a source, the rows, the verdicts."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"danbooru_{number}.png")
    lines = [{"category": "danbooru", "id": number, "tags": f"tag_{number}", "rating": "g"} for number in range(5)]
    (folder / "data.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    ingest(Catalogue(tmp_path / "alone"), GalleryDlSource(folder), workers=0)
    for module in (index, files, matching):
        monkeypatch.setattr(module, "number_of", lambda text: 7)
    monkeypatch.setattr(seen, "_place", lambda path: 7)
    report = ingest(Catalogue(tmp_path / "met"), GalleryDlSource(folder), workers=0)
    assert (report.added, dict(report.rejected)) == (5, {})
    again = ingest(Catalogue(tmp_path / "met"), GalleryDlSource(folder), workers=0)
    assert (again.known, again.updated, again.decoded) == (5, 0, 0)
    for name in ("catalogue.parquet", "prints.parquet"):
        assert (tmp_path / "met" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    posts = {post.source_id: post for post in Catalogue(tmp_path / "met").posts()}
    assert {number: each.tags["general"] for number, each in posts.items()} == {str(n): [f"tag_{n}"] for n in range(5)}


def test_a_post_whose_number_meets_that_of_a_file_does_not_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matching, "number_of", lambda text: 7)
    made = Files(tmp_path, [tmp_path / f"{number}.png" for number in range(4)])
    names = Names(made, range(4))
    assert [names.find({"id": number}) for number in range(6)] == [0, 1, 2, 3, None, None]


def test_a_name_that_is_no_utf_8_is_a_key_too():
    shelf, name = Shelf(), os.fsdecode(b"b/\xff.png")
    shelf.put([name], {"n": 1})
    assert shelf.get(name) == {"n": 1} and shelf.get("b/\ufffd.png") is None


# dumps -----------------------------------------------------------------------------------------------------------------


def any_value(draw: random.Random, depth: int = 3) -> Any:
    match draw.randrange(8 if depth else 6):
        case 0:
            return draw.choice(["", "a,b]", '"\\', "\u2028 ü \n", "[{"])
        case 1:
            return draw.choice([None, True, False])
        case 2 | 3:
            return draw.randrange(-(10**9), 10**9)
        case 4 | 5:
            return draw.random() * 10.0 ** draw.randrange(-9, 9)
        case 6:
            return [any_value(draw, depth - 1) for _ in range(draw.randrange(4))]
        case _:
            return {f"k{n}": any_value(draw, depth - 1) for n in range(draw.randrange(4))}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("indent", [None, 1])
def test_a_long_dump_says_what_a_short_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, indent: int | None
):
    """An array read in pieces of any size, and lines of JSON."""
    draw = random.Random(seed)
    values = [draw.choice([{"id": n, "tags": any_value(draw)}, any_value(draw)]) for n in range(40)]
    file = tmp_path / "posts.json"
    texts = [json.dumps(values, indent=indent, ensure_ascii=draw.random() < 0.5)]
    if indent is None:
        texts.append("\n".join(json.dumps({"id": n, "x": value}) for n, value in enumerate(values)) + "\n\n")
    for text in texts:
        file.write_text(text, encoding=draw.choice(["utf-8", "utf-8-sig"]))
        wanted = list(dump.read_records(file))
        with monkeypatch.context() as patch:
            patch.setattr(dump, "WHOLE", 0)
            patch.setattr(array, "PIECE", draw.choice([1, 2, 7, 1000]))
            assert list(dump.read_records(file)) == wanted
    assert len(wanted) == 40


@pytest.mark.parametrize(
    "text", ["[", "[1", "[1,", "[1,]", "[1 2]", "[]x", '[{"a": 1}, {"a"', "[" * 100_000, "[1]]", "", "{", "nonsense"]
)
def test_a_long_dump_that_is_cut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setattr(dump, "WHOLE", -1)
    monkeypatch.setattr(array, "PIECE", 3)
    monkeypatch.setattr(array, "LONGEST", 1000)
    (tmp_path / "posts.json").write_text(text)
    if not text:
        assert list(dump.read_records(tmp_path / "posts.json")) == []
        return
    with pytest.raises(DataError):
        list(dump.read_records(tmp_path / "posts.json"))


def test_a_dump_that_grows_while_it_is_read_is_read_as_far_as_it_was(tmp_path: Path):
    def line(number: int) -> str:
        return json.dumps({"id": number, "tag_string": "a", "tag_string_general": "a", "rating": "g"}) + "\n"

    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "posts.jsonl").write_text(line(1))
    source = DanbooruSource(tmp_path / "posts.jsonl")
    assert len(source) == 2
    with open(tmp_path / "posts.jsonl", "a") as posts:
        posts.write(line(2))
    assert [(c.path.name, c.reason) for c in source] == [
        ("1.png", None), ("post 2", "missing_picture"), ("2.png", "missing_metadata"),
    ]  # fmt: skip


# kill -9 ---------------------------------------------------------------------------------------------------------------

RUN = """
import sys
from pathlib import Path
from animeflow.catalogue import ingest, looks, seen, beside
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.gallery_dl import GalleryDlSource
from animeflow.catalogue.sources.matching import Names
from animeflow.catalogue.table import Catalogue
ingest.WINDOW, ingest.COMMIT_EVERY, ingest.COMMIT_AT_LEAST_EVERY, looks.MOST, seen.MOST, beside.FAN = 2, 6, 6, 3, 3, 2
print("begun", flush=True)
ingest.ingest(Catalogue(Path(sys.argv[2])), FolderSource(Path(sys.argv[1])), workers=0)
"""


def test_killed_at_any_moment_and_run_again_is_as_never_killed(tmp_path: Path):
    draw = random.Random(os.getpid())
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number % 36).integers(0, 256, (24, 24, 3), dtype=np.uint8)  # four are copies
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (folder / "broken.png").write_bytes(b"no picture, by far")
    ingest(Catalogue(tmp_path / "whole"), FolderSource(folder), workers=0)
    for _ in range(2):
        words = [sys.executable, "-c", RUN, str(folder), str(tmp_path / "killed")]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None and run.stdout.readline() == b"begun\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(draw.random() * 0.3)
            run.kill()
    ingest(Catalogue(tmp_path / "killed"), FolderSource(folder), workers=0)
    assert ingest(Catalogue(tmp_path / "killed"), FolderSource(folder), workers=0).decoded == 0
    for name in ("catalogue.parquet", "rejected.jsonl", "manifest.json", "prints.parquet", "scores/screen.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    left = [
        [p.name for p in sorted((tmp_path / name).rglob("*")) if p.suffix != ".tmp"] for name in ("killed", "whole")
    ]
    assert left[0] == left[1]
