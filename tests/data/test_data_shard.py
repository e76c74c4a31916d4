"""Shards: nothing lost, nothing twice, the same bytes whatever happened on the way, and stock webdataset reads them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_toys import PLAN, draw, make_posts, tree
from kill_driver import write

from animeflow.catalogue.post import Post
from animeflow.core import files
from animeflow.core.errors import ConfigError, DataError
from animeflow.data.assign import select
from animeflow.data.manifest import Manifest, key
from animeflow.data.reader import ShardSet, stream
from animeflow.data.shard import write_shards
from animeflow.image.bucket import BucketPlan
from animeflow.image.decode import decode
from animeflow.image.resize import fit

DRIVER = Path(__file__).with_name("kill_driver.py")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_posts(folder, 60)
    return folder


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards written without any interruption."""
    out = tmp_path_factory.mktemp("whole")
    write(pictures, out, "one")
    return out


def test_every_picture_is_in_one_shard_of_its_bucket_pixel_for_pixel(pictures: Path, whole: Path):
    posts, shards = {post.uid: post for post in make_posts(pictures, 60)}, ShardSet(whole)
    assert shards.uids == sorted(posts) and shards.manifest.found == shards.manifest.written == 60
    for number, post in enumerate(posts.values()):
        sample, bucket = shards.sample(post.uid), PLAN.assign(post.height, post.width)
        expected, crop = fit(draw(number, post.height, post.width), bucket)
        assert np.array_equal(decode(sample.png).pixels, expected)
        assert sample.facts["crop"] == crop.as_dict() and sample.facts["tags"] == post.tags
        assert shards.bucket_of(post.uid) == str(bucket) == sample.facts["bucket"]
        assert shards.split_of(post.uid) == post.split
        assert "path" not in sample.facts, "where a file lies on one machine is no fact of the picture"


def test_stock_webdataset_reads_the_same_samples(whole: Path):
    import webdataset

    tars = sorted(str(path) for path in whole.rglob("*.tar"))
    read = {s["__key__"]: s for s in webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8")}
    shards = ShardSet(whole)
    assert sorted(read) == [key(uid) for uid in shards.uids]
    for uid in shards.uids:
        assert read[key(uid)]["json"] == shards.facts(uid)
        assert np.array_equal(read[key(uid)]["png"], decode(shards.sample(uid).png).pixels)


def test_members_of_a_sample_lie_side_by_side_in_order_of_uid(whole: Path):
    for path in whole.rglob("*.tar"):
        with tarfile.open(path) as archive:
            names = archive.getnames()
            assert {(member.mtime, member.uid, member.gid) for member in archive} == {(0, 0, 0)}
        stems = [name.rsplit(".", 1)[0] for name in names]
        assert stems[::2] == stems[1::2] == sorted(stems[::2]) and len(stems[::2]) <= 8


def test_the_manifest_says_what_is_there(pictures: Path, whole: Path):
    manifest = Manifest.read(whole)
    assert {s["name"] for s in manifest.shards} == {str(p.relative_to(whole)) for p in whole.rglob("*.tar")}
    assert sum(row["samples"] for row in manifest.buckets.values()) == 60
    assert manifest.config["name"] == "one" and manifest.config["shard"]["buckets"] == ["32x32", "32x48", "48x32"]
    assert not list(ShardSet(whole).verify())


def test_a_stream_gives_every_sample_without_an_index(whole: Path):
    shards = ShardSet(whole)
    assert {s.uid: s for s in stream(whole)} == {uid: shards.sample(uid) for uid in shards.uids}


def test_worker_processes_write_the_same_bytes(pictures: Path, whole: Path, tmp_path: Path):
    write(pictures, tmp_path / "out", "one", workers=2)
    assert tree(tmp_path / "out") == tree(whole)


def test_running_twice_writes_nothing(pictures: Path, whole: Path):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.tar")}
    write(pictures, whole, "one")
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.tar")} == before


@pytest.mark.parametrize("seed", [0, 1])
def test_kill_9_at_any_file_operation_then_resume_gives_the_same_bytes(
    pictures: Path, whole: Path, tmp_path: Path, seed: int
):
    def drive(config: str) -> int:
        command = [sys.executable, str(DRIVER), config, str(pictures), str(tmp_path / "out"), str(seed)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    kills = drive("two")  # from nothing, then over the finished shards of another config
    kills += drive("one")
    assert kills >= 10
    assert tree(tmp_path / "out") == tree(whole)


def test_kill_9_of_the_parent_ends_its_workers_and_the_rest_resumes(pictures: Path, whole: Path, tmp_path: Path):
    code = (
        f"import sys; sys.path.insert(0, {str(DRIVER.parent)!r})\n"
        "from pathlib import Path\nfrom kill_driver import write\n"
        "if __name__ == '__main__':\n"
        f"    write(Path({str(pictures)!r}), Path({str(tmp_path / 'out')!r}), 'one', workers=2)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    group, deadline = process.pid, time.monotonic() + 300
    while not list(tmp_path.glob("out/.staging/*/*.tar")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _alive(group) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(group), "workers outlive a killed parent"
    write(pictures, tmp_path / "out", "one")
    assert tree(tmp_path / "out") == tree(whole)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_another_config_replaces_the_shards_and_leaves_other_files_alone(pictures: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "out"
    write(pictures, out, "one")
    (out / "notes.txt").write_text("mine")
    write(pictures, out, "two")
    assert not (out / "48x32").exists() and (out / "notes.txt").read_text() == "mine"
    assert set(Manifest.read(out).buckets) == {"32x32", "32x48"} and len(ShardSet(out)) == 60
    (out / "notes.txt").unlink()
    write(pictures, out, "one")
    assert tree(out) == tree(whole)


def test_in_equals_written_plus_rejected_with_reasons(tmp_path: Path):
    posts = make_posts(tmp_path / "p", 12)
    small = replace(posts[0], uid=1, width=20, height=20)
    (tmp_path / "p" / posts[1].path).unlink()
    (tmp_path / "p" / posts[2].path).write_bytes(b"another picture")
    broken = tmp_path / "p" / "broken.png"
    broken.write_bytes((tmp_path / "p" / posts[3].path).read_bytes()[:200])
    cut = replace(posts[3], uid=2, path="broken.png", sha256=files.sha256_file(broken))
    manifest = write_shards([*posts, small, cut, posts[4]], PLAN, tmp_path / "out", root=tmp_path / "p", max_samples=4)
    assert manifest.found == 15 == manifest.written + len(manifest.rejected)
    assert manifest.reasons == {"too_small": 1, "missing_file": 1, "changed_file": 1, "truncated": 1, "twice": 1}
    assert Manifest.read(tmp_path / "out") == manifest and len(ShardSet(tmp_path / "out")) == 10


def test_pictures_that_would_lose_too_much_to_the_crop_are_listed(tmp_path: Path):
    posts = make_posts(tmp_path / "p", 6)
    panorama = replace(posts[5], uid=1, width=5842, height=720)
    options = {"root": tmp_path / "p", "max_samples": 4}
    manifest = write_shards([*posts[:5], panorama], PLAN, tmp_path / "out", max_crop=0.5, **options)
    assert [(r.path, r.reason) for r in manifest.rejected] == [(panorama.path, "too_cropped")]
    assert "720x5842 would lose 82% of its area to the crop for 32x48" in manifest.rejected[0].detail
    assert manifest.config["shard"]["max_crop"] == 0.5 and manifest.written == 5
    exact = replace(posts[0], uid=2, width=128, height=64)  # resized to 32x64, of which a quarter goes
    for share, kept in ((0.25, 1), (0.249, 0)):
        assert sum(map(len, select([exact], PLAN, max_crop=share)[0].values())) == kept
    with pytest.raises(ConfigError, match="not a share"):
        write_shards(posts, PLAN, tmp_path / "out", max_crop=1.5, **options)


def test_a_changed_fact_rewrites_only_its_shard(tmp_path: Path):
    posts = make_posts(tmp_path / "p", 24)
    options = {"root": tmp_path / "p", "max_samples": 4}
    write_shards(posts, PLAN, tmp_path / "out", **options)
    before = tree(tmp_path / "out")
    posts[5] = replace(posts[5], captions={"en": "Another sentence."})
    write_shards(posts, PLAN, tmp_path / "out", **options)
    after = tree(tmp_path / "out")
    assert len([name for name in before if name.endswith(".tar") and before[name] != after[name]]) == 1
    assert ShardSet(tmp_path / "out").facts(posts[5].uid)["captions"] == {"en": "Another sentence."}


def test_shards_keep_below_their_size(tmp_path: Path):
    posts, limit = make_posts(tmp_path / "p", 60), 100_000
    write_shards(posts, PLAN, tmp_path / "out", root=tmp_path / "p", max_bytes=limit)
    sizes = [path.stat().st_size for path in (tmp_path / "out").rglob("*.tar")]
    assert len(sizes) > 3 and max(sizes) <= limit
    with pytest.raises(ConfigError, match="cannot hold one picture"):
        write_shards(posts, PLAN, tmp_path / "out", root=tmp_path / "p", max_bytes=1000)


def test_nothing_usable_is_an_error_that_names_the_first_reason(tmp_path: Path):
    posts = make_posts(tmp_path / "p", 3)
    with pytest.raises(DataError, match=r"none of 3 pictures could be used.*missing_file"):
        write_shards(posts, PLAN, tmp_path / "out", root=tmp_path / "elsewhere")
    with pytest.raises(DataError, match="too_small"):
        write_shards(posts, BucketPlan.explicit(["512x512"]), tmp_path / "out", root=tmp_path / "p")
    with pytest.raises(DataError, match="no picture"):
        write_shards([], PLAN, tmp_path / "out")


@pytest.mark.parametrize("fate", ["away", "changed", "all away"])
def test_a_picture_whose_file_comes_back_comes_into_its_shard(tmp_path: Path, fate: str):
    posts, out, folder = make_posts(tmp_path / "p", 8), tmp_path / "out", tmp_path / "p"
    never = tree_of_shards(posts, folder, tmp_path / "never")
    gone = posts if fate == "all away" else posts[2:3]
    kept = {post.path: (folder / post.path).read_bytes() for post in gone}
    for path in kept:
        (folder / path).write_bytes(b"another") if fate == "changed" else (folder / path).unlink()
    if fate == "all away":
        with pytest.raises(DataError, match="missing_file"):
            write_shards(posts, PLAN, out, root=folder)
    else:
        assert write_shards(posts, PLAN, out, root=folder).written == 7
        assert write_shards(posts, PLAN, out, root=folder).written == 7  # still not there
    for path, data in kept.items():
        (folder / path).write_bytes(data)
    assert tree_of_shards(posts, folder, out) == never


def tree_of_shards(posts: list[Post], folder: Path, out: Path) -> dict[str, bytes]:
    assert write_shards(posts, PLAN, out, root=folder).written == len(posts)
    return tree(out)


# -- broken shards -----------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(pictures: Path, tmp_path: Path) -> tuple[ShardSet, Path, int]:
    """An opened set, one of its tars, and a picture in the middle of it."""
    write(pictures, tmp_path / "out", "one")
    shards = ShardSet(tmp_path / "out")
    tar = sorted((tmp_path / "out").rglob("*.tar"))[1]
    uids = [uid for uid in shards.in_file_order() if shards.shard_of(uid) == tar]
    return shards, tar, uids[len(uids) // 2]


def test_a_flipped_byte_is_found_and_named(broken: tuple[ShardSet, Path, int]):
    shards, tar, uid = broken
    data = bytearray(tar.read_bytes())
    data[data.index(shards.sample(uid).png) + 100] ^= 1
    tar.write_bytes(data)
    with pytest.raises(DataError, match="not those that were written") as caught:
        shards.sample(uid)
    assert caught.value.where == str(tar)
    assert [error.where for error in shards.verify()] == [str(tar)]
    others = [u for u in shards.uids if u != uid]
    assert all(shards.sample(u).uid == u for u in others), "the other samples are untouched"


@pytest.mark.parametrize("fault", ["truncated", "missing"])
def test_a_truncated_or_missing_shard_is_found_and_named(broken: tuple[ShardSet, Path, int], fault: str):
    shards, tar, uid = broken
    if fault == "missing":
        tar.unlink()
    else:
        os.truncate(tar, 700)
    for read in (lambda: shards.sample(uid), lambda: ShardSet(shards.folder)):
        with pytest.raises(DataError) as caught:
            read()
        assert caught.value.where == str(tar)
    if fault == "truncated":
        with pytest.raises(DataError) as caught:
            list(stream(shards.folder))
        assert caught.value.where == str(tar)


def test_writing_again_repairs_broken_shards(pictures: Path, whole: Path, broken: tuple[ShardSet, Path, int]):
    shards, tar, _ = broken
    os.truncate(tar, 700)
    write(pictures, shards.folder, "one")
    assert tree(shards.folder) == tree(whole)


def test_folders_that_are_no_finished_shards_are_refused(tmp_path: Path, broken: tuple[ShardSet, Path, int]):
    with pytest.raises(DataError, match="no finished shards"):
        ShardSet(tmp_path)
    with pytest.raises(DataError, match="no shards"):
        list(stream(tmp_path / "nothing"))
    folder = broken[0].folder
    (folder / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="format 99"):
        ShardSet(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        ShardSet(folder)
