"""Files that are renamed, swapped or copied: the post follows its bytes, and the next run changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from animeflow.catalogue import ingest as module
from animeflow.catalogue.ingest import IngestReport, ingest
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.table import Catalogue
from animeflow.core.files import sha256_file
from animeflow.image.encode import encode_png


def drawn(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (24 + seed, 20, 3), dtype=np.uint8))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate("abcd"):
        (folder / f"{name}.png").write_bytes(drawn(number))
        (folder / f"{name}.txt").write_text(f"1girl, tag {name}")
    return folder


def take(pictures: Path, folder: str = "catalogue") -> tuple[Catalogue, IngestReport]:
    catalogue = Catalogue(pictures.parent / folder)
    report = ingest(catalogue, FolderSource(pictures), workers=0)
    assert report.found == report.added + report.known + report.rejected.total()
    for post in catalogue.posts():
        assert sha256_file(catalogue.file(post)) == post.sha256, "a row names a file that is not its own"
    return catalogue, report


def state(catalogue: Catalogue) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in catalogue.folder.rglob("*") if file.is_file()}


def swap(folder: Path, one: str, other: str) -> None:
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)


def rename(folder: Path) -> None:
    (folder / "b.png").rename(folder / "renamed.png")


def rename_to_the_front(folder: Path) -> None:
    (folder / "b.png").rename(folder / "0.png")


def rename_with_a_copy(folder: Path) -> None:
    (folder / "b.png").rename(folder / "x.png")
    (folder / "y.png").write_bytes((folder / "x.png").read_bytes())


def swap_two(folder: Path) -> None:
    swap(folder, "a.png", "c.png")


def turn_three(folder: Path) -> None:
    swap(folder, "a.png", "b.png")
    swap(folder, "b.png", "c.png")


def put_another_in_its_place(folder: Path) -> None:
    (folder / "b.png").rename(folder / "later.png")
    (folder / "b.png").write_bytes(drawn(9))


def put_a_broken_one_in_its_place(folder: Path) -> None:
    (folder / "b.png").rename(folder / "later.png")
    (folder / "b.png").write_bytes(drawn(9)[:-50])


def overwrite_with_a_copy(folder: Path) -> None:
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())


def rename_the_folder_below(folder: Path) -> None:
    (folder / "below").mkdir()
    for name in "ab":
        (folder / f"{name}.png").rename(folder / "below" / f"{name}.png")
        (folder / f"{name}.txt").rename(folder / "below" / f"{name}.txt")


# change, posts afterwards, (added, known, updated), rejected
CHANGES = [
    (rename, 4, (0, 4, 1), {"missing_picture": 1}),
    (rename_to_the_front, 4, (0, 4, 1), {"missing_picture": 1}),
    (rename_with_a_copy, 4, (0, 4, 1), {"missing_picture": 1, "duplicate_file": 1}),
    (swap_two, 4, (0, 4, 2), {}),
    (turn_three, 4, (0, 4, 3), {}),
    (put_another_in_its_place, 5, (1, 4, 1), {}),
    (put_a_broken_one_in_its_place, 4, (0, 4, 1), {"truncated": 1}),
    (overwrite_with_a_copy, 3, (0, 3, 0), {"duplicate_file": 1}),
    (rename_the_folder_below, 4, (0, 4, 2), {}),
]


@pytest.mark.parametrize("commits", ["at_the_end", "at_every_file"])
@pytest.mark.parametrize("change, posts, counts, rejected", CHANGES, ids=[row[0].__name__ for row in CHANGES])
def test_posts_follow_their_bytes_and_the_next_run_changes_nothing(
    pictures: Path,
    change: Callable[[Path], None],
    posts: int,
    counts: tuple[int, int, int],
    rejected: dict[str, int],
    commits: str,
    monkeypatch: pytest.MonkeyPatch,
):
    if commits == "at_every_file":
        monkeypatch.setattr(module, "WINDOW", 1)
        monkeypatch.setattr(module, "COMMIT_EVERY", 1)
    take(pictures)
    change(pictures)
    catalogue, report = take(pictures)
    assert (report.added, report.known, report.updated) == counts and dict(report.rejected) == rejected
    assert len(catalogue) == len(catalogue.posts()) == posts
    before = state(catalogue)
    catalogue, again = take(pictures)
    assert (again.added, again.known, again.updated, again.decoded) == (0, posts, 0, 0)
    assert dict(again.rejected) == rejected and state(catalogue) == before
    fresh, _ = take(pictures, "fresh")
    assert {p.sha256: p for p in catalogue.posts()} == {p.sha256: p for p in fresh.posts()}


@pytest.mark.parametrize("change", [swap_two, turn_three, put_another_in_its_place])
def test_a_run_that_is_killed_amid_moves_heals(
    pictures: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
):
    take(pictures)
    change(pictures)
    monkeypatch.setattr(module, "WINDOW", 1)
    monkeypatch.setattr(module, "COMMIT_EVERY", 1)
    monkeypatch.setattr(module._Run, "settle", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        take(pictures)
    monkeypatch.undo()
    catalogue, _ = take(pictures)
    before = state(catalogue)
    assert state(take(pictures)[0]) == before
    fresh, _ = take(pictures, "fresh")
    assert {p.sha256: p for p in catalogue.posts()} == {p.sha256: p for p in fresh.posts()}


def test_a_copy_takes_over_when_its_first_file_is_blocked(pictures: Path):
    """The copy comes first in the order of the source, so at its turn nothing is known of the other's fate."""
    (pictures / "0.png").write_bytes((pictures / "b.png").read_bytes())
    (pictures / "0.txt").write_text("1girl, tag b")
    (pictures / "0.png").rename(pictures / "hidden")
    take(pictures)
    (pictures / "hidden").rename(pictures / "0.png")
    assert dict(take(pictures)[1].rejected) == {"duplicate_file": 1}
    (pictures / "b.png").write_bytes(drawn(1)[:-50])
    catalogue, report = take(pictures)
    assert (report.added, report.known, dict(report.rejected)) == (0, 4, {"truncated": 1})
    assert "pictures/0.png" in [post.path for post in catalogue.posts()]


def test_a_second_source_takes_over_what_the_first_no_longer_has(pictures: Path, tmp_path: Path):
    catalogue, _ = take(pictures)
    other = tmp_path / "other"
    other.mkdir()
    (other / "copy.png").write_bytes((pictures / "a.png").read_bytes())
    report = ingest(catalogue, FolderSource(other), workers=0)
    assert (report.known, dict(report.rejected)) == (0, {"duplicate_file": 1})
    (pictures / "a.png").write_bytes(drawn(8))
    report = ingest(catalogue, FolderSource(other), workers=0)
    assert (report.known, report.updated, dict(report.rejected)) == (1, 1, {})
    assert (len(catalogue), take(pictures)[1].added) == (4, 1)


def test_a_renamed_root_keeps_every_post(pictures: Path):
    take(pictures)
    pictures.rename(pictures.with_name("moved"))
    catalogue, report = take(pictures.with_name("moved"))
    assert (report.added, report.known, report.updated, len(catalogue)) == (0, 4, 4, 4)
