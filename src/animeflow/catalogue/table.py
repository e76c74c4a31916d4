"""The catalogue: a folder with one Parquet table of posts, the list of refusals, and a manifest.

Knows DuckDB and Parquet; opens no picture. Rows keep the order in which they were added, and the same additions give the same
bytes, however they were divided into runs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from ..core.errors import ConfigError, DataError
from ..core.files import atomic_path, read_json, sha256_file, write_json, write_text
from .post import SCHEMA, Post
from .rows import COUNTED, ROWS_PER_GROUP, merged, write


@dataclass(frozen=True, order=True)
class Rejection:
    """A file that was found and not taken, and why. `source` is the adapter and folder it came from."""

    path: str
    reason: str
    detail: str
    source: str


class Catalogue:
    """Posts in `folder`: catalogue.parquet, rejected.jsonl, manifest.json. Changes are in memory until `commit`.

    Args:
        folder: made on the first commit.
        root: paths of pictures below it are stored relative to it, others absolute. Default: what the manifest says, else the
            folder that holds `folder`. It is remembered relative to `folder`, so both can be moved together.
    """

    def __init__(self, folder: str | Path, *, root: str | Path | None = None) -> None:
        self.folder = Path(folder).resolve()
        self._manifest = read_json(self._file("manifest.json")) if self._file("manifest.json").exists() else {}
        told = self._manifest.get("root", "..")
        self.root = Path(root).resolve() if root is not None else Path(os.path.normpath(self.folder / told))
        if root is not None and self._manifest and self.root != Path(os.path.normpath(self.folder / told)):
            raise ConfigError(
                f"the catalogue's pictures are relative to {self.folder / told}, not to {self.root}",
                where=str(self.folder),
                do="leave root out, or make another catalogue",
            )
        self.config: dict[str, Any] = dict(self._manifest.get("config", {}))
        self._path_of: dict[str, str] = {}  # sha256 -> path
        self._sha_at: dict[str, str] = {}  # path -> sha256
        self._digest_of: dict[str, str] = {}
        self._homeless: set[str] = set()  # sha256 of posts whose file is now another one
        self._new: dict[str, Post] = {}
        self._changed: dict[str, Post | None] = {}  # None: removed
        self._rejected: list[Rejection] = self._read_rejected()
        self._rejected_before = list(self._rejected)
        if self._file("catalogue.parquet").exists():
            self._read_index()

    def __len__(self) -> int:
        return len(self._path_of)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._path_of

    # paths -----------------------------------------------------------------------------------------------------------

    def stored_path(self, file: Path) -> str:
        """How a file's path is written in the table."""
        file = Path(os.path.abspath(file))
        # The root has its links resolved; a file named through one of them lies below it all the same.
        place = file if file.is_relative_to(self.root) else file.parent.resolve() / file.name
        return str(PurePosixPath(place.relative_to(self.root) if place.is_relative_to(self.root) else file))

    def file(self, post: Post) -> Path:
        """Where the picture of a post lies."""
        return self.root / post.path

    def path_of(self, sha256: str) -> str | None:
        """Stored path of the picture with these bytes."""
        return self._path_of.get(sha256)

    def sha_at(self, path: str) -> str | None:
        """sha256 of the post with this stored path."""
        return self._sha_at.get(path)

    def has_home(self, sha256: str) -> bool:
        """Whether the file of a post still counts as its own, as far as `add` and `displace` were told."""
        return sha256 not in self._homeless

    # changing --------------------------------------------------------------------------------------------------------

    def add(self, posts: Iterable[Post]) -> Counter[str]:
        """Take posts; counts of added, known, updated (known with other facts) and duplicate_file.

        Idempotent by sha256: of two files with the same bytes the first one is kept, the second is listed as rejected.
        """
        verdicts: Counter[str] = Counter()
        for post in posts:
            verdicts[self._add(post)] += 1
        return verdicts

    def _add(self, post: Post) -> str:
        first = self._path_of.get(post.sha256)
        if first is not None and first != post.path:
            if not self.has_home(post.sha256):
                self.move(post)
                return "updated"
            self.reject(Rejection(post.path, "duplicate_file", f"same bytes as {first}", post.source))
            return "duplicate_file"
        if first == post.path:
            if self._digest_of[post.sha256] == post.digest():
                self._settle(post)
                return "known"
            self._store(post, self._new if post.sha256 in self._new else self._changed)
            return "updated"
        if self._changed.get(post.sha256, post) is None:  # removed and back again
            self._store(post, self._changed)
        else:
            self._store(post, self._new)
        return "added"

    def _store(self, post: Post, place: dict[str, Post] | dict[str, Post | None]) -> None:
        place[post.sha256] = post
        self._digest_of[post.sha256] = post.digest()
        self._settle(post)

    def _settle(self, post: Post) -> None:
        """Give the post's file to it; a post that had it until now is homeless."""
        before = self._path_of.get(post.sha256, post.path)
        if before != post.path and self._sha_at.get(before) == post.sha256:
            del self._sha_at[before]
        if self._sha_at.get(post.path, post.sha256) != post.sha256:
            self._homeless.add(self._sha_at[post.path])
        self._path_of[post.sha256], self._sha_at[post.path] = post.path, post.sha256
        self._homeless.discard(post.sha256)

    def move(self, post: Post) -> None:
        """The same picture at another path: its file was renamed. The row keeps its place in the table."""
        self._store(post, self._new if post.sha256 in self._new else self._changed)

    def displace(self, path: str) -> None:
        """The file at `path` is no longer that of its post, if it has one. Unless it turns up elsewhere (`move`, or `add` with the
        same path) before the next final commit, the post goes."""
        if (sha := self._sha_at.pop(path, None)) is not None:
            self._homeless.add(sha)

    def remove(self, sha256: str) -> None:
        """Take a post out. Say why with `reject`."""
        path = self._path_of.pop(sha256)
        if self._sha_at.get(path) == sha256:
            del self._sha_at[path]
        self._homeless.discard(sha256)
        del self._digest_of[sha256]
        if self._new.pop(sha256, None) is None:
            self._changed[sha256] = None

    def reject(self, rejection: Rejection) -> None:
        """List a file that was not taken."""
        self._rejected.append(rejection)

    def forget_rejections(self, source: str) -> None:
        """Before a source is read again: drop what was listed for it."""
        self._rejected = [rejection for rejection in self._rejected if rejection.source != source]

    @property
    def rejections(self) -> list[Rejection]:
        return sorted(set(self._rejected))

    # reading ---------------------------------------------------------------------------------------------------------

    def posts(self, where: str | None = None) -> list[Post]:
        """Posts that satisfy a SQL condition on the columns of the table, in its order; all without one.

        `"rating = 'general' and list_contains(tags.general, 'solo') and width >= 512"`
        """
        return list(self.iterate(where))

    def iterate(self, where: str | None = None) -> Iterator[Post]:
        """`posts`, a batch at a time. What was added since the last commit is not seen."""
        for batch in self._batches() if where is None else self._query(where):
            for row in batch.to_pylist():
                yield Post.from_row(row)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._file("catalogue.parquet").exists():
            yield from pads.dataset(self._file("catalogue.parquet"), schema=SCHEMA).to_batches(use_threads=False)

    def _query(self, where: str) -> Iterator[pa.RecordBatch]:
        if not self._file("catalogue.parquet").exists():
            return
        with duckdb.connect(config={"enable_external_access": "false"}) as connection:
            connection.register("posts", pads.dataset(self._file("catalogue.parquet"), schema=SCHEMA))
            try:
                yield from connection.sql(f"select * from posts where ({where})").to_arrow_reader(ROWS_PER_GROUP)
            except duckdb.Error as error:
                raise ConfigError(
                    f"the filter does not work: {where}",
                    where="catalogue.where",
                    why=str(error).splitlines()[0],
                    do=f"write a SQL condition on: {', '.join(SCHEMA.names)}",
                ) from error

    def summary(self) -> dict[str, Any]:
        """Counts by source, rating, origin, split and format; bytes and rejections. As last committed."""
        return {
            key: value for key, value in self._manifest.items() if key not in ("sha256", "config", "root", "version")
        }

    # writing ---------------------------------------------------------------------------------------------------------

    def commit(self, *, final: bool = True) -> bool:
        """Write what changed, each file whole or not at all; False when nothing did, and then no file is touched.

        `final` drops the posts whose file is no longer theirs; a commit in between keeps them, for it may yet turn up.
        """
        for sha in sorted(self._homeless) if final else ():
            self.remove(sha)
        rows_changed = bool(self._new or self._changed) or not self._file("catalogue.parquet").exists()
        rejected = "".join(json.dumps(vars(r), ensure_ascii=False, sort_keys=True) + "\n" for r in self.rejections)
        rejected_changed = (
            self.rejections != sorted(set(self._rejected_before)) or not self._file("rejected.jsonl").exists()
        )
        if not rows_changed and not rejected_changed and self.config == self._manifest.get("config"):
            return False
        counts: dict[str, Any] = {key: self._manifest.get(key) for key in ("posts", "bytes", *COUNTED)}
        if rows_changed:
            with atomic_path(self._file("catalogue.parquet")) as temporary:
                counts = write(temporary, merged(self._batches(), self._changed, self._new.values()))
            self._new, self._changed = {}, {}
        if rejected_changed:
            write_text(self._file("rejected.jsonl"), rejected)
            self._rejected_before = list(self._rejected)
        self._manifest = {
            "version": 1,
            "root": os.path.relpath(self.root, self.folder),
            "config": self.config,
            **counts,
            "rejected": dict(sorted(Counter(r.reason for r in self.rejections).items())),
            "sha256": {name: sha256_file(self._file(name)) for name in ("catalogue.parquet", "rejected.jsonl")},
        }
        write_json(self._file("manifest.json"), self._manifest)
        return True

    def _file(self, name: str) -> Path:
        return self.folder / name

    def _read_index(self) -> None:
        try:
            table = pq.read_table(self._file("catalogue.parquet"), columns=["sha256", "path", "digest"])
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self._file('catalogue.parquet')} is not a catalogue: {error}",
                do="remove this file and run the verb again; keep decisions.jsonl, it is what people said",
            ) from error
        for sha, path, digest in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if path in self._sha_at:  # a run was killed before it had seen all files that changed places
                self._homeless.add(self._sha_at[path])
            self._path_of[sha], self._sha_at[path], self._digest_of[sha] = path, sha, digest

    def _read_rejected(self) -> list[Rejection]:
        file = self._file("rejected.jsonl")
        # A newline alone ends a line: a detail may hold other signs that Python takes for one.
        lines = file.read_text(encoding="utf-8").split("\n") if file.exists() else []
        return [Rejection(**json.loads(line)) for line in lines if line]
