"""A picture in a tar is the same picture: read through the index, checked, never unpacked, all the way into a shard."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from animeflow.catalogue.check import check
from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.reading import member_path, read_file, read_index, size_and_time, split_path
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.indexed_tar import IndexedTarSource
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import DataError
from animeflow.data.shard import write_shards
from animeflow.image.bucket import BucketPlan
from animeflow.image.encode import encode_png
from animeflow.image.picture import Limits


def drawn(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (24, 20 + seed, 3), dtype=np.uint8))


def make_tar(tar: Path, files: dict[str, bytes], *, length: str = "size", hashes: bool = True) -> Path:
    """A tar by Python's tarfile, and an index of the real layout with the offsets that tarfile reads back."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    index = {}
    with tarfile.open(tar) as archive:
        for entry in archive:
            index[entry.name] = {"offset": entry.offset_data, length: entry.size}
            if hashes:
                index[entry.name]["sha256"] = hashlib.sha256(files[entry.name]).hexdigest()
    digest = hashlib.sha256(tar.read_bytes()).hexdigest()
    write_index(tar, {"filesize": tar.stat().st_size, "hash_lfs": digest, "files": index})
    return tar


def write_index(tar: Path, value: object) -> None:
    tar.with_suffix(".json").write_text(json.dumps(value))


def spoil(tar: Path, **changes: object) -> None:
    """Change the entry of the first file, or keys of the index where no file has them."""
    value = json.loads(tar.with_suffix(".json").read_text())
    entry = next(iter(value["files"].values()))
    for key, change in changes.items():
        (entry if key in ("offset", "size", "length", "sha256") else value)[key] = change
    write_index(tar, value)


LONG = "a/" + "deep/" * 30 + "picture.png"  # a name for which tars need a header of their own


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("length", ["size", "length"])
def test_every_byte_of_every_member_as_tarfile_reads_it(tmp_path, hashes, length):
    files = {"1.png": drawn(1), LONG: drawn(2), "絵!.png": drawn(3), "empty.txt": b"", "512.bin": bytes(512)}
    tar = make_tar(tmp_path / "0001.tar", files, length=length, hashes=hashes)
    for name, data in files.items():
        path = member_path(tar, name)
        assert read_file(path) == read_file(str(path)) == data
        assert size_and_time(path)[0] == len(data) and split_path(path) == (tar, name)


def test_a_file_of_its_own_is_read_as_ever_even_if_it_is_called_like_a_member(tmp_path):
    odd = tmp_path / "a.tar!b.png"
    odd.write_bytes(b"whole")
    assert read_file(odd) == b"whole" and split_path(odd) is None
    assert size_and_time(odd) == (5, odd.stat().st_mtime_ns)
    assert split_path(tmp_path / "a.png") is split_path(tmp_path / "b.tar!") is None
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"offset": 10**9}, "ends behind the end"),
        ({"size": 10**12}, "ends behind the end"),
        ({"offset": 513}, "not those that its index names"),
        ({"sha256": "0" * 64}, "not those that its index names"),
        ({"sha256": "xyz"}, "sha256 in its entry of the index is none"),
        ({"sha256": None, "offset": 513}, "no file of the tar begins"),
        ({"sha256": None, "offset": 0}, "no file of .* bytes at 0|no file of the tar begins"),
        ({"sha256": None, "size": 7}, "no file of 7 bytes"),
        ({"offset": -512}, "no offset and size"),
        ({"offset": True}, "no offset and size"),
        ({"size": "12"}, "no offset and size"),
        ({"files": []}, "no index of a tar"),
    ],
)
def test_an_index_that_lies_is_found_out(tmp_path, changes, says):
    tar = make_tar(tmp_path / "0001.tar", {"1.png": drawn(1), "2.png": drawn(2)})
    spoil(tar, **changes)
    with pytest.raises(OSError, match=says):
        read_file(member_path(tar, "1.png"))
    checked = check(str(member_path(tar, "1.png")), Limits())
    assert checked.reason in ("unreadable", "too_large") and checked.detail
    if "files" not in changes:
        assert read_file(member_path(tar, "2.png")) == drawn(2), "the others are what they were"


def test_a_new_index_makes_the_verdict_on_its_pictures_an_old_one(tmp_path):
    """It may name other bytes of the same tar."""
    tar = make_tar(tmp_path / "0.tar", {"a.png": drawn(1)})
    for file in (tar, tar.with_suffix(".json")):
        before = size_and_time(member_path(tar, "a.png"))
        os.utime(file, ns=(before[1] + 10**9, before[1] + 10**9))
        assert size_and_time(member_path(tar, "a.png")) == (before[0], before[1] + 10**9)


def test_what_is_not_there_is_missing(tmp_path):
    tar = make_tar(tmp_path / "0001.tar", {"1.png": drawn(1)})
    for path in (member_path(tar, "2.png"), member_path(tmp_path / "0002.tar", "1.png")):
        with pytest.raises(FileNotFoundError) as error:
            read_file(path)
        assert error.value.errno == errno.ENOENT
        assert check(str(path), Limits()).reason == "missing_picture"
    tar.with_suffix(".json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_index(tar)
    tar.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError):
        read_file(member_path(tar, "1.png"))


@pytest.mark.parametrize(
    "name", ["../out.png", "/etc/passwd", "a/../../b.png", "a//b.png", "a\\b.png", "./a.png", "a\0.png", ""]
)
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    tar = make_tar(tmp_path / "0001.tar", {"1.png": drawn(1)})
    value = json.loads(tar.with_suffix(".json").read_text())
    value["files"][name] = value["files"]["1.png"]
    write_index(tar, value)
    assert set(read_index(tar).members) == {"1.png"} and name in read_index(tar).refused
    found = list(IndexedTarSource(tmp_path))
    assert [(c.path.name, c.reason) for c in found] == [("0001.tar entry 0", "bad_index"), ("0001.tar!1.png", None)]


# -- a catalogue of tars -------------------------------------------------------------------------------------------------


def tars(tmp_path: Path) -> Path:
    root = tmp_path / "tars"
    post = {"id": 3, "tag_string_general": "1girl solo", "rating": "q", "media_asset": {}}
    make_tar(root / "0000.tar", {
        "1.png": drawn(1), "1.txt": b"1girl, artist:bob", "sub/2.png": drawn(2), "sub/2.caption": b"A boy.",
    }, hashes=False, length="length")  # fmt: skip
    make_tar(root / "0001.tar", {
        "3.png": drawn(3), "3.json": json.dumps(post).encode(), "4.png": b"no picture", "5.png": drawn(1), "gone.txt": b"x",
        "6.png": drawn(6), "6.json": b'{"__type": "x", "base64": ""}', "film.mp4": b"x",
    })  # fmt: skip
    return root


def take(tmp_path: Path, root: Path):
    report = ingest(Catalogue(tmp_path / "set", root=tmp_path), IndexedTarSource(root), workers=0)
    assert report.found == report.added + report.known + report.rejected.total()
    return report


def test_a_catalogue_of_tars_counts_all_and_reads_nothing_twice(tmp_path):
    root = tars(tmp_path)
    first = take(tmp_path, root)
    assert first.added == 3 and first.rejected.total() == 5
    assert first.rejected["duplicate_file"] == first.rejected["bad_sidecar"] == first.rejected["missing_picture"] == 1
    posts = {post.path: post for post in Catalogue(tmp_path / "set", root=tmp_path).posts()}
    assert set(posts) == {"tars/0000.tar!1.png", "tars/0000.tar!sub/2.png", "tars/0001.tar!3.png"}
    assert posts["tars/0000.tar!1.png"].tags["artist"] == ["bob"]
    assert posts["tars/0000.tar!sub/2.png"].captions == {"en": "A boy."}
    assert (posts["tars/0001.tar!3.png"].rating, posts["tars/0001.tar!3.png"].source) == (
        "questionable",
        "tars/danbooru",
    )
    before = (tmp_path / "set" / "catalogue.parquet").read_bytes()
    second = take(tmp_path, root)
    assert (second.added, second.known, second.decoded) == (0, 3, 0), "an unchanged tar is not decoded again"
    assert (tmp_path / "set" / "catalogue.parquet").read_bytes() == before
    os.utime(root / "0001.tar", ns=(1, 1))
    os.utime(root / "0001.json", ns=(1, 1))
    assert take(tmp_path, root).decoded == 3, "those of the tar whose time is another are"


def test_the_same_pictures_from_a_folder_and_from_tars_make_the_same_shards(tmp_path):
    """Through workers, too: a path into a tar crosses processes as text."""
    root, folder = tars(tmp_path), tmp_path / "folder"
    for tar in sorted(root.glob("*.tar")):
        with tarfile.open(tar) as archive:
            archive.extractall(folder, filter="data")
    (folder / "sub" / "2.png").rename(folder / "2.png")
    (folder / "sub" / "2.caption").rename(folder / "2.caption")
    (folder / "3.txt").write_text("1girl, solo, rating:questionable")
    (folder / "6.png").unlink()
    ingest(Catalogue(tmp_path / "a", root=root), IndexedTarSource(root), workers=1)
    ingest(Catalogue(tmp_path / "b", root=folder), FolderSource(folder), workers=0)
    plan = BucketPlan.explicit(["32x32"], step=16)
    pictures = {}
    for name, base in (("a", root), ("b", folder)):
        posts = Catalogue(tmp_path / name, root=base).posts()
        assert len(posts) == 3
        manifest = write_shards(posts, plan, tmp_path / f"shards_{name}", root=base, max_upscale=4.0)
        assert (manifest.found, manifest.written, manifest.rejected) == (3, 3, [])
        with tarfile.open(next((tmp_path / f"shards_{name}").rglob("*.tar"))) as archive:
            pictures[name] = {e.name: archive.extractfile(e).read() for e in archive if e.name.endswith(".png")}
    assert pictures["a"] == pictures["b"] and len(pictures["a"]) == 3


def test_a_shard_is_not_made_of_a_tar_that_changed(tmp_path):
    root = tmp_path / "tars"
    tar = make_tar(root / "0.tar", {"1.png": drawn(1), "2.png": drawn(2)})
    ingest(Catalogue(tmp_path / "set", root=root), IndexedTarSource(root), workers=0)
    posts = Catalogue(tmp_path / "set", root=root).posts()
    make_tar(root / "0.tar", {"1.png": drawn(5), "2.png": drawn(2)})
    manifest = write_shards(
        posts, BucketPlan.explicit(["32x32"], step=16), tmp_path / "shards", root=root, max_upscale=4.0
    )
    assert [(r.path, r.reason) for r in manifest.rejected] == [(str(member_path(tar, "1.png")), "changed_file")]


def test_pictures_that_moved_from_one_tar_to_another_keep_their_posts(tmp_path):
    root = tmp_path / "tars"
    make_tar(root / "0.tar", {"1.png": drawn(1), "2.png": drawn(2)})
    take(tmp_path, root)
    make_tar(root / "0.tar", {"2.png": drawn(2)})
    make_tar(root / "1.tar", {"9.png": drawn(1)})
    report = take(tmp_path, root)
    assert (report.added, report.known, report.rejected.total()) == (0, 2, 0)
    assert {p.path for p in Catalogue(tmp_path / "set", root=tmp_path).posts()} == {
        "tars/0.tar!2.png",
        "tars/1.tar!9.png",
    }


@pytest.mark.parametrize("there", [True, False])
def test_a_copy_beside_a_tar_takes_the_post_only_where_the_tar_no_longer_has_it(tmp_path, there):
    root, folder = tmp_path / "tars", tmp_path / "folder"
    make_tar(root / "0.tar", {"1.png": drawn(1)})
    take(tmp_path, root)
    (tmp_path / "set" / "seen.sqlite").unlink()  # so that the tar is looked into
    if not there:
        make_tar(root / "0.tar", {"1.png": drawn(2)})
    folder.mkdir()
    (folder / "copy.png").write_bytes(drawn(1))
    report = ingest(Catalogue(tmp_path / "set", root=tmp_path), FolderSource(folder), workers=0)
    (post,) = Catalogue(tmp_path / "set", root=tmp_path).posts()
    assert (report.rejected["duplicate_file"], report.known) == ((1, 0) if there else (0, 1))
    assert post.path == ("tars/0.tar!1.png" if there else "folder/copy.png")


def test_a_tar_that_is_not_what_its_index_says_is_refused_whole(tmp_path):
    root = tmp_path / "tars"
    for name in ("cut", "other", "bare", "broken", "good"):
        make_tar(root / f"{name}.tar", {f"{name}.png": drawn(len(name))})
    with open(root / "cut.tar", "r+b") as file:
        file.truncate((root / "cut.tar").stat().st_size - 512)
    spoil(root / "other.tar", hash_lfs="0" * 64)
    (root / "bare.json").unlink()
    (root / "broken.json").write_text("[]")
    (root / "notes.md").write_text("what these tars are and where they came from")

    def reasons(**options: object) -> dict[str, str | None]:
        return {c.path.name: c.reason for c in IndexedTarSource(root, **options)}

    expected = {"cut.tar": "changed_archive", "bare.tar": "missing_index", "broken.tar": "bad_index", "notes.md": "unknown_format",
                "good.tar!good.png": None}  # fmt: skip
    assert reasons() == expected | {"other.tar!other.png": None}
    assert reasons(verify=True) == expected | {"other.tar": "changed_archive"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no tar"):
        list(IndexedTarSource(tmp_path / "empty"))


def test_rows_of_pictures_in_other_tars_are_not_candidates_and_bad_rows_are_counted(tmp_path):
    root = tmp_path / "tars"
    make_tar(
        root / "0.tar",
        {"1.png": drawn(1), "nobody.png": drawn(2), f"x_{'a' * 32}.png": drawn(3), "by/path.png": drawn(4)},
    )
    rows = [
        {"id": 1, "tag_string_general": "one", "rating": "s"}, {"id": 77, "tag_string_general": "elsewhere", "rating": "g"},
        {"id": 3, "md5": "A" * 32, "tag_string_general": "three", "rating": "s"}, ["no row"],
        {"file_name": "by/path.png", "tags": ["four"], "rating": "safe"}, {"id": 1, "tag_string": {"__type": "x", "base64": ""}},
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = {c.path.name: c for c in IndexedTarSource(root, posts=tmp_path / "rows.jsonl")}
    assert {name: c.reason for name, c in found.items() if c.reason} == {
        "0.tar!nobody.png": "missing_metadata", "rows.jsonl line 4": "bad_metadata", "rows.jsonl line 6": "bad_metadata",
    }  # fmt: skip
    good = {name: (c.facts.tags["general"], c.facts.rating) for name, c in found.items() if not c.reason}
    assert good == {
        "0.tar!1.png": (["one"], "sensitive"), f"0.tar!x_{'a' * 32}.png": (["three"], "sensitive"),
        "path.png": (["four"], "general"),
    }  # fmt: skip
