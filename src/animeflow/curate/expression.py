"""One SQL condition on the columns of a picture, read before it is run: what it looks at, and that it can look at nothing else.

A condition is true or false of a row alone: no other row, no table, no file, no clock and no dice. So the same text gives the same
rows. DuckDB parses it; what its tree holds is allowed by name. Knows no rule and no catalogue.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from ..core.errors import ConfigError, did_you_mean

NODES = (
    "BETWEEN",
    "CASE",
    "CAST",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "LAMBDA",
    "OPERATOR",
    "TYPE",
)
SCORE = "score"
_CALL = re.compile(r"\bscore\s*\(\s*'((?:[^']|'')*)'\s*,\s*'((?:[^']|'')*)'\s*\)", re.IGNORECASE)
_MACROS = re.compile(r"(list|array)_\w+|split_part|nullif|if|days_in_month|map_contains_\w+")
_UNSTEADY = re.compile(
    r"current_\w+|ag[eo]|hash|version|sleep_ms|\w*serialize\w*|__\w+|icu_\w+|collate_\w+|alias|typeof|stats"
)
"""Functions that see a clock, or whose answer another version of DuckDB changes."""


@dataclass(frozen=True)
class Expression:
    """A condition that was found fit to run.

    Attributes:
        text: as written.
        columns: of the picture that it reads.
        scores: (tool, name) of every score that it asks for.
    """

    text: str
    columns: frozenset[str]
    scores: frozenset[tuple[str, str]]

    def sql(self, column: Mapping[tuple[str, str], str]) -> str:
        """The text with every call of `score` in the words of a column."""
        return _CALL.sub(lambda found: f'"{column[_unquoted(found)]}"', self.text)


def parse(text: str, *, known: Mapping[str, Any], where: str) -> Expression:
    """`known`: the columns, each with the names of its fields where it has any.

    Raises:
        ConfigError: it is no condition on them.
    """
    columns, scores = set[str](), set[tuple[str, str]]()
    for node, named in _nodes(_tree(text, where)):
        kind = str(node["class"])
        if kind not in NODES:
            raise _refused(text, where, _ODD.get(kind, f"it has a part of the kind {kind.lower()}"))
        if kind == "COLUMN_REF" and node["column_names"][0] not in named:
            columns.add(_column(list(node["column_names"]), known, where))
        if kind == "FUNCTION":
            name = str(node["function_name"]).lower()
            if name == SCORE:
                scores.add(_score(node, text, where))
            elif not node.get("is_operator"):
                _check_function(name, node, text, where)
    if len(scores) != len({_unquoted(found) for found in _CALL.finditer(text)}):
        raise _refused(text, where, "a score is asked for in another form than score('tool', 'name')")
    return Expression(text, frozenset(columns), frozenset(scores))


_ODD = {
    "SUBQUERY": "it asks a table, and a condition is of one picture alone",
    "WINDOW": "it looks at other rows, and a condition is of one picture alone",
    "STAR": "it names all columns at once",
    "PARAMETER": "it has a place for a value that nobody gives",
    "COLLATE": "it sorts words by a language, which differs between machines",
}


def _tree(text: str, where: str) -> dict[str, Any]:
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{text!r} is no condition", where=where, do="write SQL, for example: width * height < 65536")
    asked = f"select (\n{text}\n) as c from posts"
    with _parser().cursor() as cursor:
        row = cursor.execute("select json_serialize_sql(?::varchar)", [asked]).fetchone()
    answer: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    if answer["error"]:
        raise _refused(text, where, str(answer.get("error_message", "it cannot be read")))
    statements = answer["statements"]
    node = statements[0]["node"]
    table = node.get("from_table") or {}
    plain = (
        len(statements) == 1 and node["type"] == "SELECT_NODE" and len(node["select_list"]) == 1
        and node["select_list"][0].get("alias") == "c"
        and table.get("type") == "BASE_TABLE" and table.get("table_name") == "posts" and not table.get("sample")
        and not any(node.get(part) for part in ("where_clause", "group_expressions", "having", "sample", "qualify", "modifiers"))
        and not node.get("cte_map", {}).get("map")
    )  # fmt: skip
    if not plain:
        raise _refused(text, where, "it is more than one condition")
    return node["select_list"][0]


def _nodes(value: Any, named: frozenset[str] = frozenset()) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """Every node of a tree of expressions, queries within it too, with the names that the lambdas around it give to elements."""
    if isinstance(value, list):
        for part in value:
            yield from _nodes(part, named)
    elif isinstance(value, dict):
        if value.get("class") == "LAMBDA":
            heads = [node for node, _ in _nodes(value.get("lhs"))]
            named |= {str(node["column_names"][0]) for node in heads if node["class"] == "COLUMN_REF"}
        if "class" in value:
            yield value, named
        for part in value.values():
            yield from _nodes(part, named)


def _column(path: list[str], known: Mapping[str, Any], where: str) -> str:
    if path[0] == "posts" and len(path) > 1:
        path = path[1:]
    name = path[0].lower()
    if name not in known:
        raise ConfigError(
            f"there is no column '{path[0]}'{did_you_mean(name, known)}",
            where=where, do=f"known: {', '.join(known)}, and score('tool', 'name')",
        )  # fmt: skip
    fields = known[name]
    if fields and len(path) > 1 and path[1].lower() not in fields:
        raise ConfigError(
            f"{name} has no '{path[1]}'{did_you_mean(path[1], fields)}", where=where, do=f"known: {', '.join(fields)}"
        )
    return name


def _score(node: Mapping[str, Any], text: str, where: str) -> tuple[str, str]:
    """(tool, name) of a call, from the text: how a tree writes constants differs between versions."""
    arguments = node.get("arguments") or node.get("children") or []
    found = next(_CALL.finditer(text), None)
    if len(arguments) != 2 or found is None:
        raise _refused(text, where, "a score is asked for as score('tool', 'name')")
    values = [_constant(part.get("expression", part)) for part in arguments]
    if None in values:
        raise _refused(text, where, "a score is asked for by two words in quotes")
    return str(values[0]), str(values[1])


def _constant(node: Mapping[str, Any]) -> str | None:
    if node.get("class") != "CONSTANT":
        return None
    if "literal" in node:
        return str(node["literal"]["text"]) if node["literal"].get("kind") == "STRING" else None
    value = node.get("value", {}).get("value")
    return value if isinstance(value, str) else None


def _check_function(name: str, node: Mapping[str, Any], text: str, where: str) -> None:
    steady, many = _functions()
    if name in many and name not in steady:
        raise _refused(text, where, f"{name}() looks at other rows, and a condition is of one picture alone")
    if name not in steady:
        every = sorted(steady)
        raise ConfigError(
            f"the function {name}() cannot be used in a rule{did_you_mean(name, every)}", where=where,
            why="a rule gives the same rows every time and reaches nothing but the picture's facts", do=f"change: {text}",
        )  # fmt: skip
    if node.get("schema") or node.get("catalog"):
        raise _refused(text, where, f"{name} is asked of a schema")


@functools.cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An empty database that reads text and nothing else."""
    return duckdb.connect(config={"enable_external_access": "false", "threads": 1})


@functools.cache
def _functions() -> tuple[frozenset[str], frozenset[str]]:
    """Functions that a rule may use, and those of many rows."""
    with _parser().cursor() as cursor:
        rows = cursor.execute("select function_name, function_type, stability from duckdb_functions()").fetchall()
    unsteady = {name for name, kind, stability in rows if kind == "scalar" and stability != "CONSISTENT"}
    scalar = {name for name, kind, _ in rows if kind == "scalar"} - unsteady
    macros = {name for name, kind, _ in rows if kind == "macro" and _MACROS.fullmatch(name)}
    words = {"coalesce", "greatest", "least", "list_value", "struct_pack", "row", "try"}
    steady = {name for name in scalar | macros | words if not _UNSTEADY.fullmatch(name)}
    return frozenset(steady), frozenset(name for name, kind, _ in rows if kind == "aggregate")


def _unquoted(found: re.Match[str]) -> tuple[str, str]:
    return found[1].replace("''", "'"), found[2].replace("''", "'")


def _refused(text: str, where: str, why: str) -> ConfigError:
    return ConfigError(f"the condition does not work: {text}", where=where, why=why, do="write one SQL condition")
