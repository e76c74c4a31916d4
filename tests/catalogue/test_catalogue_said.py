"""Two sources have the same bytes: what one says of them counts for both, in any order, and until it no longer says so."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from animeflow.catalogue import ingest as module
from animeflow.catalogue.ingest import IngestReport, ingest
from animeflow.catalogue.post import Post
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import DataError
from animeflow.image.encode import encode_png

AI = "certain ai tag ai-generated"


def drawn(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (24 + seed, 20, 3), dtype=np.uint8))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """a and b both have x; each has a picture of its own."""
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(drawn(7))
        (tmp_path / name / "own.png").write_bytes(drawn(number))
        say(tmp_path, name, "1girl")
    return tmp_path


def say(folders: Path, name: str, text: str) -> None:
    (folders / name / "x.txt").write_text(text)


def take(folders: Path, name: str, **options) -> IngestReport:
    report = ingest(Catalogue(folders / "set"), FolderSource(folders / name, **options), workers=0)
    assert report.found == report.added + report.known + report.rejected.total()
    return report


def of_x(folders: Path) -> Post | None:
    return next((post for post in Catalogue(folders / "set").posts() if Path(post.path).name == "x.png"), None)


def listed(folders: Path) -> Counter[tuple[str, str]]:
    return Counter((row.path, row.reason) for row in Catalogue(folders / "set").rejections)


def state(folders: Path) -> dict[str, tuple[bytes, int]]:
    files = (file for file in (folders / "set").rglob("*") if file.is_file())
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


@pytest.mark.parametrize("order", ["ab", "ba", "aba", "bab", "abb", "baa"])
@pytest.mark.parametrize("speaker", "ab")
def test_evidence_of_either_source_reaches_the_post_and_goes_again(folders: Path, order: str, speaker: str):
    say(folders, speaker, "1girl, ai-generated")
    for name in order:
        take(folders, name)
    post = of_x(folders)
    assert post is not None and (post.origin, post.evidence) == ("ai", (AI,))
    before = state(folders)
    for name in "abba":
        assert take(folders, name).told == 0
    assert state(folders) == before
    say(folders, speaker, "1girl")
    take(folders, speaker)
    post = of_x(folders)
    assert post is not None and (post.origin, post.evidence) == ("unknown", ())
    assert Path(post.path).parent.name == order[0], "the first one is kept"


def test_both_say_it_and_one_no_longer_does(folders: Path):
    for name in "ab":
        say(folders, name, "1girl, ai-generated")
        take(folders, name)
    for name in "ab":
        say(folders, name, "1girl")
        take(folders, name)
        assert (post := of_x(folders)) and post.origin == ("ai" if name == "a" else "unknown")


def test_evidence_goes_with_the_file_that_it_was_about(folders: Path):
    say(folders, "b", "ai-generated")
    take(folders, "a")
    take(folders, "b")
    (folders / "b" / "x.png").unlink()
    take(folders, "b")
    assert (post := of_x(folders)) and post.origin == "unknown"


def test_the_facts_of_a_post_stay_while_its_file_is_away(folders: Path):
    say(folders, "a", "ai-generated")
    take(folders, "a")
    for file in ("x.png", "x.txt"):
        (folders / "a" / file).rename(folders / file)
    take(folders, "a")
    assert (post := of_x(folders)) and post.evidence == (AI,)


def test_the_claim_for_a_folder_is_believed_of_its_copies(folders: Path):
    take(folders, "a", origin="human")
    take(folders, "b", origin="ai")
    take(folders, "a", origin="human")
    assert (post := of_x(folders)) and post.origin == "ai"


@pytest.mark.parametrize("order", ["ab", "ba", "aba", "bab"])
@pytest.mark.parametrize("speaker", "ab")
def test_what_one_source_forbids_comes_in_by_none(folders: Path, order: str, speaker: str):
    say(folders, speaker, "1girl, lolicon")
    reports = [take(folders, name) for name in order]
    assert of_x(folders) is None and len(Catalogue(folders / "set")) == 2
    came_first = order[0] != speaker
    assert sum(report.withdrawn for report in reports) == came_first
    for name in "ab":
        assert take(folders, name).rejected == {"blocked": 1}
    assert listed(folders) == {("a/x.png", "blocked"): 1, ("b/x.png", "blocked"): 1}
    assert all(row.detail == "" for row in Catalogue(folders / "set").rejections), "what was found is not shown"
    before = state(folders)
    take(folders, "b"), take(folders, "a")
    assert state(folders) == before
    say(folders, speaker, "1girl")
    take(folders, speaker)
    assert (post := of_x(folders)) and post.path == f"{speaker}/x.png"


def test_what_was_forbidden_and_deleted_is_still_forbidden(folders: Path):
    say(folders, "b", "lolicon")
    take(folders, "b")
    (folders / "b" / "x.png").unlink()
    take(folders, "b")
    assert take(folders, "a").rejected == {"blocked": 1} and of_x(folders) is None


@pytest.mark.parametrize("copy", ["0", "z"])
def test_of_two_copies_in_one_source_the_forbidden_one_counts(folders: Path, copy: str):
    (folders / "a" / f"{copy}.png").write_bytes(drawn(7))
    say(folders, "a", "lolicon")
    first, second = take(folders, "a"), take(folders, "a")
    assert dict(first.rejected) == dict(second.rejected) == {"blocked": 2}
    assert (first.added, second.known, len(Catalogue(folders / "set"))) == (1, 1, 1)


@pytest.mark.parametrize("words", ["ai-generated", "lolicon"])
def test_killed_anywhere_and_run_again_is_as_if_never_killed(
    folders: Path, words: str, monkeypatch: pytest.MonkeyPatch
):
    say(folders, "b", words)
    take(folders, "a"), take(folders, "b"), take(folders, "a")
    wanted = {name: state(folders)[name][0] for name in ("catalogue.parquet", "rejected.jsonl")}
    monkeypatch.setattr(module, "WINDOW", 1)
    monkeypatch.setattr(module, "COMMIT_EVERY", 1)
    for number, (step, name) in enumerate(itertools.product(("settle", "tell", "_withdraw", "save"), "ab")):
        (folders / "set").rename(folders / f"old {number}")
        with monkeypatch.context() as patch:
            killed = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
            if name == "b":
                take(folders, "a")
            patch.setattr(module._Run, step, killed)
            if step != "_withdraw" or (words, name) == ("lolicon", "b"):
                with pytest.raises(KeyboardInterrupt):
                    take(folders, name)
        for again in ("a", "b", "a"):
            take(folders, again)
        assert {name: state(folders)[name][0] for name in wanted} == wanted, (step, name)


def test_another_source_settles_what_a_killed_run_had_heard(folders: Path, monkeypatch: pytest.MonkeyPatch):
    say(folders, "b", "ai-generated")
    take(folders, "a")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module._Run, "tell", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        take(folders, "b")
    take(folders, "a")
    assert (post := of_x(folders)) and post.origin == "ai"


def test_a_catalogue_of_before_keeps_what_it_knows(folders: Path):
    say(folders, "a", "ai-generated")
    take(folders, "a")
    (folders / "set" / "said.sqlite").unlink()
    take(folders, "b", origin="human")
    assert (post := of_x(folders)) and (post.origin, post.evidence) == ("ai", (AI,))
    say(folders, "a", "1girl")
    take(folders, "a")
    assert (post := of_x(folders)) and (post.origin, post.evidence) == ("human", ())


def test_a_file_that_was_renamed_brings_its_own_words_alone(folders: Path):
    say(folders, "a", "ai-generated")
    take(folders, "a")
    (folders / "a" / "x.png").rename(folders / "a" / "z.png")
    (folders / "a" / "x.txt").unlink()
    take(folders, "a")
    assert {post.origin for post in Catalogue(folders / "set").posts()} == {"unknown"}


def test_a_damaged_record_is_not_begun_anew_in_silence(folders: Path):
    take(folders, "a")
    (folders / "set" / "said.sqlite").write_bytes(b"no database" * 999)
    with pytest.raises(DataError, match=r"said\.sqlite"):
        take(folders, "a")


def test_refusals_of_a_folder_that_was_moved_are_listed_once(folders: Path):
    (folders / "a" / "cut.png").write_bytes(drawn(3)[:-40])
    take(folders, "a")
    assert listed(folders) == {("a/cut.png", "truncated"): 1}
    (folders / "a").rename(folders / "c")
    take(folders, "c")
    assert listed(folders) == {("c/cut.png", "truncated"): 1}
    (folders / "b" / "no.png").write_bytes(b"")
    take(folders, "b")
    assert listed(folders)[("c/cut.png", "truncated")] == 1, "a source that is there keeps its own"
