"""Read kohya's TOML files and write the words of the same run here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from ...core.errors import AnimeflowError, ConfigError
from ...core.files import atomic_path
from ..compose import compose
from ..doctor.finding import count
from ..kohya.book import BECAME, ERROR, NOTE, WARNING, Book
from ..kohya.translate import translate

STYLES = {BECAME: "green", NOTE: "white", WARNING: "yellow", ERROR: "red"}
SUFFIX = ".words"


def run(overrides: Sequence[str], *, files: Sequence[str], base: str | None = None, out: str | None = None) -> int:
    """Tell what became of every key; write the words unless one must not be dropped (exit code 2).

    Raises:
        ConfigError, DataError: a file cannot be read, the model is none of ours, or the words make no run.
    """
    paths = [Path(file) for file in files]
    book, _ = translate(paths, base=base)
    show(book)
    errors = book.levels(ERROR)
    if errors:
        click.echo(f"\n{count(len(errors), 'error')}: nothing was written. Mend the TOML and import again.", err=True)
        return 2
    words = [str(word) for word in book.words.values()]
    _require_run(words)
    target = Path(out) if out else Path(f"{book.words['name'].value}{SUFFIX}")
    content = text(book, paths)
    _require_free(target, content)
    with atomic_path(target) as path:
        path.write_text(content, encoding="utf-8")
    told = [count(len(words), "word"), count(len(book.levels(WARNING)), "warning")]
    place = shlex.quote(f"@{target}")
    click.echo(f"\n{target}: {', '.join(told)}")
    if not any(key.startswith("catalogue.source") for key in book.words):
        click.echo("no pictures yet: import with the dataset TOML too, or put the line "
                   "catalogue.source.concepts.NAME.root=FOLDER into the words")  # fmt: skip
        return 0
    click.echo(f"look:  animeflow plan {place}")
    click.echo(f"train: for verb in catalogue shard cache train export; do animeflow $verb {place}; done")
    return 0


def show(book: Book) -> None:
    """One line per key; click leaves colours out where there is no terminal, and where NO_COLOR says so."""
    import os

    plain = bool(os.environ.get("NO_COLOR"))
    for line in book.lines:
        sign = "->" if line.level == BECAME else f"{line.level}:"
        told = sign if plain else click.style(sign, fg=STYLES[line.level])
        click.echo(f"{line.said:<44} {told} {line.text}")


def text(book: Book, paths: Sequence[Path]) -> str:
    """The file: one word a line, above each what it comes from."""
    names = ", ".join(path.name for path in paths)
    lines = [f"# Imported from {names}.", "#   animeflow plan @THIS   animeflow train @THIS"]
    for word in book.words.values():
        lines += [f"# {' '.join(word.origin.split())}", str(word)]
    for line in book.levels(WARNING):
        lines.append(f"# not imported, or not alike: {' '.join(line.said.split())}: {' '.join(line.text.split())}")
    return "\n".join(lines) + "\n"


def _require_free(target: Path, content: str) -> None:
    """The same words again change nothing; others may have been edited by hand, and are not overwritten."""
    if target.exists() and not (target.is_file() and target.read_bytes() == content.encode()):
        raise ConfigError(
            f"{target} is there already, and says something else", where="--out",
            do="give --out, or take that one away first",
        )  # fmt: skip


def _require_run(words: Sequence[str]) -> None:
    """Words of ours that make no run are a fault of the translation, told before anything is written."""
    try:
        compose(words)
    except AnimeflowError as wrong:
        raise ConfigError(
            f"the words make no run: {wrong.what}", where=wrong.where, why="a value of the TOML is none that a run can have",
            do=wrong.do or "change that value in the TOML",
        ) from wrong  # fmt: skip
