"""Ren'Py archives come back byte for byte, and an index that would run code is refused before it could."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import random
import textwrap
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from animeflow.catalogue.archive.caps import BrokenArchive, Caps
from animeflow.catalogue.archive.plain_pickle import loads
from animeflow.catalogue.archive.reader import open_archive
from animeflow.catalogue.archive.streams import read_up_to
from animeflow.core.errors import DataError

ARCHIVER = "usr/share/games/renpy/launcher/game/archiver.rpy"


def files(number: int = 5) -> dict[str, bytes]:
    draw = random.Random(7)
    return {f"images/eileen mood{i}.png": draw.randbytes(draw.randrange(1, 3000)) for i in range(number)}


def write_rpa(
    path: Path, content: dict[str, bytes], *, version: int = 3, key: int = 0xDEADBEEF, prefix: int = 0, counted: bool = False,
    protocol: int = 4, index: Any = None, triples: bool = True,
) -> Path:  # fmt: skip
    """An archive as Ren'Py writes it. `prefix` first bytes of every file stand in the index, `counted` in its length or not."""
    key = key if version == 3 else 0
    body = io.BytesIO()
    body.write(b"" if version == 1 else b" " * (34 if version == 3 else 25))
    table: dict[str, list[Any]] = {}
    for name, data in content.items():
        body.write(b"Made with Ren'Py.")
        first, rest = data[:prefix], data[prefix:]
        place = (body.tell() ^ key, (len(rest) + (len(first) if counted else 0)) ^ key)
        body.write(rest)
        table[name] = [(*place, first) if triples else place]
    packed = zlib.compress(
        pickle.dumps(table if index is None else index, protocol) if not isinstance(index, bytes) else index
    )
    if version == 1:
        path.with_suffix(".rpi").write_bytes(packed)
    else:
        at = body.tell()
        body.write(packed)
        body.seek(0)
        body.write(b"RPA-3.0 %016x %08x\n" % (at, key) if version == 3 else b"RPA-2.0 %016x\n" % at)
    path.write_bytes(body.getvalue())
    return path


def read(path: Path, **caps: int) -> tuple[dict[str, bytes], dict[str, str]]:
    """What comes out, and what is left out with its reason."""
    given, left = {}, {}
    for member in open_archive(path, Caps(**caps)):
        if member.open is None:
            left[member.name] = str(member.reason)
        else:
            data = read_up_to(member.open(), 1 << 20)
            given[member.name] = member.whole(data) if member.whole else data
    return given, left


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_was_put_in_comes_out(tmp_path, version, protocol):
    # Before protocol 3 Python wrote bytes as a call, so an index of that age has pairs only.
    path = write_rpa(tmp_path / "a.rpa", files(), version=version, protocol=protocol, triples=protocol > 2)
    assert read(path) == (files(), {})


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("prefix", [1, 12, 40])
def test_first_bytes_that_stand_in_the_index_come_first(tmp_path, version, prefix):
    path = write_rpa(tmp_path / "a.rpa", files(), version=version, prefix=prefix)
    assert read(path) == (files(), {})


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_picture_tells_whether_its_length_counts_the_first_bytes(tmp_path, suffix, counted):
    pixels = np.random.default_rng(3).integers(0, 255, (20, 30, 3), np.uint8)
    data = {f"{i}{suffix}": cv2.imencode(suffix, np.roll(pixels, i, 0))[1].tobytes() for i in range(3)}
    path = write_rpa(tmp_path / "a.rpa", data, prefix=16, counted=counted)
    assert read(path) == (data, {})


def test_an_index_of_python_2_is_read(tmp_path):
    """Its strings are bytes, and its memory is addressed by hand."""
    data = files(2)
    names = [name.encode() for name in data]
    body, places = b"", []
    for content in data.values():
        places.append((len(body), len(content)))
        body += content
    index = b"\x80\x02}q\x01("
    for number, (name, (offset, length)) in enumerate(zip(names, places, strict=True)):
        index += b"U" + bytes([len(name)]) + name + b"q" + bytes([10 + number])
        index += (
            b"]q" + bytes([20 + number]) + b"J" + offset.to_bytes(4, "little") + b"J" + length.to_bytes(4, "little")
        )
        index += b"U\x00\x87a"
    index += b"u."
    assert "SHORT_BINSTRING" in {opcode.name for opcode, _, _ in pickletools.genops(index)}
    (tmp_path / "a.rpa").write_bytes(body)
    (tmp_path / "a.rpi").write_bytes(zlib.compress(index))
    assert read(tmp_path / "a.rpa") == (data, {})
    assert read(tmp_path / "a.rpi") == (data, {})


def test_a_file_in_several_parts_is_joined(tmp_path):
    index = {"a.bin": [(36 ^ 5, 3 ^ 5, b""), (40 ^ 5, 2 ^ 5, b"")]}
    body = b"abc-de"
    packed = zlib.compress(pickle.dumps(index))
    (tmp_path / "a.rpa").write_bytes((b"RPA-3.0 %016x %08x\n" % (36 + len(body), 5)).ljust(36) + body + packed)
    assert read(tmp_path / "a.rpa") == ({"a.bin": b"abcde"}, {})


def test_the_archiver_of_renpy_itself(tmp_path):
    """Its block of Python, out of the file that Ren'Py comes with: ANIMEFLOW_RENPY is a root below which it lies."""
    script = Path(os.environ.get("ANIMEFLOW_RENPY", "/")) / ARCHIVER
    if not script.is_file():
        pytest.skip(f"Ren'Py is not here: set ANIMEFLOW_RENPY to a folder with {ARCHIVER}")
    block = textwrap.dedent(script.read_text().split("init python in archiver:\n", 1)[1])
    names: dict[str, Any] = {"_dict": dict, "_list": list}
    exec(block, names)
    archive = names["Archive"](str(tmp_path / "a.rpa"))
    for number, (name, data) in enumerate(files(40).items()):
        (tmp_path / f"{number}").write_bytes(data)
        archive.add(name, str(tmp_path / f"{number}"))
    archive.close()
    assert read(tmp_path / "a.rpa") == (files(40), {})


class Call:
    """Pickled, it is a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Persistent(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return "harm" if isinstance(obj, bytes) else None


def persistent(protocol: int) -> bytes:
    out = io.BytesIO()
    Persistent(out, protocol).dump({"a": b"x"})
    return out.getvalue()


def hostile(mark: Path) -> dict[str, bytes]:
    code = f"open({str(mark)!r}, 'w').write('x')"
    found = {f"system {p}": pickle.dumps({"a.png": Call(os.system, f"touch {mark}")}, p) for p in range(6)}
    found |= {f"eval {p}": pickle.dumps({"a.png": [(1, 2, Call(eval, code))]}, p) for p in range(6)}
    found |= {f"persistent {p}": persistent(p) for p in range(6)}
    found["a key"] = pickle.dumps({Call(exec, code): 1})
    found["a class alone"] = pickle.dumps({"a": os.system})
    found["inst"] = b"(S'touch " + str(mark).encode() + b"'\nios\nsystem\n."
    found["obj"] = b"(cos\nsystem\nS'touch " + str(mark).encode() + b"'\no."
    found["build"] = b"}(S'a'\nS'b'\nd}b."
    found["extension"] = b"\x80\x02\x82\x01."
    found["buffer"] = b"\x80\x05\x97."
    found["after the end"] = b"\x80\x02cos\nsystem\n."
    return found


@pytest.mark.parametrize("protocol", range(6))
def test_bytes_are_read_in_every_protocol(protocol):
    said = {"a.png": [(1, 2, b""), (3, 4, b"")], "b.png": [(5, 6, bytes(range(256)))], "c.png": [(7, 8, b"")]}
    assert loads(pickle.dumps(said, protocol), where="x", max_opcodes=1000) == said


def test_only_bytes_are_spelled_by_calls():
    empty, latin = b"c__builtin__\nbytes\n", b"c_codecs\nencode\n"
    for body in (
        empty + b"(K\x05tR",  # bytes(5)
        empty + b"(X\x01\0\0\0aX\x06\0\0\0latin1tR",
        latin + b")R",
        latin + b"(X\x01\0\0\0aX\x05\0\0\0rot13tR",
        latin + b"(X\x02\0\0\0\xc4\x80X\x06\0\0\0latin1tR",  # no sign of latin-1
        b"K\x01" + b")R",
        b"c__builtin__\nexec\n(X\x01\0\0\0atR",
    ):
        with pytest.raises(BrokenArchive):
            loads(b"\x80\x02" + body + b".", where="x", max_opcodes=1000)


def test_a_pickle_that_calls_is_refused_and_calls_nothing(tmp_path):
    mark = tmp_path / "harm"
    for name, data in hostile(mark).items():
        path = write_rpa(tmp_path / "bad.rpa", files(1), index=data)
        with pytest.raises(BrokenArchive, match="would run code"):
            open_archive(path, Caps())
        assert not mark.exists(), name


@pytest.mark.parametrize(
    "data",
    [b"", b".", b"}", b"(.", b"\x80\x04", b"}u.", b"}(u", b"h\x05.", b"}K\x01.", b"]a.", b"}]K\x01s.", b"\x80\xff}.",
     b"\x8d" + b"\xff" * 8, b"X\xff\xff\xff\x7fabc.", b"\x8b\x00\xff\xff\x00\x01.", b"0.", b"1.", b"(1.", b"}q", b"\x88.",
     b"\x8f.",
     b"L" + b"9" * 5000 + b"L\n.", b"I1e5\n.", b"K\x01K\x02.", b"(\x94.", b"\x8a\x28" + b"\x11" * 40 + b".",
     b"G" + bytes(8) + b"."],
)  # fmt: skip
def test_garbage_is_refused(data):
    with pytest.raises(BrokenArchive):
        loads(data, where="x", max_opcodes=10_000)


def test_every_cut_and_every_flipped_bit_gives_data_or_a_clear_refusal():
    data = pickle.dumps({name: [(i, i, b"ab")] for i, name in enumerate(files(6))})
    draw = random.Random(1)
    for at in range(len(data)):
        for changed in (data[:at], data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]):
            try:
                loads(changed, where="x", max_opcodes=10_000)
            except BrokenArchive:
                continue


@pytest.mark.parametrize(
    "body",
    [
        b"]" * 1_000_000,  # a deep stack
        b"]\x94" * 1_000_000,  # a large memory
        b"]" + b"(" * 90_000 + b"t" * 90_000 + b"a" + b"N0" * 100,  # nesting
        b"]q\x00" + b"(h\x00h\x00h\x00h\x00e" * 100_000,  # a list that holds itself over and over
        b"]" + b"N\x85" + b"\x86".join([b"2"] * 100),  # doubling
        b"(" + b"N" * 1_000_000 + b"l",
    ],
)
def test_bombs_of_opcodes_are_bounded(body):
    tracemalloc.start()
    try:
        with pytest.raises(BrokenArchive):
            loads(b"\x80\x04" + body + b".", where="x", max_opcodes=60_000)
        assert tracemalloc.get_traced_memory()[1] < 25e6
    finally:
        tracemalloc.stop()


def test_a_list_under_many_names_is_counted_under_each(tmp_path):
    shared = [(40, 1, b"")] * 1000
    path = write_rpa(tmp_path / "a.rpa", {}, index={f"{i}.png": shared for i in range(1000)})
    with pytest.raises(BrokenArchive, match="parts"):
        open_archive(path, Caps(max_members=2000))


def test_an_index_that_inflates_without_end_is_refused(tmp_path):
    path = write_rpa(tmp_path / "a.rpa", {}, index=b"\x80\x04" + bytes(40 << 20))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(BrokenArchive, match="bytes"):
            open_archive(path, Caps(max_index_bytes=4 << 20))
        assert tracemalloc.get_traced_memory()[1] < 12e6
    finally:
        tracemalloc.stop()


def test_too_many_names_are_refused(tmp_path):
    path = write_rpa(tmp_path / "a.rpa", {}, index={str(i): [(0, 0)] for i in range(101)})
    with pytest.raises(BrokenArchive, match="101"):
        open_archive(path, Caps(max_members=100))


@pytest.mark.parametrize(
    "index",
    [[1], "x", {"a": 1}, {"a": [1]}, {"a": [(1,)]}, {"a": [(1, 2, 3)]}, {"a": [("1", "2")]},
     {"a": [(1, 2, b"", 4)]}, {"a": [(None, 1)]}],
)  # fmt: skip
def test_an_index_of_another_shape_is_refused(tmp_path, index):
    path = write_rpa(tmp_path / "a.rpa", files(1), index=index)
    with pytest.raises(BrokenArchive):
        open_archive(path, Caps())


def test_places_outside_the_file_and_over_each_other_are_left_out_and_the_others_go_on(tmp_path):
    good = (34, 10)
    index = {
        "a good": [good], "b same": [good], "c overlapping": [(40, 8)], "d beyond": [(34, 10**9)], "e before": [(-4, 8)],
        "f negative": [(50, -8)], "g far": [(2**62, 1)], "h none": [], "i good": [(48, 4)],
    }  # fmt: skip
    path = write_rpa(tmp_path / "a.rpa", {"x": bytes(100)}, key=0, index=index)
    given, left = read(path)
    assert set(given) == {"a good", "i good"} and len(given["a good"]) == 10
    reasons = {"b": "overlap", "c": "overlap"} | dict.fromkeys("defgh", "truncated")
    assert {name[0]: reason for name, reason in left.items()} == reasons


def test_a_member_over_the_limit_is_left_out(tmp_path):
    path = write_rpa(tmp_path / "a.rpa", {"small": b"x" * 10, "large": b"x" * 1001})
    assert read(path, max_member_bytes=1000) == ({"small": b"x" * 10}, {"large": "too_large"})


@pytest.mark.parametrize("start", [b"RPA-3.2 0000000000000000 1 2", b"RPA-4.0 ", b"ALT-1.0 12 34", b"ZiX-12B"])
def test_the_kinds_of_others_are_refused_by_name(tmp_path, start):
    (tmp_path / "a.rpa").write_bytes(start + b"\n" + bytes(100))
    with pytest.raises(BrokenArchive, match=start[:7].decode()):
        open_archive(tmp_path / "a.rpa", Caps())


@pytest.mark.parametrize("cut", [0, 5, 20, 33, 40, -1, -10, -60])
def test_a_cut_archive_says_so(tmp_path, cut):
    path = write_rpa(tmp_path / "a.rpa", files())
    path.write_bytes(path.read_bytes()[:cut] if cut else b"")
    with pytest.raises(DataError) as error:
        open_archive(path, Caps())
    assert error.value.where and error.value.do


def test_an_old_archive_without_its_index_says_which_file_is_missing(tmp_path):
    path = write_rpa(tmp_path / "old.rpa", files(), version=1)
    (tmp_path / "old.rpi").unlink()
    with pytest.raises(BrokenArchive, match=r"old\.rpi"):
        open_archive(path, Caps())
