"""Pictures of an archive land below their folder and nowhere else; every member is counted once; the catalogue reads them."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from animeflow.app.cli import main
from animeflow.catalogue.archive.caps import BadMember, Caps
from animeflow.catalogue.archive.member import safe_parts
from animeflow.catalogue.archive.reader import open_archive
from animeflow.catalogue.archive.sprites import sprite_of
from animeflow.catalogue.archive.unpack import Unpacking, UnpackReport, read_rows
from animeflow.catalogue.sources.unpacked import UnpackedSource
from animeflow.core.errors import DataError
from animeflow.image.decode import decode
from animeflow.image.encode import encode_png

BAD_NAMES = [
    "../evil.png", "a/../../evil.png", "/evil.png", "C:/evil.png", "c:evil.png", "..\\evil.png", "a\\b.png", "a/./b.png",
    "a//b.png", "a\0b.png", "a\nb.png", "\x1b[2Ja.png", "", "..", "a/..", "./../x.png", "a/" * 40 + "x.png",
    "x" * 300 + ".png", "\udcff.png",
]  # fmt: skip


def png(seed: int = 0, size: int = 24) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8))


def write_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            archive.writestr(entry, data)
    return path


def write_rpa(path: Path, content: dict[str, bytes]) -> Path:
    body, index = b" " * 34, {}
    for name, data in content.items():
        index[name] = [(len(body) ^ 9, len(data) ^ 9, b"")]
        body += data
    body = b"RPA-3.0 %016x %08x\n" % (len(body), 9) + body[34:]
    path.write_bytes(body + zlib.compress(pickle.dumps(index)))
    return path


def write_tar(path: Path, content: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w", errors="surrogateescape") as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def unpack(path: Path, into: Path, **options: object) -> UnpackReport:
    caps = Caps()
    every = bool(options.pop("every_frame", False))
    report = Unpacking(open_archive(path, caps, every_frame=every), into, caps=caps, **options).run()
    assert report.found == report.written + report.unchanged + report.others + report.refused.total()
    return report


def tree(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(BadMember):
        safe_parts(name)


@pytest.mark.parametrize(
    "name", ["a.png", "./a.png", "images/eileen happy.png", "日本/語.png", "a..b/c...png", "ab:c.png", "-rf"]
)
def test_a_name_of_a_file_inside_is_kept(name):
    assert "/".join(safe_parts(name)) == name.removeprefix("./")


@pytest.mark.parametrize("write", [write_zip, write_tar, write_rpa])
def test_nothing_is_written_outside_of_the_folder(tmp_path, write):
    names = [name for name in BAD_NAMES if "\udcff" not in name and (name or write is write_rpa)]
    if write is not write_rpa:  # these formats end a name at a zero byte
        names = [name for name in names if "\0" not in name]
    archive = write(tmp_path / "evil.dat", {name: png(i) for i, name in enumerate(names)} | {"good.png": png(99)})
    into = tmp_path / "deep" / "er" / "into"
    before = set(tmp_path.rglob("*"))
    report = unpack(archive, into)
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(into)} - before
    assert outside == {tmp_path / "deep", tmp_path / "deep" / "er"}
    assert set(tree(into)) == {"evil/good.png", "unpacked.jsonl", "refused.jsonl"}
    assert report.written == 1 and report.refused["unsafe_name"] == len(names)
    assert all("\x1b" not in line and line.isprintable() for line in report.lines())
    rows = [json.loads(line) for line in (into / "refused.jsonl").read_text().splitlines()]
    assert len(rows) == len(names) and {row["reason"] for row in rows} == {"unsafe_name"}


def test_a_link_that_lies_in_the_folder_already_is_not_followed(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"x/1.png": png(1), "y.png": png(2), "z.png": png(3)})
    (tmp_path / "outside").mkdir()
    (tmp_path / "into" / "a").mkdir(parents=True)
    (tmp_path / "into" / "a" / "x").symlink_to(tmp_path / "outside")
    (tmp_path / "into" / "a" / "y.png").symlink_to(tmp_path / "outside" / "y.png")
    report = unpack(archive, tmp_path / "into")
    assert report.refused == {"unsafe_name": 2} and report.written == 1
    assert not list((tmp_path / "outside").iterdir())


def test_pictures_are_known_by_their_content_and_kept_unchanged(tmp_path):
    content = {
        "script.rpy": b"label start:\n    jump end\n" * 9, "no suffix": png(1), "called.txt": png(2), "fake.png": b"MZ" + bytes(99),
        "inner.zip": b"PK\3\4" + bytes(600), "inner.tgz": gzip.compress(bytes(700)), "empty.png": b"", ".hidden.png": png(3),
        "no suffix/below a file.png": png(4), "short.png": b"\x89PNG",
    }  # fmt: skip
    report = unpack(write_zip(tmp_path / "game.zip", content), tmp_path / "into")
    found = tree(tmp_path / "into")
    assert {name: data for name, data in found.items() if "jsonl" not in name} == {
        "game/no suffix": content["no suffix"], "game/called.txt": content["called.txt"],
    }  # fmt: skip
    assert report.others == 4 and report.refused == {"nested": 2, "hidden": 1, "name_taken": 1}


def test_again_writes_nothing_and_another_archive_of_that_name_gets_a_folder_of_its_own(tmp_path):
    (tmp_path / "b").mkdir()
    first = write_zip(tmp_path / "a.zip", {"1.png": png(1), "2.png": png(2)})
    other = write_zip(tmp_path / "b" / "a.zip", {"1.png": png(3)})
    into = tmp_path / "into"
    assert unpack(first, into, dry_run=True).written == 2 and not into.exists()
    assert unpack(first, into).written == 2 and unpack(other, into).written == 1
    before = {path: path.stat().st_mtime_ns for path in into.rglob("*")}
    assert [unpack(path, into).unchanged for path in (first, other, first)] == [2, 1, 2]
    assert {path: path.stat().st_mtime_ns for path in into.rglob("*")} == before
    rows = list(read_rows(into / "unpacked.jsonl"))
    assert len(rows) == 3 and len({row["file"].split("/")[0] for row in rows}) == 2
    (into / "a" / "1.png").write_bytes(png(7))
    assert unpack(first, into).refused == {"name_taken": 1}
    assert (into / "a" / "1.png").read_bytes() == png(7)


def test_a_cut_archive_gives_what_came_before_the_cut_and_its_rows(tmp_path):
    archive = write_tar(tmp_path / "a.tar", {f"{i}.png": png(i, 64) for i in range(4)})
    archive.write_bytes(archive.read_bytes()[:30_000])
    report = unpack(archive, tmp_path / "into")
    assert report.broken is not None and report.written == 2
    assert [row["member"] for row in read_rows(tmp_path / "into" / "unpacked.jsonl")] == ["0.png", "1.png"]


def test_what_comes_out_of_all_members_is_bounded(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {f"{i}.png": png(i, 64) for i in range(8)})
    caps = Caps(max_total_bytes=40_000)
    report = Unpacking(open_archive(archive, caps), tmp_path / "into", caps=caps).run()
    assert report.broken is not None and 0 < sum(len(data) for data in tree(tmp_path / "into" / "a").values()) <= 40_000


def test_sprites_of_one_figure_name_the_first_as_their_parent(tmp_path):
    names = ["images/eileen happy.png", "images/eileen sad@2.png", "images/Eileen vhappy.png", "images/lucy mad.png",
             "images/bg club.png", "images/bg beach.png", "images/logo.png", "other/eileen happy.png"]  # fmt: skip
    archive = write_rpa(tmp_path / "game.rpa", {name: png(i) for i, name in enumerate(names)})
    unpack(archive, tmp_path / "into", licence="CC BY 4.0, by Ana")
    found = {candidate.facts.source_id: candidate.facts for candidate in UnpackedSource(tmp_path / "into")}
    parents = {identity: facts.parent for identity, facts in found.items() if facts.parent}
    head = "game/images/Eileen vhappy.png"  # the first in the order of names
    assert parents == {"game/images/eileen happy.png": head, "game/images/eileen sad@2.png": head}
    assert len(found) == 8 and {facts.licence for facts in found.values()} == {"CC BY 4.0, by Ana"}
    assert sprite_of("a/eileen happy smile@2.png") == ("eileen", ("happy", "smile"))
    assert sprite_of("eileen.png") is None


def test_a_source_tells_of_what_is_missing_and_of_what_nobody_named(tmp_path):
    unpack(write_zip(tmp_path / "a.zip", {"1.png": png(1), "2.png": png(2), "3.png": png(3)}), tmp_path / "into")
    folder = tmp_path / "into" / "a"
    (folder / "1.png").unlink()
    (folder / "new.png").write_bytes(png(4))
    (folder / "2.txt").write_text("1girl, smile")
    (folder / "3.png.caption").write_text("A girl smiles at the sea.")
    candidates = {candidate.path.name: candidate for candidate in UnpackedSource(tmp_path / "into")}
    reasons = {name: candidate.reason for name, candidate in candidates.items()}
    assert reasons == {"1.png": "missing_picture", "2.png": None, "3.png": None, "new.png": "missing_metadata"}
    assert candidates["2.png"].facts.tags["general"] == ["1girl", "smile"]
    assert candidates["3.png"].facts.captions == {"en": "A girl smiles at the sea."}
    with (tmp_path / "into" / "unpacked.jsonl").open("a") as file:
        file.write('{"file": "../../etc/passwd"}\n')
    assert [c.reason for c in UnpackedSource(tmp_path / "into")].count("bad_sidecar") == 1
    with pytest.raises(DataError, match="unpack"):
        UnpackedSource(tmp_path)


@pytest.mark.parametrize("told", ["inside", "beside", "name", "nobody"])
def test_the_first_frame_stands_for_an_ugoira_and_numbered_pages_are_all_kept(tmp_path, told):
    frames = {f"{i:06}.png": png(i) for i in range(5)}
    about = {"frames": [{"file": name, "delay": 40 + i} for i, name in enumerate(frames)]}
    inside = {"animation.json": json.dumps({"ugokuIllustData": about}).encode()} if told == "inside" else {}
    path = write_zip(tmp_path / ("1_ugoira.zip" if told == "name" else "1.zip"), frames | inside)
    if told == "beside":
        path.with_name("1.zip.json").write_text(json.dumps(about))
    report = unpack(path, tmp_path / "first")
    if told == "nobody":
        assert report.written == 5
        return
    assert report.written == 1 and report.refused == {"later_frame": 4}
    assert unpack(path, tmp_path / "all", every_frame=True).written == 5
    rows = list(read_rows(tmp_path / "all" / "unpacked.jsonl"))
    delays = [None] * 5 if told == "name" else [40, 41, 42, 43, 44]
    assert [(row["frame"], row.get("delay_ms"), row["kind"]) for row in rows] == [
        (i, d, "ugoira") for i, d in enumerate(delays)
    ]


def test_the_verb_unpacks_goes_on_after_a_broken_file_and_the_catalogue_reads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rpa(
        tmp_path / "game.rpa",
        {"a happy.png": png(1, 80), "a sad.png": png(2, 80), "script.rpyc": b"RENPY" * 9, "../b.png": png(3)},
    )
    (tmp_path / "bad.rpa").write_bytes(b"RPA-3.0 garbage")
    words = ["unpack", "game.rpa", "bad.rpa", "--into", "into", "--licence", "CC0"]
    dry = CliRunner().invoke(main, [*words, "--dry-run"])
    assert dry.exit_code == 2 and not os.path.exists("into") and "would write 2 of 2 pictures" in dry.output
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and "bad.rpa" in done.output
    assert "4 files = 2 pictures + 1 that are none + 1 left out" in done.output
    again = CliRunner().invoke(main, ["unpack", "game.rpa", "--into", "into"])
    assert again.exit_code == 0 and "2 pictures (2 there already)" in again.output
    assert {row["licence"] for row in read_rows(Path("into/unpacked.jsonl"))} == {"CC0"}
    words = ["catalogue", "name=x", "catalogue=unpacked", "catalogue.root=into", "catalogue.workers=0"]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.output


def test_a_video_gives_a_frame_a_shot_with_its_place_in_the_video(tmp_path):
    draw = np.random.default_rng(3)
    scenes = [
        cv2.resize(draw.integers(0, 255, (9, 12, 3), np.uint8), (96, 72), interpolation=cv2.INTER_NEAREST)
        for _ in range(3)
    ]
    video = cv2.VideoWriter(str(tmp_path / "film.mkv"), cv2.VideoWriter_fourcc(*"FFV1"), 12, (96, 96))
    for scene in (scenes[0], scenes[1], scenes[2], scenes[0]):
        for _ in range(10):
            video.write(cv2.copyMakeBorder(scene, 12, 12, 0, 0, cv2.BORDER_CONSTANT))
    video.release()
    report = unpack(tmp_path / "film.mkv", tmp_path / "into")
    assert report.written == 3 and report.refused == {"near_equal": 1}
    rows = list(read_rows(tmp_path / "into" / "unpacked.jsonl"))
    assert [(row["shot"], row["first"], row["last"], row["crop"]) for row in rows] == [
        (i + 1, 10 * i, 10 * i + 9, [12, 84, 0, 96]) for i in range(3)
    ]
    for row, scene in zip(rows, scenes, strict=True):
        assert np.array_equal(decode((tmp_path / "into" / row["file"]).read_bytes()).pixels[:, :, ::-1], scene)
    assert unpack(tmp_path / "film.mkv", tmp_path / "into").unchanged == 3


def test_a_broken_video_says_what_to_do_and_a_playlist_is_no_video(tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"\x1aE\xdf\xa3" + bytes(range(256)) * 20)
    report = unpack(tmp_path / "a.mkv", tmp_path / "into")
    assert report.broken is not None and "ffmpeg" in str(report.broken.do)
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    with pytest.raises(DataError, match="no archive or video"):
        open_archive(tmp_path / "a.m3u8", Caps())


def test_pages_of_a_comic_are_cut_into_panels_when_asked(tmp_path):
    page = np.full((300, 200, 3), 255, np.uint8)
    draw = np.random.default_rng(2)
    boxes = [[10, 10, 85, 130], [105, 10, 85, 130], [10, 150, 180, 140]]
    for x, y, w, h in boxes:
        page[y : y + h, x : x + w] = draw.integers(0, 200, (h, w, 3), np.uint8)
    archive = write_zip(tmp_path / "comic.cbz", {"c/01.png": encode_png(page), "c/cover.png": png(4, 90)})
    assert unpack(archive, tmp_path / "whole").written == 2
    report = unpack(archive, tmp_path / "cut", panels=True)
    assert report.written == 2 and report.panels == 3
    rows = list(read_rows(tmp_path / "cut" / "unpacked.jsonl"))
    assert [row["file"] for row in rows] == [*(f"comic/c/01.panel_0{i}.png" for i in (1, 2, 3)), "comic/c/cover.png"]
    for row, (x, y, w, h) in zip(rows[:3], boxes, strict=True):
        assert (row["member"], row["box"], row["panels"]) == ("c/01.png", [x, y, w, h], 3)
        pixels = decode((tmp_path / "cut" / row["file"]).read_bytes()).pixels
        assert np.array_equal(pixels, page[y : y + h, x : x + w])
    assert unpack(archive, tmp_path / "cut", panels=True).unchanged == 2
