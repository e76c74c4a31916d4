"""The catalogue: a folder with one Parquet table of posts, the list of refusals, and a manifest.

Knows DuckDB and Parquet; opens no picture. Rows keep the order in which they were added, and the same additions give the same
bytes, however they were divided into runs.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError
from ..core.files import atomic_path, read_json, sha256_file, write_json
from .index import Index
from .pending import SOME, Pending
from .post import SCHEMA, Post
from .refusals import Refusals, Rejection
from .rows import COUNTED, ROWS_PER_GROUP, write


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
        self._refusals = Refusals(self._file("rejected.jsonl"))
        self._rows = self._committed_rows()
        self._forget_changes()

    def _forget_changes(self) -> None:
        """What differs from the table: nothing."""
        self._count = self._rows
        self._now: dict[str, _Row] = {}  # by sha256
        self._sha_at: dict[str, str | None] = {}  # by path
        self._pending = Pending(self._rows)
        self.__dict__.pop("_index", None)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, sha256: str) -> bool:
        return self.path_of(sha256) is not None

    # paths -----------------------------------------------------------------------------------------------------------

    def stored_path(self, file: Path) -> str:
        """How a file's path is written in the table."""
        text, root = os.path.abspath(file), f"{self.root}{os.sep}"
        if text.startswith(root):  # of nearly all
            return text.removeprefix(root).replace(os.sep, "/")
        file = Path(text)
        # The root has its links resolved; a file named through one of them lies below it all the same.
        place = file if file.is_relative_to(self.root) else file.parent.resolve() / file.name
        return str(PurePosixPath(place.relative_to(self.root) if place.is_relative_to(self.root) else file))

    def file(self, post: Post) -> Path:
        """Where the picture of a post lies."""
        return self.root / post.path

    def path_of(self, sha256: str) -> str | None:
        """Stored path of the picture with these bytes."""
        return None if (row := self._row(sha256)) is None or row.gone else row.path

    def sha_at(self, path: str) -> str | None:
        """sha256 of the post with this stored path."""
        if path in self._sha_at:
            return self._sha_at[path]
        return None if (row := self._index.row_at(path)) is None else self._index.sha(row)

    def has_home(self, sha256: str) -> bool:
        """Whether the file of a post still counts as its own, as far as `add` and `displace` were told."""
        return sha256 not in self._homeless

    def number_of(self, sha256: str) -> int:
        """The row of a post that is in the table."""
        if (row := self._row(sha256)) is None:
            raise KeyError(sha256)
        return row.number

    def _row(self, sha256: str) -> _Row | None:
        if sha256 in self._now:
            return self._now[sha256]
        if (number := self._index.row_of(sha256)) is None:
            return None
        return _Row(number, self._index.path(number), self._index.digest(number))

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
        row = self._row(post.sha256)
        if row is None or row.gone:
            self._store(post, row)
            self._count += 1
            return "added"
        if row.path == post.path:
            if row.digest == post.digest():
                self._settle(post, row)
                return "known"
            self._store(post, row)
            return "updated"
        if not self.has_home(post.sha256):
            self.move(post)
            return "updated"
        self.reject(Rejection(post.path, "duplicate_file", f"same bytes as {row.path}", post.source))
        return "duplicate_file"

    def _store(self, post: Post, row: _Row | None) -> None:
        """In the place of its row; one that was removed and is back again has it still."""
        if row is None:
            number = self._pending.add(post)
        else:
            number = row.number
            self._pending.replace(number, post)
        self._settle(post, row)
        self._now[post.sha256] = _Row(number, post.path, post.digest())

    def _settle(self, post: Post, row: _Row | None) -> None:
        """Give the post's file to it; a post that had it until now is homeless."""
        before = post.path if row is None or row.gone else row.path
        if before != post.path and self.sha_at(before) == post.sha256:
            self._sha_at[before] = None
        holder = self.sha_at(post.path)
        if holder not in (None, post.sha256):
            self._homeless.add(str(holder))
        if holder != post.sha256:
            self._sha_at[post.path] = post.sha256
        self._homeless.discard(post.sha256)

    def move(self, post: Post) -> None:
        """The same picture at another path: its file was renamed. The row keeps its place in the table."""
        self._store(post, self._row(post.sha256))

    def displace(self, path: str) -> None:
        """The file at `path` is no longer that of its post, if it has one. Unless it turns up elsewhere (`move`, or `add` with the
        same path) before the next final commit, the post goes."""
        if (sha := self.sha_at(path)) is not None:
            self._sha_at[path] = None
            self._homeless.add(sha)

    def remove(self, sha256: str) -> None:
        """Take a post out. Say why with `reject`."""
        row = self._row(sha256)
        if row is None or row.gone:
            raise KeyError(sha256)
        if self.sha_at(row.path) == sha256:
            self._sha_at[row.path] = None
        self._homeless.discard(sha256)
        self._now[sha256] = row._replace(gone=True)
        self._pending.remove(row.number)
        self._count -= 1

    def reject(self, rejection: Rejection) -> None:
        """List a file that was not taken."""
        self._refusals.add(rejection)

    def forget_rejections(self, source: str) -> None:
        """Before a source is read again: drop what was listed for it, and for every source whose folder is gone: its files are of
        no source now, or of one that has them in another place."""
        self._refusals.forget(source)
        for other in self._refusals.sources():
            roots = [other[at + 1 :] for at, sign in enumerate(other) if sign == ":"]  # a name may have one, too
            if roots and not any(os.path.lexists(self.root / root) for root in roots):
                self._refusals.forget(other)

    def forget_rejections_at(self, source: str, path_is: Callable[[str], bool]) -> None:
        """Drop what was listed for a source until now about files with such paths."""
        self._refusals.forget_at(source, path_is)

    @property
    def rejections(self) -> list[Rejection]:
        return list(self._refusals)

    # reading ---------------------------------------------------------------------------------------------------------

    def posts(self, where: str | None = None) -> list[Post]:
        """Posts that satisfy a SQL condition on the columns of the table, in its order; all without one.

        `"rating = 'general' and list_contains(tags.general, 'solo') and width >= 512"`
        """
        return list(self.iterate(where))

    def iterate(self, where: str | None = None) -> Iterator[Post]:
        """`posts`, a batch at a time. What was added since the last commit is not seen."""
        for batch in self._batches() if where is None else self._query(where):
            for start in range(0, len(batch), SOME):  # as objects they take more room
                yield from map(Post.from_row, batch.slice(start, SOME).to_pylist())

    def of_uids(self, uids: NDArray[np.int64]) -> Iterator[Post]:
        """Posts with these uids, which are sorted, in the order of the table, as last committed."""
        for batch in self._batches() if len(uids) else ():
            asked = batch["uid"].to_numpy()
            found = uids[np.searchsorted(uids, asked).clip(max=len(uids) - 1)] == asked
            yield from map(Post.from_row, batch.take(pa.array(np.flatnonzero(found))).to_pylist())

    def counts(self, uids: NDArray[np.int64]) -> dict[str, dict[str, int]]:
        """How many of the posts with these uids have which source, rating, origin, split and format, as last committed."""
        wanted, counts = pa.array(uids), {name: Counter[str]() for name in COUNTED}
        for batch in self._batches():
            of_these = batch.filter(pc.is_in(batch["uid"], wanted))
            for name, counter in counts.items():
                for entry in pc.value_counts(of_these[name]).to_pylist():
                    counter[entry["values"]] += entry["counts"]
        return {name: dict(sorted(counter.items())) for name, counter in counts.items()}

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._file("catalogue.parquet").exists():
            yield from pads.dataset(self._file("catalogue.parquet"), schema=SCHEMA).to_batches(
                batch_size=ROWS_PER_GROUP, batch_readahead=1, use_threads=False
            )

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
        rows_changed = bool(self._pending) or "catalogue.parquet" in self._untold
        if rows_changed:
            self._refuse_another_table()
        refused = self._refusals.write(counted="rejected.jsonl" not in self._untold)
        if not rows_changed and refused is None and self.config == self._manifest.get("config"):
            return False
        counts: dict[str, Any] = {key: self._manifest.get(key) for key in ("posts", "bytes", *COUNTED)}
        if rows_changed:
            with atomic_path(self._file("catalogue.parquet")) as temporary:
                counts = write(temporary, self._pending.applied(self._batches()))
                self._refuse_another_table()
            self._committed()
        self._manifest = {
            "version": 1,
            "root": os.path.relpath(self.root, self.folder),
            "config": self.config,
            **counts,
            "rejected": self._manifest.get("rejected", {}) if refused is None else dict(sorted(refused.items())),
            "sha256": {name: sha256_file(self._file(name)) for name in ("catalogue.parquet", "rejected.jsonl")},
        }
        write_json(self._file("manifest.json"), self._manifest)
        self._untold.clear()
        return True

    @cached_property
    def _untold(self) -> set[str]:
        """Files that are other than the manifest says, or not there: a run may have been killed before it wrote the manifest."""
        told, names = self._manifest.get("sha256", {}), ("catalogue.parquet", "rejected.jsonl")
        files = {name: self._file(name) for name in names}
        return {name for name, file in files.items() if not file.exists() or sha256_file(file) != told.get(name)}

    def _refuse_another_table(self) -> None:
        """Changes are kept by the numbers of rows, which another process may have given to others."""
        if self._table_is() != self._table:
            raise DataError(
                f"{self._file('catalogue.parquet')} was changed by another process",
                why="two runs at once would lose rows of each other",
                do="let the other one end, then run the verb again: what was learned of files is kept",
            )

    def _table_is(self) -> tuple[int, ...]:
        """A table is written once and replaced as a whole: which one it is, none of it read."""
        try:
            found = os.stat(self._file("catalogue.parquet"))
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _committed(self) -> None:
        """The table is as it was to be. What a file is that was told of since stays known."""
        homeless, told = self._homeless, self._sha_at
        self._rows = self._committed_rows()
        self._forget_changes()
        self._homeless = homeless
        self._sha_at = {path: sha for path, sha in told.items() if self.sha_at(path) != sha}

    def _file(self, name: str) -> Path:
        return self.folder / name

    def _committed_rows(self) -> int:
        file = self._file("catalogue.parquet")
        self._table = self._table_is()
        with self._read(file):
            return pq.read_metadata(file).num_rows if file.exists() else 0

    @cached_property
    def _index(self) -> Index:
        """Of the table; whoever only reads it needs none."""
        file = self._file("catalogue.parquet")
        with self._read(file):
            return Index.read(file) if file.exists() else Index.empty()

    @cached_property
    def _homeless(self) -> set[str]:
        """sha256 of posts whose file is now another one."""
        return set(self._index.homeless)

    @contextlib.contextmanager
    def _read(self, file: Path) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: of hashes that are none
            raise DataError(
                f"{file} is not a catalogue: {error}",
                do="remove this file and run the verb again; keep decisions.jsonl, it is what people said",
            ) from error


class _Row(NamedTuple):
    """Of a post that is in the table or will be, or that was taken out of it."""

    number: int
    path: str
    digest: str
    gone: bool = False
