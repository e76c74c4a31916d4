"""Folders of pictures: data sets and `10_name class` folders of kohya's as concepts. Knows names; decodes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...catalogue.walk import is_picture
from ...text.trigger import class_of, kohya_folder, trigger_of
from ..doctor.finding import count
from .book import Book, shown
from .others import DATA_NO_COUNTERPART, SIZES
from .toml_file import Files

SUBSET = (  # keys of a subset that mean something here
    *(
        "image_dir",
        "num_repeats",
        "class_tokens",
        "caption_extension",
        "keep_tokens",
        "shuffle_caption",
        "is_reg",
        "alpha_mask",
    ),
    *("caption_dropout_rate", "caption_tag_dropout_rate", "metadata_file"),
)
CAPTIONS = (".txt", ".caption")


@dataclass(frozen=True)
class Subset:
    """One folder of kohya's.

    Attributes:
        where: it stands, as `data set 1, subset 2`.
        told: its keys, with those of its data set and of [general] under them.
    """

    where: str
    told: Mapping[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        return self.told.get(key, default)

    @property
    def folder(self) -> Path:
        return Path(str(self.get("image_dir")))

    @property
    def repeats(self) -> int:
        return int(self.get("num_repeats", 1))

    @property
    def prior(self) -> bool:
        return bool(self.get("is_reg", False))

    def pictures(self) -> int | None:
        """How many are in the folder itself, as kohya counts; None where it is not on this machine."""
        return sum(map(is_picture, self.folder.glob("*"))) if self.folder.is_dir() else None


def subsets_of(files: Files, book: Book) -> list[Subset]:
    """Of data sets, else of the folders that train_data_dir and reg_data_dir hold."""
    found = []
    for number, dataset in enumerate(files.datasets, 1):
        above = {key: value for key, value in dataset.items() if key != "subsets"}
        for place, subset in enumerate(dataset["subsets"], 1):
            where = f"data set {number}, subset {place}"
            found.append(Subset(where, {**files.general, **above, **subset}))
    for key, prior in (("train_data_dir", False), ("reg_data_dir", True)):
        if files.datasets and book.get(key):
            book.note(key, "the data sets go before it")
        elif book.get(key):
            found += _folders(book, key, prior=prior)
    return found


def _folders(book: Book, key: str, *, prior: bool) -> Iterator[Subset]:
    """`10_name class` below a folder; the run's own keys hold for all of them."""
    root = Path(str(book.get(key)))
    inside = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    named = [(path, found) for path in inside if (found := kohya_folder(path.name)) is not None]
    if not named:
        state = "holds no folder like '10_name class'" if root.is_dir() else "is not on this machine"
        book.error(key, f"{state}: import where the pictures are, or give a dataset TOML")
    else:
        book.note(key, f"{count(len(named), 'folder')}: {', '.join(path.name for path, _ in named)}")
    own = {name: told.value for name, told in book.told.items()}
    for path, (repeats, words) in named:
        told = {**own, "image_dir": str(path), "num_repeats": repeats, "class_tokens": words, "is_reg": prior}
        yield Subset(f"{key}/{path.name}", told)


def concepts(book: Book, subsets: Iterable[Subset]) -> dict[str, Subset]:
    """A concept for every folder, under a name that Hydra can hold."""
    named: dict[str, Subset] = {}
    for subset in subsets:
        said = f"{subset.where}: image_dir = {shown(subset.get('image_dir'))}"
        if not subset.get("image_dir"):
            book.error("image_dir", "a subset without a folder of pictures", said=subset.where)
            continue
        name = _name(subset, taken=named)
        named[name] = subset
        place = {"root": str(subset.folder)}
        if file := subset.get("metadata_file"):
            place["metadata"] = str(file)
            book.note("metadata_file", "its captions and tags are read, its sizes are not: buckets are planned from the pictures",
                      said=f"{subset.where}: metadata_file = {shown(file)}")  # fmt: skip
        book.set(f"catalogue.source.concepts.{name}", place, of="image_dir", said=said)
        if not subset.folder.is_dir():
            book.warn("image_dir", "this folder is not on this machine, or not seen from here", said=said)
        _named(book, name, subset)
        if subset.repeats != 1:
            book.set(f"data.loader.repeats.{name}", subset.repeats, of="num_repeats",
                     said=f"{subset.where}: num_repeats = {subset.repeats}")  # fmt: skip
    return named


def _name(subset: Subset, *, taken: Mapping[str, Subset]) -> str:
    """The trigger, or the folder's name, with `_` for what is no letter or digit."""
    words = str(subset.get("class_tokens") or "").split()
    base = trigger_of(subset.folder.name) if not words or subset.prior else words[0]
    base = re.sub(r"[^A-Za-z0-9]+", "_", base).strip("_") or "concept"
    base = f"{base}_prior" if subset.prior else base
    base = base if base[0].isalpha() else f"c_{base}"
    return next(name for name in (base, *(f"{base}_{i}" for i in range(2, 10_000))) if name not in taken)


def _named(book: Book, name: str, subset: Subset) -> None:
    """Trigger and class of one concept."""
    words = str(subset.get("class_tokens") or "").split()
    said = f"{subset.where}: class_tokens = {shown(' '.join(words))}"
    if subset.prior:
        kind = " ".join(words) or class_of(subset.folder.name) or trigger_of(subset.folder.name)
        book.set(f"text.concepts.{name}", {"class": kind, "prior": True}, of="is_reg",
                 said=f"{subset.where}: is_reg = true", why="captions have the class and no trigger")  # fmt: skip
        if not words:
            book.warn("class_tokens", f"no class is told for these pictures, '{kind}' was taken from the folder",
                      said=subset.where)  # fmt: skip
    elif words:
        node = {"trigger": words[0], **({"class": " ".join(words[1:])} if len(words) > 1 else {})}
        book.set(f"text.concepts.{name}", node, of="class_tokens", said=said,
                 why="stands first in every caption; kohya writes it only where a picture has none")  # fmt: skip


def captions(book: Book, subsets: Iterable[Subset]) -> None:
    """How captions are drawn: of the whole run here, of each subset there."""
    chosen = [subset for subset in subsets if not subset.prior] or list(subsets)
    switches = (
        ("shuffle_caption", "text.shuffle", lambda value: 1.0 if value else 0.0, False),
        ("keep_tokens", "text.keep_first", int, 0),
        ("caption_dropout_rate", "data.loader.caption_dropout", float, 0.0),
        ("caption_tag_dropout_rate", "text.tag_dropout", float, 0.0),
    )
    for key, ours, convert, default in switches:
        raw = sorted({subset.get(key, default) for subset in chosen})
        if not raw:
            continue
        given = any(key in subset.told for subset in chosen)
        said = f"{key} = {shown(raw[-1])}" if given else f"{key} is not given (kohya: {shown(default)})"
        book.set(
            ours,
            convert(raw[-1]),
            of=key,
            said=said,
            why="tags keep to their sections: text.order" if raw[-1] is True else "",
        )
        if len(raw) > 1:
            told = ", ".join(map(shown, raw))
            book.warn(
                key, f"one value for all pictures here, and the subsets have {told}: the largest was taken", said=key
            )
    held = "catalogue.val_share holds some pictures out to watch the loss; 0 trains on all, as kohya does"
    book.note("validation_split", held, said="validation")
    for ending in sorted({str(subset.get("caption_extension", ".caption")) for subset in chosen}):
        given = any("caption_extension" in subset.told for subset in chosen)
        said = f'caption_extension = "{ending}"' if given else 'caption_extension is not given (kohya: ".caption")'
        if ending in CAPTIONS:
            book.note("caption_extension", ".txt and .caption are both read", said=said)
        else:
            book.error("caption_extension", f"{ending} is not read: name the files .txt or .caption", said=said)


def masks(book: Book, subsets: Iterable[Subset]) -> None:
    """alpha_mask of data sets, masked_loss of the run: cells count by their mask."""
    alpha = any(bool(subset.get("alpha_mask")) for subset in subsets)
    if not alpha and not book.yes("masked_loss"):
        book.set("data.shard.masks", "off", of="masked_loss", said="kohya's loss knows no mask unless it is told")
        return
    of = "alpha_mask" if alpha else "masked_loss"
    book.set("data.shard.masks", "auto", of=of, said=f"{of} = true", why="from alpha, NAME.mask.png or masks/NAME.png")
    book.set("recipe.mask.background", 0.0, of=of, said=f"{of} = true",
             why="as kohya; 0.1 is advised here, and every picture counts alike whatever its mask leaves")  # fmt: skip


def without_counterpart(book: Book, files: Files) -> None:
    """Every other key of data sets, subsets and [general], once with its reason."""
    told: dict[str, Any] = {}
    for table in (files.general, *files.datasets, *(subset for each in files.datasets for subset in each["subsets"])):
        told.update({key: value for key, value in table.items() if key != "subsets"})
    for key, value in told.items():  # once each, however often it stands there
        if key in SUBSET or key in SIZES:
            continue
        said = f"{key} = {shown(value)}"
        reason = DATA_NO_COUNTERPART.get(key)
        if reason is None:
            book.unknown(key, [*SUBSET, *SIZES, *DATA_NO_COUNTERPART], said=said)
        elif value in (False, None, "", 0, 0.0):
            book.note(key, "off, as here", said=said)
        else:
            book.warn(key, reason, said=said)


def images_of(subsets: Iterable[Subset]) -> int | None:
    """Pictures of an epoch, repeats counted, as kohya counts them: with regularisation as often as the others. None where a folder
    is not on this machine."""
    train = [(subset.pictures(), subset) for subset in subsets if not subset.prior]
    if not train or any(count is None for count, _ in train):
        return None
    total = sum((count or 0) * subset.repeats for count, subset in train)
    return total * (2 if any(subset.prior for subset in subsets) else 1)
