"""What a folder of pictures is taken for: every file used or dropped with a reason, a clear word where nothing can be learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animeflow.app.lora import length
from animeflow.app.lora.found import Found
from animeflow.app.lora.job import blocklist_of
from animeflow.app.lora.scan import require_enough, scan, slug
from animeflow.app.lora.situations import prompts
from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import DataError
from animeflow.data.shard import write_shards
from animeflow.image.bucket import Bucket, BucketPlan
from animeflow.text.importers.build import build


def draw(path: Path, *, seed: int = 0, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, len(mode)), np.uint8)
    Image.fromarray(pixels, mode).save(path)
    return path


def fill(folder: Path, count: int, *, first: int = 0, tags: str | None = "1girl, blue hair, smile") -> None:
    for i in range(count):
        draw(folder / f"{i:02d}.png", seed=first + i)
        if tags is not None:
            (folder / f"{i:02d}.txt").write_text(tags)


def test_what_the_catalogue_will_refuse_is_no_picture_here_either(tmp_path: Path) -> None:
    """A word of the user's list, by another of its names too."""
    table = tmp_path / "tags.csv"
    table.write_text("tag,category,count,ja\nsmile,general,9,笑顔\nhat,general,5,帽子\n")
    build([table], tmp_path / "tags.db")
    for name, tags in (("a", "1girl, 笑顔"), ("b", "1girl, smile"), ("c", "帽子")):
        draw(tmp_path / "p" / f"{name}.png", seed=ord(name))
        (tmp_path / "p" / f"{name}.txt").write_text(tags)
    words = ("learn.rank=4", "catalogue.blocklist=[smile]", f"text.database={tmp_path / 'tags.db'}")
    for said, kept in (((), "abc"), (words[:2], "ac"), (words, "c")):
        found = scan(tmp_path / "p", blocklist=blocklist_of(said))
        assert "".join(sorted(seen.path.stem for group in found.groups for seen in group.pictures)) == kept


def accounted(found: Found) -> set[str]:
    used = {seen.path for group in found.groups for seen in group.pictures}
    dropped = {each.path for each in found.dropped}
    assert not used & dropped
    return {str(path.relative_to(found.folder)) for path in used | dropped}


def test_every_file_is_used_or_dropped_with_a_reason(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    draw(tmp_path / "bare.png", seed=50)
    draw(tmp_path / "sentence.webp", seed=51)
    (tmp_path / "sentence.caption").write_text("A girl smiles at the camera.")
    (tmp_path / "copy.png").write_bytes((tmp_path / "00.png").read_bytes())
    (tmp_path / "cut.png").write_bytes((tmp_path / "01.png").read_bytes()[:-40])
    (tmp_path / "noise.jpg").write_bytes(b"no picture at all")
    (tmp_path / "lost.txt").write_text("1girl")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    draw(tmp_path / "banned.png", seed=60)
    (tmp_path / "banned.txt").write_text("1girl, loli")
    found = scan(tmp_path)
    (group,) = found.groups
    assert dict(group.captions) == {"tags": 4, "none": 1, "sentences": 1}
    reasons = {each.path.name: each.reason for each in found.dropped}
    assert reasons == {
        "copy.png": "duplicate_file", "cut.png": "truncated", "noise.jpg": "unknown_format", "lost.txt": "missing_picture",
        "notes.pdf": "no_picture", "banned.png": "blocked",
    }  # fmt: skip
    texts = {"sentence.caption", "banned.txt", *(f"{i:02d}.txt" for i in range(4))}
    assert accounted(found) | texts == {path.name for path in tmp_path.iterdir()}
    assert [(seen.width, seen.height) for seen in group.pictures if seen.path.name == "00.png"] == [(48, 64)]


def test_the_catalogue_takes_what_the_scan_takes(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    fill(folder, 5)
    (folder / "cut.png").write_bytes((folder / "01.png").read_bytes()[:-40])
    draw(folder / "00.mask.png", seed=90)
    draw(folder / "masks" / "01.png", seed=91)
    found = scan(folder)
    catalogue = Catalogue(tmp_path / "catalogue")
    ingest(catalogue, FolderSource(folder), workers=0)
    assert {post.uid for post in catalogue.posts()} == {seen.uid for seen in found.pictures}


def test_a_folder_beyond_the_budget_is_read_by_its_heads_alone(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    few = scan(tmp_path, decoded=64 * 48)
    assert [seen.proven for seen in few.pictures] == [True, False, False]
    assert [(s.uid, s.width, s.height, s.format) for s in few.pictures] == [
        (s.uid, s.width, s.height, s.format) for s in scan(tmp_path).pictures
    ]


def test_sub_folders_with_pictures_are_concepts(tmp_path: Path) -> None:
    fill(tmp_path / "Sylvie Green", 3)
    fill(tmp_path / "10_eileen girl", 2, first=10)
    fill(tmp_path / "reg", 4, first=20)
    found = scan(tmp_path)
    assert [(g.name, g.title, len(g.pictures), g.regularisation) for g in found.groups] == [
        ("eileen_girl", "eileen girl", 2, False), ("sylvie_green", "Sylvie Green", 3, False), ("reg", "reg", 4, True),
    ]  # fmt: skip
    assert len(found.notes) == 1 and "data.loader.repeats={eileen_girl: 10}" in found.notes[0]
    assert len(found.pictures) == 5


def test_pictures_beside_sub_folders_are_one_concept_without_those_of_the_class(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    fill(tmp_path / "more", 2, first=10)
    fill(tmp_path / "regularisation", 3, first=20)
    own, plain = scan(tmp_path).groups
    assert {seen.path.parent.name for seen in own.pictures} == {tmp_path.name, "more"}
    assert plain.regularisation and len(plain.pictures) == 3


@pytest.mark.parametrize("nested", [False, True])
def test_what_our_runs_and_sets_drew_is_never_learned_from(tmp_path: Path, nested: bool) -> None:
    fill(tmp_path / "mio" if nested else tmp_path, 3)
    whole = accounted(scan(tmp_path))
    names = [group.name for group in scan(tmp_path).groups]
    draw(tmp_path / "runs" / "mio_tiny" / "samples" / "0" / "0.png", seed=70)
    (tmp_path / "runs" / "mio_tiny" / "command.json").write_text("[]")
    draw(tmp_path / "elsewhere" / "pictures" / "0.png", seed=71)
    (tmp_path / "elsewhere" / "shards").mkdir()
    (tmp_path / "elsewhere" / "shards" / "manifest.json").write_text("{}")
    found = scan(tmp_path)
    assert accounted(found) == whole and [group.name for group in found.groups] == names
    assert "elsewhere, runs/mio_tiny" in found.notes[-1]
    catalogue = Catalogue(tmp_path / "elsewhere" / "catalogue")
    ingest(catalogue, FolderSource(tmp_path), workers=0)
    assert {post.uid for post in catalogue.posts()} == {seen.uid for seen in found.pictures}
    if not nested:  # one that is named itself is meant
        assert len(scan(tmp_path / "runs" / "mio_tiny" / "samples").pictures) == 1


def test_masks_are_no_pictures_of_the_concept(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    draw(tmp_path / "00.mask.png", seed=90)
    draw(tmp_path / "masks" / "01.png", seed=91)
    draw(tmp_path / "clear.png", seed=92, mode="RGBA")
    (group,) = scan(tmp_path).groups
    assert {seen.path.name: seen.masked for seen in group.pictures} == {
        "00.png": "sidecar", "01.png": "sidecar", "02.png": "", "clear.png": "alpha",
    }  # fmt: skip


def test_masks_are_judged_as_the_shards_will(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    for i, mask in enumerate((np.zeros((64, 48)), np.full((64, 48), 255), np.eye(64, 48) * 255, np.eye(32, 24) * 255)):
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / f"{i:02d}.mask.png")
    Image.fromarray(np.eye(64, 64, dtype=np.uint8)).save(tmp_path / "04.mask.png")
    Image.fromarray(np.zeros((64, 48, 4), np.uint8)).save(tmp_path / "05.png")
    found = scan(tmp_path)
    assert [seen.masked for seen in found.pictures] == ["empty", "", "sidecar", "sidecar", "empty"]
    (dropped,) = found.dropped
    assert (dropped.path.name, dropped.reason) == ("04.png", "mask_aspect") and dropped.uid is not None
    plain = scan(tmp_path, masks=False)
    assert not plain.dropped and not any(seen.masked for seen in plain.pictures)

    catalogue = Catalogue(tmp_path / "catalogue")
    ingest(catalogue, FolderSource(tmp_path), workers=0)
    plan = BucketPlan([Bucket(64, 48)], 16)
    shards = write_shards(catalogue.posts(), plan, out=tmp_path / "shards", root=catalogue.root, masks="auto")
    assert [each.reason for each in shards.rejected] == [dropped.reason]
    assert (shards.masks["sidecar"], len(shards.masks["empty"])) == (2, 2)


def test_concepts_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("Mio!", "mio", "日本"):
        fill(tmp_path / name, 2, first=len(name))
    names = [group.name for group in scan(tmp_path).groups]
    assert len(set(names)) == 3 and {"mio", "mio_2"} < set(names)
    assert slug("2B") == "c_2b" and slug("日本") != slug("中国")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "the folder is empty"),
        (lambda folder: (folder / "a.txt").write_text("1girl"), "captions, but no picture"),
        (lambda folder: (folder / "a.pdf").write_bytes(b"%PDF-1.7"), "there is no picture among 1 files"),
        (
            lambda folder: (folder / "a.png").write_bytes(b"broken"),
            "none of the pictures can be used: 1 unknown format",
        ),
        (lambda folder: fill(folder / "reg", 2), "regularisation pictures only"),
    ],
)
def test_a_folder_of_nothing_says_so(tmp_path: Path, make, said: str) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        scan(tmp_path)
    assert caught.value.do


def test_a_file_and_a_missing_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a file"):
        scan(draw(tmp_path / "a.png"))
    with pytest.raises(DataError, match="there is no folder"):
        scan(tmp_path / "none")


def test_one_picture_is_refused_unless_it_is_wanted(tmp_path: Path) -> None:
    fill(tmp_path / "mio", 1)
    found = scan(tmp_path / "mio")
    with pytest.raises(DataError, match="one picture of mio"):
        require_enough(found)
    require_enough(found, least=1)


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pictures", [2, 5, 12, 20, 30, 60, 200, 1000])
def test_a_run_is_long_enough_and_never_shorter_for_more_pictures(pictures: int) -> None:
    seen = length.images([pictures], batch=4)
    assert seen % 4 == 0 and seen >= 600 * 4 and seen >= 10 * pictures
    assert length.images([pictures + 1], batch=4) >= seen
    if pictures <= 300:
        assert 1500 <= length.views(pictures) <= 3000


def test_concepts_are_added_up_and_seen_alike() -> None:
    assert length.images([40, 40], batch=8) == 2 * 3000
    assert length.repeats({"a": 10, "b": 31, "c": 30}) == {"a": 3}
    assert length.repeats({"a": 10}) == {}


@pytest.mark.parametrize("pictures", [6, 11, 12, 20, 45, 200])
def test_the_share_holds_out_just_what_is_wanted(pictures: int) -> None:
    uids = [int.from_bytes(np.random.default_rng(i).bytes(7), "big") for i in range(pictures)]
    wanted = length.held_out(pictures)
    share = length.val_share(uids, wanted)
    assert wanted == max(3, round(pictures / 10)) if pictures >= 12 else wanted == 1
    assert length.split(uids, share) >= wanted
    assert length.split(uids, share - 0.001) < wanted
    assert length.val_share(uids, 0) == 0.0 == length.held_out(5)


def test_the_last_prompt_shows_the_class_without_the_trigger() -> None:
    one, several = prompts([("eileen", "1girl")]), prompts([("a", "1girl"), ("b", "1boy"), ("c", "1girl")])
    assert len(one) == 5 and all(p.startswith("eileen, 1girl, ") for p in one[:4])
    assert "eileen" not in one[-1] and one[-1].startswith("1girl")
    assert [p[0] for p in several] == ["a", "a", "b", "b", "c", "c", "1"]
    assert len(set(one)) == 5
