"""kohya's files to the words of a run, key by key. Knows the order of things; prints and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import ConfigError
from ...model import registry
from . import length, network, optimizer, pictures, run, size, timesteps
from .book import Book
from .kin import Kin, families, kin_of
from .others import AS_HERE, HARMLESS, NEEDS, NO_COUNTERPART, SIZES
from .toml_file import Files, Told, read

FALSE: tuple[object, ...] = (False, None, "", 0, 0.0, [], "false", "none")


def translate(paths: Iterable[Path], *, base: str | None = None) -> tuple[Book, Kin]:
    """Everything that the files say, as words and lines.

    Raises:
        DataError: a file is no TOML. ConfigError: the model is none of ours.
    """
    paths = list(paths)
    files = read(paths)
    try:
        return _translated(files, fallback=paths[-1].stem, base=base)
    except (ValueError, TypeError) as wrong:  # of a number that is none, in a place that no line is for
        raise ConfigError(
            f"a value is of the wrong kind: {wrong}", where=", ".join(files.names), do="mend it there"
        ) from wrong


def _translated(files: Files, *, fallback: str, base: str | None) -> tuple[Book, Kin]:
    book = Book(files.keys)
    if base is not None:
        book.told.setdefault("pretrained_model_name_or_path", Told(base, "--base"))
    kin = kin_of(book)
    book.set("experiment", kin.experiment, of="network_module")
    run.name_of(book, fallback=fallback)
    run.parts(book, kin, base=base)
    subsets = _pictures(book, files, kin)
    network.network(book, kin)
    per_step = length.batch(book, size.batch_size(book, subsets))
    epoch = pictures.images_of(subsets)
    images = length.images(book, per_step=per_step, epoch=epoch)
    length.rhythm(book, per_step=per_step, epoch=epoch)
    if optimizer.optimizer(book) is not None:
        optimizer.schedule(book, images=images, per_step=per_step)
    timesteps.timesteps(book, kin)
    run.computing(book)
    _left(book, kin)
    return book, kin


def _pictures(book: Book, files: Files, kin: Kin) -> list[pictures.Subset]:
    """What is trained on. A config alone may leave it to the words of the command line."""
    subsets = pictures.subsets_of(files, book)
    for key in ("dataset_config", "in_json"):
        if book.get(key):
            there = Path(str(book.get(key))).is_file()
            told = "holds no data sets" if there else "no such file here, nor beside the TOML"
            told += ": give the dataset TOML too: animeflow import CONFIG.toml DATASET.toml"
            (book.note if files.datasets else book.warn)(key, "read as the other file" if files.datasets else told)
    if not subsets:
        if not book.levels("error"):
            book.warn(
                "train_data_dir",
                "no pictures are named: give the dataset TOML too, or catalogue.source.concepts.NAME.root=FOLDER",
            )
        return []
    pictures.concepts(book, subsets)
    pictures.captions(book, subsets)
    pictures.masks(book, subsets)
    size.buckets(book, subsets, cell=registry.cell(kin.name))
    if files.datasets:
        pictures.without_counterpart(book, files)
    else:  # keys of a run that hold for its folders
        book.read.update(key for key in (*pictures.SUBSET, *SIZES) if book.has(key))
        for key, reason in pictures.DATA_NO_COUNTERPART.items():
            if book.has(key) and key not in book.read:
                (book.note if book.get(key) in FALSE else book.warn)(
                    key, "off, as here" if book.told[key].value in FALSE else reason
                )
    return subsets


def _left(book: Book, kin: Kin) -> None:
    """Every key that nothing has asked for: why, or that it is not known."""
    seen = book.read | {key for key in book.told if key in pictures.SUBSET or key in SIZES}
    others = {key: each.name for each in families() if each.name != kin.name for key in (*each.keys, *each.parts)}
    for key in [key for key in book.told if key not in seen]:
        reason = NO_COUNTERPART.get(key) or pictures.DATA_NO_COUNTERPART.get(key)
        if key in AS_HERE:
            book.note(key, AS_HERE[key])
        elif reason is not None and _off(book, key):
            book.note(key, "off, as here" if book.told[key].value in FALSE else "as here, or of what is off")
        elif reason is not None:
            book.warn(key, reason)
        elif key in others and key not in kin.keys:
            book.warn(key, f"belongs to {others[key]}, and this run is of {kin.name}")
        else:
            book.unknown(key, known_keys(book, kin))
    lines = " ".join(line.said for line in book.lines)
    for key in book.told:  # nothing that stands in a file goes without a line
        if not re.search(rf"(?<!\w){re.escape(key)}(?!\w)", lines):
            book.note(key, "off, as here" if book.told[key].value in FALSE else "taken into account above")


def _off(book: Book, key: str) -> bool:
    """Whether a key without a counterpart asks for nothing that is not so here."""
    value = book.told[key].value
    if value in FALSE or value in HARMLESS.get(key, ()):
        return True
    needed = NEEDS.get(key)
    return needed is not None and (needed not in book.told or _off(book, needed))


def known_keys(book: Book, kin: Kin) -> list[str]:
    """For suggestions: what was asked for, and what has a reason."""
    found = {
        *book.read,
        *AS_HERE,
        *NO_COUNTERPART,
        *pictures.DATA_NO_COUNTERPART,
        *pictures.SUBSET,
        *SIZES,
        *kin.keys,
    }
    return sorted(found - (book.told.keys() - book.read))
