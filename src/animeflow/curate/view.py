"""The rows that conditions are asked of: posts, what people decided, groups and scores, joined by uid. Knows DuckDB and file names.

DuckDB reads the table itself, only the columns that are asked for, and may open the files of this catalogue and no others; after
that it can be told nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..catalogue.post import LATER, SCHEMA
from ..core.errors import ConfigError, DataError, did_you_mean
from .decided import decided
from .expression import Expression

ROW = "#row"
Score = tuple[str, str]


class View:
    """A catalogue as conditions see it. Use as a context.

    Args:
        folder: of the catalogue.
        scores: (tool, name) of those that are asked for.
        columns: others than those of posts that are asked for; what is not is not joined.
    """

    def __init__(self, folder: Path, *, scores: Iterable[Score] = (), columns: Iterable[str] = ()) -> None:
        self.folder, self.file = folder, folder / "catalogue.parquet"
        if not self.file.exists():
            raise DataError("there is no catalogue here", where=str(folder), do="run 'animeflow catalogue' first")
        try:
            self._there = set(pq.read_schema(self.file).names)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.file} is not a catalogue: {error}", do="run 'animeflow catalogue' again") from error
        self.decided = decided(folder)
        self.groups = read_groups(folder)
        self.scores: dict[Score, str] = {score: f"score:{number}" for number, score in enumerate(sorted(scores))}
        self._asked = set(columns)
        self._tools = {tool: self._tool(tool) for tool in sorted({tool for tool, _ in self.scores})}
        self._connection = self._connected([self.file, *self._tools.values()])

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def select(self, columns: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Name -> values of SQL on the columns, of every row in the order of the table."""
        told = ", ".join(f'{sql} as "{name}"' for name, sql in columns.items())
        found = self.run(f'select "{ROW}", {told} from posts').fetchnumpy()
        rows, ordered = found.pop(ROW), {}
        for name, values in found.items():  # rows come as they are read, by several threads
            ordered[name] = np.empty_like(values)
            ordered[name][rows] = values
        return ordered

    def run(self, sql: str) -> duckdb.DuckDBPyConnection:
        """Our own SQL; conditions in it were parsed by `expression` before."""
        try:
            return self._connection.execute(sql)
        except duckdb.Error as error:
            raise ConfigError(
                f"the query does not run: {str(error).splitlines()[0]}", where=str(self.file),
                do="write try_cast(x as TYPE) where a value may be of another form",
            ) from error  # fmt: skip

    def add(self, name: str, table: pa.Table) -> None:
        """A table of ours to ask beside `posts`."""
        self._connection.register(name, table)

    def check(self, condition: Expression, *, where: str) -> None:
        """Raises ConfigError for a condition whose types do not fit, or that is not true or false."""
        try:
            asked = f"describe select (\n{condition.sql(self.scores)}\n) as c from posts"
            row = self._connection.execute(asked).fetchone()
        except duckdb.Error as error:
            why = str(error).splitlines()[0]
            raise ConfigError(f"the condition does not work: {condition.text}", where=where, why=why) from error
        if row is None or row[1] != "BOOLEAN":
            raise ConfigError(f"the condition is not true or false: {condition.text}", where=where, do="compare it")

    # the tables ------------------------------------------------------------------------------------------------------

    def _connected(self, files: list[Path]) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        connection.execute(f"set allowed_paths = [{', '.join(quoted(str(file)) for file in files)}]")
        for setting in (
            "enable_external_access = false",
            "preserve_insertion_order = false",
            "enable_progress_bar = false",
        ):
            connection.execute(f"set {setting}")
        connection.execute("set lock_configuration = true")
        connection.register("decided", self.decided)
        for kind in ("duplicate", "variant"):
            connection.register(f"groups_{kind}", self.groups[kind])
        try:
            connection.execute(f"create temp view posts as {self._posts()}")
        except duckdb.Error as error:
            connection.close()
            raise DataError(
                f"the catalogue cannot be read: {str(error).splitlines()[0]}", where=str(self.folder)
            ) from error
        return connection

    def _posts(self) -> str:
        """Columns of posts and others, those that there are nothing of as null."""
        columns = [f'p.file_row_number as "{ROW}"']
        for name in SCHEMA.names:
            if name == "origin":
                columns.append("coalesce(d.reviewed_origin, p.origin) as origin" if len(self.decided) else "p.origin")
            else:
                columns.append(
                    f'p."{name}"' if name in self._there or name not in LATER else f'null::{_LATER[name]} as "{name}"'
                )
        joins = f"from read_parquet({quoted(str(self.file))}, file_row_number = true) p"
        if len(self.decided):
            joins += " left join decided d on d.uid = p.uid"
            columns += ["coalesce(d.review, 'none') as review", "d.review_reason", "d.reviewers", "d.reviewed_at"]
            columns += ["coalesce(d.disputed, false) as disputed"]
        else:
            columns += ["'none' as review", "null::varchar as review_reason", "null::varchar[] as reviewers"]
            columns += ["null::varchar as reviewed_at", "false as disputed"]
        if self._asked & {"group_kind", "group_best", "variant_best"}:
            joins += " left join groups_duplicate gd on gd.uid = p.uid left join groups_variant gv on gv.uid = p.uid"
            columns += ["gd.best as group_best", "gv.best as variant_best"]
            columns += [
                "case when gd.uid is not null then 'duplicate' when gv.uid is not null then 'variant' end as group_kind"
            ]
        for number, (tool, file) in enumerate(self._tools.items()):
            named = [(name, column) for (of, name), column in self.scores.items() if of == tool]
            sums = ", ".join(f'max(score) filter (name = {quoted(name)}) as "{column}"' for name, column in named)
            joins += f" left join (select uid, {sums} from read_parquet({quoted(str(file))}) group by uid) s{number}"
            joins += f" on s{number}.uid = p.uid"
            columns += [f's{number}."{column}"' for _, column in named]
        return f"select {', '.join(columns)} {joins}"

    def _tool(self, tool: str) -> Path:
        """The file with a tool's scores, that has all names that are asked for."""
        file = self.folder / "scores" / f"{tool}.parquet"
        there = sorted(path.stem for path in (self.folder / "scores").glob("*.parquet"))
        if tool not in there:
            raise ConfigError(
                f"there are no scores of '{tool}'{did_you_mean(tool, there)}", where=str(self.folder / "scores"),
                do="run 'animeflow annotate' first" + (f"; there are: {', '.join(there)}" if there else ""),
            )  # fmt: skip
        names = pq.read_table(file, columns=["name"])["name"].unique().to_pylist()
        for name in (name for of, name in self.scores if of == tool and name not in names):
            raise ConfigError(
                f"'{tool}' has no score '{name}'{did_you_mean(name, names)}", where=str(file),
                do=f"it has: {', '.join(sorted(names)[:20])}",
            )  # fmt: skip
        return file


_LATER = {"evidence": "varchar[]", "generation": "integer"} | dict.fromkeys(
    (name for name in LATER if name not in ("evidence", "generation")), "varchar"
)


def read_groups(folder: Path) -> dict[str, pa.Table]:
    """Kind -> (uid, best) of the pictures in groups; empty where nothing was compared yet."""
    file = folder / "groups.parquet"
    empty = pa.table({"uid": pa.array([], pa.int64()), "best": pa.array([], pa.int64())})
    if not file.exists():
        return {"duplicate": empty, "variant": empty}
    try:
        table = pq.read_table(file, columns=["uid", "group", "kind"]).rename_columns(["uid", "best", "kind"])
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"the groups cannot be read: {error}", where=str(file), do="run 'animeflow dedup' again"
        ) from error
    kinds = table["kind"].to_numpy()
    return {kind: table.filter(pa.array(kinds == kind)).select(["uid", "best"]) for kind in ("duplicate", "variant")}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
