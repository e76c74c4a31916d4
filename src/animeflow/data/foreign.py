"""An index for WebDataset tars that somebody else wrote, so that they are read by range, in the planned order and checked by hash.

Knows tar headers, PNG and JSON; unpacks nothing and changes no tar. What it writes is what `shard` writes: index and manifest.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..catalogue.post import uid_of
from ..core import files
from ..core.engine import Engine
from ..core.errors import DataError
from ..core.log import progress
from ..image.decode import decode
from ..image.picture import BadPicture, Limits
from .manifest import FACTS, INDEX, MANIFEST, PICTURE, Manifest, Rejection, SampleRow, samples_hash, write_index
from .prepare import in_order, pixels_hash

_MEMBER = re.compile(
    r"(?P<key>(?:.*/)?[^./]+)\.(?P<extension>[^/]+)"
)  # as webdataset splits: at the first dot of the name
_UNSAFE = re.compile(r"/|[A-Za-z]:|(?:.*/)?\.\.(?:/.*)?$|.*[\\\x00-\x1f]", re.DOTALL)
_MAX_FACTS = 16 * 2**20


@dataclass(frozen=True)
class _Tar:
    """A tar to look at, and how."""

    folder: Path
    name: str
    step: int
    limits: Limits


def index_tars(folder: Path, *, step: int = 16, limits: Limits | None = None, workers: int = 0) -> Manifest:
    """Write `index.parquet` and `manifest.json` for every `*.tar` under `folder`, so that `ShardSet` reads them.

    A sample is two members of one key: KEY.png, already at the size of its bucket, and KEY.json, an object with the facts that
    captions are made of (`tags` by category, `captions` by language, `rating`, `split`; all may be missing). Its uid is the hash
    of the PNG's bytes. What does not fit is listed in the manifest as rejected; other members are let alone.

    Args:
        step: sides that are no multiple of it are no bucket (`not_a_bucket`).
        limits: of the decoder.
        workers: processes that decode; 0 decodes in this one.
    Raises:
        DataError: a tar is broken, has a name that leads out of a folder, or holds links or devices; nothing fits; or the folder
            already has a manifest of `shard`.
    """
    folder, limits = Path(folder), limits or Limits()
    _refuse_ours(folder)
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.tar") if not path.name.startswith(".")
    )
    if not names:
        raise DataError("there are no tars here", where=str(folder))
    rows: dict[int, SampleRow] = {}
    rejected: list[Rejection] = []
    shards = []
    with progress("tars", len(names)) as advance:
        tasks = [_Tar(folder, name, step, limits) for name in names]
        for name, (found, refused) in zip(names, in_order(_look, tasks, engine=Engine(workers=workers))):
            twice = [row for row in found if row.uid in rows]
            rejected += refused + [Rejection(row.uid, name, "twice", f"also in {rows[row.uid].shard}") for row in twice]
            new = {row.uid: row for row in found if row.uid not in rows}
            rows |= new
            tar = folder / name
            facts = {"bytes": tar.stat().st_size, "sha256": files.sha256_file(tar), "samples": len(new)}
            shards += [{"name": name, **facts}] if new else []
            advance(1)
    if not rows:
        why = f"the first: {rejected[0].reason}, {rejected[0].detail}" if rejected else "there is none"
        raise DataError(f"none of the samples can be used; {why}", where=str(folder))
    return _commit(folder, list(rows.values()), rejected, shards, {"step": step, "limits": asdict(limits)})


def _refuse_ours(folder: Path) -> None:
    if (folder / MANIFEST).is_file() and "foreign" not in Manifest.read(folder).config:
        raise DataError(
            "these shards have an index: the verb 'shard' wrote it",
            where=str(folder / MANIFEST),
            do="use them as they are",
        )


def _commit(
    folder: Path,
    rows: list[SampleRow],
    rejected: list[Rejection],
    shards: list[dict[str, Any]],
    settings: dict[str, Any],
) -> Manifest:
    write_index(folder / INDEX, rows)
    buckets: dict[str, dict[str, int]] = {}
    for row in rows:
        bucket = buckets.setdefault(row.bucket, {"samples": 0, "shards": 0, "bytes": 0})
        bucket["samples"] += 1
        bucket["bytes"] += row.size
    for name, _ in {(row.bucket, row.shard) for row in rows}:
        buckets[name]["shards"] += 1
    manifest = Manifest(
        found=len(rows) + len(rejected),
        written=len(rows),
        rejected=sorted(rejected, key=lambda r: (r.uid, r.reason, r.path)),
        buckets=dict(sorted(buckets.items())),
        shards=shards,
        posts=files.address(foreign=[[shard["name"], shard["sha256"]] for shard in shards]),
        samples=samples_hash(rows),
        config={"foreign": settings},
        index={
            "name": INDEX,
            "bytes": (folder / INDEX).stat().st_size,
            "sha256": files.sha256_file(folder / INDEX),
        },
    )
    files.write_json(folder / MANIFEST, manifest.to_json())
    return manifest


# -- one tar -----------------------------------------------------------------------------------------------------------


def _look(task: _Tar) -> tuple[list[SampleRow], list[Rejection]]:
    """The samples of a tar that fit, and those that do not."""
    path = task.folder / task.name
    rows: list[SampleRow] = []
    rejected: list[Rejection] = []
    with open(path, "rb") as file:

        def payload(member: tarfile.TarInfo) -> bytes:
            file.seek(member.offset_data)
            return file.read(member.size)

        for key, parts in _samples(path).items():
            where = f"{task.name}: {key}"
            try:
                rows.append(_row(task, {name: (member, payload(member)) for name, member in parts.items()}))
            except BadPicture as error:
                rejected.append(Rejection(0, where, error.reason, error.detail))
    return rows, rejected


def _samples(path: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Key -> its PNG and JSON members. Raises DataError for what no honest tar of samples holds."""
    size = path.stat().st_size
    members: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                _refuse(member, path, size)
                match = _MEMBER.fullmatch(member.name)
                if member.isreg() and match and match["extension"].lower() in (PICTURE, FACTS):
                    parts = members.setdefault(match["key"], {})
                    if match["extension"].lower() in parts:
                        raise DataError(f"'{member.name}' is in the tar twice", where=str(path))
                    parts[match["extension"].lower()] = member
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise DataError(f"the tar cannot be read: {error}", where=str(path)) from error
    return members


def _refuse(member: tarfile.TarInfo, path: Path, size: int) -> None:
    if _UNSAFE.match(member.name):
        raise DataError(
            f"the name {member.name!r} leads out of a folder",
            where=str(path),
            do="do not use this tar, or pack it anew",
        )
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise DataError(
            f"'{member.name}' is a link, a device or a sparse file; samples are plain files",
            where=str(path),
            do="pack it anew",
        )
    if member.offset_data + member.size > size:
        raise DataError(f"the tar ends inside '{member.name}'", where=str(path), do="fetch it again")


def _row(task: _Tar, parts: Mapping[str, tuple[tarfile.TarInfo, bytes]]) -> SampleRow:
    """Raises BadPicture, with the reason, for a sample that does not fit."""
    if missing := {PICTURE, FACTS} - parts.keys():
        raise BadPicture("incomplete", f"there is no {' and no '.join(sorted(missing))}")
    (picture, png), (about, text) = parts[PICTURE], parts[FACTS]
    facts = _facts(text)
    pixels = decode(png, limits=task.limits).pixels
    height, width = pixels.shape[:2]
    if not png.startswith(b"\x89PNG") or height % task.step or width % task.step:
        raise BadPicture(
            "not_a_bucket", f"a PNG of sides that are multiples of {task.step} is wanted, this is {height}x{width}"
        )
    start = min(picture.offset, about.offset)
    end = max(member.offset_data + -(-member.size // 512) * 512 for member in (picture, about))
    sha = files.sha256(png)
    return SampleRow(
        uid=uid_of(sha), bucket=f"{height}x{width}", shard=task.name, split=str(facts.get("split", "train")),
        offset=start, size=end - start, png_offset=picture.offset_data, png_size=picture.size, png_sha256=sha,
        json_offset=about.offset_data, json_size=about.size, json_sha256=files.sha256(text), pixels=pixels_hash(pixels),
    )  # fmt: skip


def _facts(text: bytes) -> dict[str, Any]:
    """The facts of a sample, in the form that captions are rendered from."""
    if len(text) > _MAX_FACTS:
        raise BadPicture("bad_facts", f"{len(text):,} bytes of JSON")
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadPicture("bad_facts", f"no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise BadPicture("bad_facts", "the JSON is no object")
    for name, fits in (("tags", _is_words), ("captions", lambda value: isinstance(value, str))):
        node = facts.get(name) or {}
        if not isinstance(node, dict) or not all(fits(value) for value in node.values()):
            raise BadPicture(
                "bad_facts", f"'{name}' is not by {'category, each a list' if name == 'tags' else 'language'}"
            )
    if facts.get("split", "train") not in ("train", "val"):
        raise BadPicture("bad_facts", f"the split is {facts['split']!r}; it may be train or val")
    return facts


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
