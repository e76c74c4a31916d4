"""Zip and tar archives come back byte for byte, as Python's own modules wrote them; hostile ones cost what they are allowed to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from animeflow.catalogue.archive.caps import BadMember, BrokenArchive, Caps
from animeflow.catalogue.archive.reader import open_archive
from animeflow.core.errors import DataError


def files(number: int = 5) -> dict[str, bytes]:
    draw = random.Random(7)
    data = {f"a/page {i}.png": draw.randbytes(draw.randrange(1, 200_000)) for i in range(number)}
    return data | {"b/même ページ.jpg": b"x" * 70_000, "empty": b""}


def write_zip(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


def write_tar(path: Path, content: dict[str, bytes], *, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def read(path: Path, **caps: int) -> tuple[dict[str, bytes], dict[str, str]]:
    """What comes out, and what is left out with its reason, opened or not."""
    given, left = {}, {}
    for member in open_archive(path, Caps(**caps)):
        try:
            if member.open is None:
                raise BadMember(str(member.reason), "")
            stream, data = member.open(), b""
            while block := stream.read(10_007):
                data += block
            given[member.name] = data
        except BadMember as bad:
            left[member.name] = bad.reason
    return given, left


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_comes_back(tmp_path, method):
    assert read(write_zip(tmp_path / "a.cbz", files(), method)) == (files(), {})


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_comes_back(tmp_path, form, mode):
    assert read(write_tar(tmp_path / "a", files(), mode=mode, form=form)) == (files(), {})


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_a_tar_are_read(tmp_path, form):
    content = {"/".join(["folder name"] * 20) + f"/{i}.png": bytes([i]) * 600 for i in range(3)}
    assert read(write_tar(tmp_path / "a.tar", content, form=form)) == (content, {})


def test_every_member_may_be_passed_over(tmp_path):
    for path in (write_zip(tmp_path / "a.zip", files()), write_tar(tmp_path / "a.tgz", files(), mode="w:gz")):
        assert [member.name for member in open_archive(path, Caps())] == list(files())


def test_gzip_streams_in_a_row_are_one(tmp_path):
    data = write_tar(tmp_path / "a.tar", files()).read_bytes()
    (tmp_path / "a.tgz").write_bytes(gzip.compress(data[:90_000]) + gzip.compress(data[90_000:]))
    assert read(tmp_path / "a.tgz") == (files(), {})


def test_a_zip_of_64_bits_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in files().items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert read(tmp_path / "a.zip") == (files(), {})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    end = data.rindex(b"PK\5\6")
    number, size, offset = struct.unpack_from("<10xHII", data, end)
    wide = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, number, number, size, offset)
    place = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    struct.pack_into("<HHII", data, end + 8, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    (tmp_path / "b.zip").write_bytes(data[:end] + wide + place + data[end:])
    assert read(tmp_path / "b.zip") == (files(), {})


def test_names_of_old_japanese_zips_are_read(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"xxxxxx.png": b"1"})
    path.write_bytes(path.read_bytes().replace(b"xxxxxx", "日本語".encode("cp932")))
    assert read(path) == ({"日本語.png": b"1"}, {})


def test_links_devices_and_encrypted_members_are_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.png", b"good")
        archive.writestr("folder/", b"")
        archive.writestr("lzma.png", b"x" * 100, zipfile.ZIP_LZMA)
    assert read(tmp_path / "a.zip") == ({"good.png": b"good"}, {"link.png": "link", "lzma.png": "unsupported"})
    path = write_zip(tmp_path / "b.zip", {"a.png": b"x", "b.png": b"y"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert read(path) == ({"b.png": b"y"}, {"a.png": "encrypted"})
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        kinds = {
            "sym": tarfile.SYMTYPE,
            "hard": tarfile.LNKTYPE,
            "char": tarfile.CHRTYPE,
            "fifo": tarfile.FIFOTYPE,
            "dir": tarfile.DIRTYPE,
        }
        for name, kind in kinds.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        entry = tarfile.TarInfo("good")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"good"))
    left = {"sym": "link", "hard": "link", "char": "not_regular", "fifo": "not_regular"}
    assert read(tmp_path / "c.tar") == ({"good": b"good"}, left)


def test_a_zip_cannot_name_its_bytes_twice(tmp_path):
    """A small file with thousands of entries over one member would be a large one."""
    path = write_zip(tmp_path / "a.zip", {"a.png": b"x" * 1000, "b.png": b"y" * 1000}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    line = data[start : data.index(b"PK\1\2", start + 4)]
    table = data[start:end] + line.replace(b"a.png", b"c.png") * 50
    path.write_bytes(data[:start] + table + struct.pack("<4s4xHHIIH", b"PK\5\6", 52, 52, len(table), start, 0))
    given, left = read(path)
    assert len(given) == 2 and left == {"c.png": "overlap"}


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_bombs_stop_as_they_go_off(tmp_path, kind):
    path, size = tmp_path / "a", 24 << 20
    if kind == "zip":
        write_zip(path, {"bomb.png": bytes(size), "good.png": b"good"})
    else:
        head = tarfile.TarInfo("bomb.png")
        head.size = size
        pack = {
            "gz": lambda data: gzip.compress(data, 6),
            "bz2": bz2.compress,
            "xz": lambda data: lzma.compress(data, preset=0),
        }
        path.write_bytes(pack[kind](head.tobuf() + bytes(size)))
    tracemalloc.start()
    try:
        taken, reasons = 0, []
        try:
            for member in open_archive(path, Caps(ratio_from=4 << 20)):
                stream = member.open()
                try:
                    while block := stream.read(1 << 20):
                        taken += len(block)
                except BadMember as bad:
                    reasons.append(bad.reason)
        except BrokenArchive:
            reasons.append("broken")
        assert reasons[0] == "bomb" and taken < 16 << 20
        assert tracemalloc.get_traced_memory()[1] < 24e6
    finally:
        tracemalloc.stop()
    if kind == "zip":
        assert reasons == ["bomb"] and taken == (4 << 20) + 4


def test_a_size_in_the_table_is_not_believed(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": b"x" * 5000, "b.png": b"y"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, 100)
    path.write_bytes(data)
    assert read(path) == ({"b.png": b"y"}, {"a.png": "unreadable"})


def test_a_wrong_checksum_is_found(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": b"first", "b.png": b"other"}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"first", b"wirst"))
    assert read(path) == ({"b.png": b"other"}, {"a.png": "unreadable"})


def test_limits_of_a_member_of_names_and_of_all(tmp_path):
    content = {"small": b"x", "large": bytes(2000)}
    for path in (write_zip(tmp_path / "a.zip", content), write_tar(tmp_path / "a.tar", content)):
        assert read(path, max_member_bytes=1000) == ({"small": b"x"}, {"large": "too_large"})
        with pytest.raises(BrokenArchive, match="over 1 "):
            read(path, max_members=1)
    with pytest.raises(BrokenArchive, match="table of contents has"):
        read(tmp_path / "a.zip", max_index_bytes=50)
    packed = write_tar(tmp_path / "a.tgz", files(), mode="w:gz")
    with pytest.raises(BrokenArchive) as error:
        list(open_archive(packed, Caps(max_total_bytes=10_000)))
    assert "10,000" in str(error.value)


def test_an_xz_that_wants_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]
    data = write_tar(tmp_path / "a.tar", files(1)).read_bytes()
    (tmp_path / "a.txz").write_bytes(lzma.compress(data, filters=filters))
    with pytest.raises(BrokenArchive, match="memory"):
        read(tmp_path / "a.txz", max_dictionary_bytes=1 << 20)


def test_a_name_without_end_is_refused(tmp_path):
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    (tmp_path / "a.tar").write_bytes(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(8 << 20)))
    with pytest.raises(BrokenArchive, match="a name of 8,589,934,592 bytes"):
        read(tmp_path / "a.tar")


@pytest.mark.parametrize("suffix", ["zip", "tar", "tgz"])
def test_every_cut_gives_what_came_before_it_or_a_clear_refusal(tmp_path, suffix):
    content = {f"{i}": random.Random(i).randbytes(900) for i in range(4)}
    whole = tmp_path / f"a.{suffix}"
    write_zip(whole, content) if suffix == "zip" else write_tar(whole, content, mode="w:gz" if suffix == "tgz" else "w")
    data, path = whole.read_bytes(), tmp_path / f"b.{suffix}"
    for cut in range(0, len(data), 61):
        path.write_bytes(data[:cut])
        try:
            given, _ = read(path)
            assert all(content[name] == found for name, found in given.items())
        except DataError as error:
            assert error.do


@pytest.mark.parametrize("suffix", ["zip", "tar", "tgz"])
def test_flipped_bits_never_give_wrong_bytes_of_a_zip_and_never_crash(tmp_path, suffix):
    content = {f"{i}": random.Random(i).randbytes(300) for i in range(4)}
    whole, draw = tmp_path / f"a.{suffix}", random.Random(5)
    write_zip(whole, content) if suffix == "zip" else write_tar(whole, content, mode="w:gz" if suffix == "tgz" else "w")
    data, path = whole.read_bytes(), tmp_path / f"b.{suffix}"
    for _ in range(120):
        broken = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        path.write_bytes(broken)
        try:
            given, _ = read(path)
        except DataError:
            continue
        if suffix == "zip":
            right = {zlib.crc32(data) for data in content.values()} | {0}
            assert {zlib.crc32(data) for data in given.values()} <= right


@pytest.mark.parametrize(
    ("start", "said"),
    [(b"Rar!\x1a\x07\x01\0", "RAR"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"\x89PNG\r\n\x1a\n", "picture"), (b"", "no bytes"),
     (b"%PDF-1.4", "PDF"), (b"hello world, I am a text", "what is read")],
)  # fmt: skip
def test_what_is_not_read_is_told_what_to_do(tmp_path, start, said):
    (tmp_path / "a").write_bytes(start + bytes(600) if start else b"")
    with pytest.raises(DataError, match=said) as error:
        open_archive(tmp_path / "a", Caps())
    assert error.value.do
