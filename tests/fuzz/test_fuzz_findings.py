"""What hostile files once broke: each of these ended with an error that no person could read, or took memory without a bound."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hostile.layouts import DANBOORU, picture
from hostile.pictures import encoded, image, png_chunk, seeds
from PIL import Image

from animeflow.catalogue.archive.caps import BrokenArchive, Caps
from animeflow.catalogue.archive.reader import open_archive
from animeflow.catalogue.ingest import IngestReport, ingest
from animeflow.catalogue.sources.danbooru import DanbooruSource
from animeflow.catalogue.sources.fields import iso_utc
from animeflow.catalogue.sources.imagefolder import ImageFolderSource
from animeflow.catalogue.sources.matching import keys_of
from animeflow.catalogue.sources.toonworld import ToonworldSource
from animeflow.catalogue.sources.unpacked import UnpackedSource
from animeflow.catalogue.sources.waifuc import WaifucSource
from animeflow.catalogue.table import Catalogue
from animeflow.catalogue.walk import mask_of
from animeflow.core.errors import DataError
from animeflow.image.decode import decode
from animeflow.image.picture import BadPicture, Limits
from animeflow.text.importers.build import build

LONG = "x" * 300  # no file system has such a name
DEEP = "[" * 100_000


def take(tmp_path: Path, source: object) -> IngestReport:
    return ingest(Catalogue(tmp_path / "set" / "catalogue", root=tmp_path), source, workers=0)  # type: ignore[arg-type]


def put(file: Path, text: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


# -- names that no file can have -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, reason", [(LONG, "missing_picture"), ("a\ud800.png", "bad_metadata"), ("a\0.png", "bad_metadata")]
)
def test_a_row_may_name_what_no_file_is_called(tmp_path, name, reason):
    put(tmp_path / "in" / "metadata.jsonl", json.dumps({"file_name": name}) + '\n{"file_name": "a.png"}\n')
    put(tmp_path / "in" / "a.png", picture())
    report = take(tmp_path, ImageFolderSource(tmp_path / "in"))
    assert (report.added, dict(report.rejected)) == (1, {reason: 1})


def test_a_post_may_name_a_path_that_is_too_long(tmp_path):
    put(tmp_path / "in" / "posts.json", json.dumps([DANBOORU | {"file_path": LONG}]))
    put(tmp_path / "in" / "a.png", picture())
    assert take(tmp_path, DanbooruSource(tmp_path / "in" / "posts.json")).added == 1  # found by the md5 of its content


def test_a_picture_whose_name_leaves_no_room_for_a_sidecar(tmp_path):
    file = put(tmp_path / "in" / f"{'x' * 251}.png", picture())
    assert mask_of(file) is None
    assert dict(take(tmp_path, WaifucSource(tmp_path / "in")).rejected) == {"missing_metadata": 1}


def test_a_refusal_with_a_strange_line_end_can_be_read_again(tmp_path):
    put(tmp_path / "in" / "metadata.jsonl", json.dumps({"file_name": "../a\u2028\x85b.png"}) + "\n")
    source = ImageFolderSource(tmp_path / "in")
    assert take(tmp_path, source).rejected == take(tmp_path, source).rejected == {"bad_metadata": 1}


# -- values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "Fri, 31 Dec 9999 23:59:59 -2359", "9" * 5000]
)
def test_a_date_beyond_the_calendar_is_none(text):
    assert iso_utc(text) is None


def test_an_id_of_thousands_of_digits_is_no_key():
    assert keys_of({"id": "9" * 5000}) == []
    assert keys_of({"id": "0028"}) == ["id 28"]


def test_a_message_with_a_name_out_of_a_file_can_be_printed():
    error = DataError("a\udcffb\x1b[2Jc", where="日本\n\u202e", do="look")
    assert str(error).encode().decode() == "a\\udcffb\\x1b[2Jc\n  where: 日本\n\u202e\n  do:    look"
    assert error.what == "a\udcffb\x1b[2Jc"  # as it was, for who looks for it


# -- files that only we write --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", [b"\xff", DEEP.encode(), b"7", b"null", b"{}", b'{"file": 1.5}', b'{"file": "../a.png"}',
    b'{"file": "a.png", "tags": [1]}',
             b'{"file": "a.png", "captions": {"en": 7}}', b'{"file": "a.png", "truth": {"x": "\\ud800"}}']
)  # fmt: skip
def test_a_line_of_another_shape_is_named(tmp_path, line):
    put(tmp_path / "a.png", picture())
    put(tmp_path / "truth.jsonl", b'{"file": "a.png"}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"line 2 of .*truth\.jsonl"):
        list(ToonworldSource(tmp_path))


@pytest.mark.parametrize("line", [b"\xff", DEEP.encode(), b"7", b'{"file": 7}'])
def test_rows_of_unpack_that_are_none_are_named(tmp_path, line):
    put(tmp_path / "unpacked.jsonl", line + b"\n")
    with pytest.raises(DataError, match=r"line 1 of .*unpacked\.jsonl"):
        list(UnpackedSource(tmp_path))


def test_values_of_another_kind_in_rows_of_unpack_are_left_out(tmp_path):
    put(tmp_path / "in" / "a.png", picture())
    rows = [{"file": "a.png", "version_of": {"x": 1}, "licence": ["CC0"]}, {"file": LONG}, {"file": "\udcff.png"}, {}]
    put(tmp_path / "in" / "unpacked.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    report = take(tmp_path, UnpackedSource(tmp_path / "in"))
    assert (report.found, report.added) == (4, 1)


# -- lists of tags -------------------------------------------------------------------------------------------------------

GOOD = "1girl,0,5000000,\nsolo,0,4000000,\n"


@pytest.mark.parametrize(
    "name, text",
    [
        ("tags.json", DEEP), ("tags.jsonl", '{"name": "hat", "category": 0, "post_count": 5}\n' + DEEP),
        ("tags.json", '{"tags": 1.5, "wiki_pages": []}'), ("tags.json", json.dumps([{"name": "hat", "category": 0,
        "post_count": 10**30}])),
        ("list.csv", f"hat,0,{'9' * 5000},\ncap,{'9' * 5000},1,\n" * 3), ("own.csv",
        f"tag,category,count\nhat,general,{'9' * 5000}\n"),
        ("list.csv", f"hat,0,5,{'z' * 140_000}\n"), ("wiki_pages.json",
        '[{"title": "solo", "other_names": ["a\\ud800", "\\udc00"]}]'),
        ("tags.json", '[{"name": "\\ud800", "category": 0, "post_count": 5}]'),
    ],
)  # fmt: skip
def test_a_list_of_tags_is_read_or_refused_in_words(tmp_path, name, text):
    good, other = put(tmp_path / "good.csv", GOOD), put(tmp_path / name, text)
    try:
        report = build([good, other], tmp_path / "tags.db")
    except DataError:
        return
    assert report.totals["tags"] >= 2


def test_a_line_may_hold_a_sign_that_only_python_takes_for_an_end(tmp_path):
    row = {"name": "hat\u2028", "category": 0, "post_count": 5}
    file = put(
        tmp_path / "tags.jsonl", json.dumps(row, ensure_ascii=False) + "\n" + json.dumps(row | {"name": "cap"}) + "\n"
    )
    assert build([file], tmp_path / "tags.db").totals["tags"] == 2


# -- archives and pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [2**63, 2**64 - 1, 2**63 - 1, 10**6])
def test_a_table_of_contents_beyond_the_largest_file(tmp_path, place):
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, 2**32 - 1, 2**32 - 1, 0)
    put(tmp_path / "a.zip", b"PK\3\4" + bytes(60) + struct.pack("<4sIQI", b"PK\6\7", 0, place, 1) + end)
    with pytest.raises(BrokenArchive):
        open_archive(tmp_path / "a.zip", Caps())


def test_one_text_at_thousands_of_places_of_an_index_is_bounded(tmp_path):
    """A text of 1 MB, named 4000 times, would become 4 GB of first bytes."""
    packed = zlib.compress(pickle.dumps({"a.png": [(40, 10, "x" * 1_000_000)] * 4000}, 4))
    put(tmp_path / "a.rpa", b"RPA-2.0 %016x\n" % 40 + b" " * 15 + packed)
    tracemalloc.start()
    with pytest.raises(BrokenArchive, match="first bytes"):
        open_archive(tmp_path / "a.rpa", Caps(max_index_bytes=8_000_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000


def test_a_second_header_of_a_webp_is_no_way_past_the_limits():
    from animeflow.image.header import read_header

    large, small = (
        b"VP8X" + struct.pack("<I", 10) + bytes(4) + (side - 1).to_bytes(3, "little") * 2 for side in (16_000, 8)
    )
    body = b"WEBP" + large + seeds("webp")[0][12:] + small
    with pytest.raises(BadPicture, match="too_large"):
        read_header(b"RIFF" + struct.pack("<I", len(body)) + body, Limits())


def _jpeg_of_scans(number: int) -> bytes:
    """The last small scan of a progressive picture, again and again: 40 bytes each, and a walk through the whole picture."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * number + b"\xff\xd9"


def _webp_of_chunks(number: int) -> bytes:
    body = seeds("webp")[3][8:] + (b"ABCD" + bytes(4)) * number
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif_of_frames(number: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\x00"
    return seeds("gif")[0][:-1] + frame * number + b";"


def _gif_of_blocks(number: int) -> bytes:
    return seeds("gif")[0][:-1] + b"\x21\xfe" + b"\x01x" * number + b"\0;"


def _tiff_of_pages(number: int) -> bytes:
    """A good page, then directories of nothing."""
    data = bytearray(seeds("other")[4])
    first = struct.unpack_from("<I", data, 4)[0]
    last = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    for _ in range(number):
        struct.pack_into("<I", data, last, len(data))
        last = len(data) + 2
        data += bytes(6)
    return bytes(data)


PIECES = {
    "jpeg scans": _jpeg_of_scans, "webp chunks": _webp_of_chunks, "gif frames": _gif_of_frames,
    "gif blocks": _gif_of_blocks, "tiff pages": _tiff_of_pages,
    "png chunks": lambda number: seeds("png")[0][:33] + png_chunk(b"abCd", b"") * number + seeds("png")[0][33:],
    "jpeg segments": lambda number: seeds("jpeg")[0][:2] + b"\xff\xfe\0\2" * number + seeds("jpeg")[0][2:],
}  # fmt: skip


@pytest.mark.parametrize("kind", PIECES)
def test_a_small_file_of_endless_pieces_is_refused_before_it_is_decoded(monkeypatch, kind):
    """Each of a few bytes, and each costs the decoder a walk: a file within the limits could have taken hours."""
    assert decode(PIECES[kind](20)).facts.width > 0  # some more than usual is fine
    monkeypatch.setattr(Image, "open", None)  # nothing is to be decoded
    with pytest.raises(BadPicture, match="too_large"):
        decode(PIECES[kind](60_000))


def test_frames_are_those_that_the_decoder_counts():
    for data in (
        *seeds("gif"),
        _gif_of_frames(7),
        encoded(image("L"), "TIFF", save_all=True, append_images=[image("L")] * 3),
    ):
        with Image.open(io.BytesIO(data)) as picture:
            assert decode(data).facts.frames == picture.n_frames
