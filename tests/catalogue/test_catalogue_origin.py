"""Origin out of all that speaks of it, pictures of our own runs, and facts that came later to posts."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from animeflow.catalogue import beside
from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.origin import Origin, origin_of
from animeflow.catalogue.own import INDEX, OwnSamples
from animeflow.catalogue.post import LATER, SCHEMA, Post
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.table import Catalogue
from animeflow.image.fingerprint import Fingerprint
from animeflow.sample import png

TAG, FIELD = "certain ai tag ai-generated", "declared ai_assisted tag ai-assisted"
TEXT, XMP = "certain ai png_text ComfyUI", "declared ai_assisted xmp"


def pixels(seed: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def packed(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("claimed", "told", "signs", "wanted"),
    [
        ("human", [], [], Origin("human")),
        ("unknown", [], [], Origin("unknown")),
        (
            "human",
            [],
            [TEXT],
            Origin("ai", (TEXT,), "ComfyUI"),
        ),  # a word for a whole folder is weaker than the file's own
        ("drawn_by_program", [], [TEXT], Origin("ai", (TEXT,), "ComfyUI")),
        ("unknown", [FIELD], [TEXT], Origin("ai_assisted", (FIELD, TEXT), "ComfyUI")),  # the site's people looked at it
        ("unknown", [TAG, FIELD], [], Origin("ai", (TAG, FIELD))),
        ("unknown", [], [XMP, TEXT], Origin("ai", (TEXT, XMP), "ComfyUI")),
        ("ai", [], [XMP], Origin("ai", (XMP,))),  # nothing that is possible takes back what was said for sure
    ],
)
def test_evidence_ranks(claimed: str, told: list[str], signs: list[str], wanted: Origin):
    assert origin_of(claimed, told, signs) == wanted
    assert origin_of(claimed, told[::-1], signs[::-1]) == wanted


def test_a_sample_of_ours_is_refused_under_any_name_text_or_packing(tmp_path: Path):
    runs, pictures = tmp_path / "runs", tmp_path / "pictures"
    pictures.mkdir()
    drawn = png.save(runs / "a" / "samples" / "100" / "0.png", pixels(1), {"prompt": "1girl"})
    png.save(runs / "a" / "samples" / "100" / "1.png", pixels(2), {"prompt": "1boy"})
    (pictures / "same.png").write_bytes(drawn.read_bytes())
    (pictures / "stripped.png").write_bytes(packed(pixels(1)))
    (pictures / "packed_anew.webp").write_bytes(b"")
    Image.fromarray(pixels(2)).save(pictures / "packed_anew.webp", lossless=True)
    (pictures / "hers.png").write_bytes(packed(pixels(3)))
    for _ in range(2):  # the second time out of the index
        catalogue = Catalogue(tmp_path / "set" / "catalogue")
        report = ingest(catalogue, FolderSource(pictures), workers=0, own=OwnSamples([runs, tmp_path / "nothing"]))
        assert report.rejected == {"own_sample": 3}
        assert [catalogue.file(post) for post in catalogue.posts()] == [pictures / "hers.png"]
    assert len((runs / INDEX).read_text().splitlines()) == 2
    (runs / INDEX).write_text("no index\n")
    assert OwnSamples([runs]).find("", b"") is None
    assert len((runs / INDEX).read_text().splitlines()) == 2


def test_a_persons_folder_called_samples_is_not_a_runs(tmp_path: Path):
    """The folder above a run may be any; nor is the index, which is kept there, one of the person's files."""
    pictures, drawn = tmp_path / "samples", tmp_path / "run" / "samples" / "0.png"
    pictures.mkdir()
    for seed in range(3):
        (pictures / f"{seed}.png").write_bytes(packed(pixels(seed)))
    png.save(drawn, pixels(2), {"prompt": "1girl"})
    (pictures / "gone.png").symlink_to(tmp_path / "nothing.png")
    for _ in range(2):
        report = ingest(Catalogue(tmp_path / "set"), FolderSource(tmp_path), workers=0, own=OwnSamples([tmp_path]))
        assert report.rejected == {"own_sample": 2, "missing_picture": 1}  # 2.png, and the sample itself
        assert report.found == 5 and len(Catalogue(tmp_path / "set")) == 2
    assert (tmp_path / INDEX).is_file()


def test_looks_stand_beside_the_table_and_running_twice_changes_no_file(tmp_path: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(3):
        (pictures / f"{seed}.png").write_bytes(packed(pixels(seed)))
    (pictures / "text.png").write_text("no picture")
    folder = tmp_path / "set" / "catalogue"
    before: dict[str, bytes] = {}
    for _ in range(2):
        ingest(Catalogue(folder), FolderSource(pictures), workers=0)
        files = {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        assert not before or files == before
        before = files
    uids = [post.uid for post in Catalogue(folder).posts()]
    prints = beside.read(folder / "prints.parquet", beside.PRINTS)
    assert prints["uid"].to_pylist() == sorted(uids)
    assert len({Fingerprint.unpack(value).pixels for value in prints["print"].to_pylist()}) == 3


def test_put_replaces_all_rows_of_a_picture_and_only_of_those(tmp_path: Path):
    file = tmp_path / "scores.parquet"
    rows = [{"uid": uid, "name": name, "score": 0.5} for uid in (1, 2) for name in ("a", "b")]
    assert beside.put(file, beside.SCORES, rows) and not beside.put(file, beside.SCORES, rows[::-1])
    assert beside.put(file, beside.SCORES, [{"uid": 1, "name": "c", "score": 1.0}])
    found = [(row["uid"], row["name"]) for row in beside.read(file, beside.SCORES).to_pylist()]
    assert found == [(1, "c"), (2, "a"), (2, "b")]


def test_facts_that_came_later_change_no_older_post(tmp_path: Path):
    """A catalogue written before them is read, and its posts keep their digests, so that no shard is written anew."""
    (tmp_path / "a.png").write_bytes(packed(pixels(0)))
    folder = tmp_path / "catalogue"
    ingest(Catalogue(folder), FolderSource(tmp_path, origin="human"), workers=0)
    (post,) = Catalogue(folder).posts()
    assert not set(LATER) & set(post.as_dict())
    old = pq.read_table(folder / "catalogue.parquet").drop_columns(list(LATER))
    pq.write_table(old, folder / "catalogue.parquet")
    (again,) = Catalogue(folder).posts("origin = 'human' and generator is null")
    assert again == post and again.digest() == post.digest()


def test_later_facts_come_back_from_rows_and_json():
    post = Post(
        1, "0" * 64, "a.png", 8, 8, 100, "PNG", {}, {}, "general", None, None, "folder", None, None, "ai", None, "train",
        licence="CC0", snapshot="2026-02-28", evidence=(TEXT, XMP), generator="ComfyUI", generation=2, parent="17",
    )  # fmt: skip
    row = pa.Table.from_pylist([post.as_row()], SCHEMA).to_pylist()[0]
    tags = {"tags": {}}
    assert Post.from_row(row | tags) == post == Post.from_dict(json.loads(json.dumps(post.as_dict())))
