"""What is left of kohya's run: paths, name, seed, precision, memory. Knows names and numbers."""

from __future__ import annotations

import re
from pathlib import Path

from ..compose import compose
from .book import Book
from .kin import Kin

PRECISIONS = {"bf16": "bf16", "fp16": "bf16", "no": "fp32", "": "fp32"}
DTYPES = {"bf16": "bf16", "fp16": "fp16", "float": "fp32", "fp32": "fp32"}


def parts(book: Book, kin: Kin, *, base: str | None) -> None:
    """The files of the model. `base` goes before the file that is named."""
    for key, ours in kin.parts.items():
        value = book.get(key)
        if ours == "weights" and base is not None:
            if value and f"model.{ours}" not in book.words:
                book.note(key, f"--base {base} goes before it")
            if f"model.{ours}" not in book.words:
                book.set("model.weights", base, of=key, said=f"--base {base}")
            continue
        if not value:
            continue
        book.set(f"model.{ours}", str(value), of=key)
        if not Path(str(value)).exists():
            book.warn(key, "this file is not on this machine, or not seen from here")
    if "model.weights" not in book.words:
        own = compose([f"experiment={kin.experiment}"])["model"]["weights"]
        book.warn("pretrained_model_name_or_path", f"no model is named: {own} is looked for; --base PATH names another")
    for key, reason in kin.reasons.items():
        if book.has(key):
            book.warn(key, reason)
    for key, encoder in kin.encoder_dropout.items():
        if book.number(key):
            book.set(f"data.loader.encoder_dropout.{encoder}", book.number(key), of=key)
        elif book.has(key):
            book.note(key, "off, as here")


def name_of(book: Book, *, fallback: str) -> str:
    """A run's name: a folder of runs/."""
    told = str(book.get("output_name") or fallback)
    name = re.sub(r"[^\w.+ -]", "_", told).strip(" .") or "imported"
    of = "output_name" if book.get("output_name") else "output_dir"
    said = book.said("output_name") if book.has("output_name") else "the name of the file"
    book.set("name", name, of=of, said=said, why="the run is in runs/NAME" if name == told else "signs became _")
    return name


def computing(book: Book) -> None:
    """Precision, memory, seed, what is saved."""
    precision = str(book.get("mixed_precision", "no") or "no")
    if precision not in PRECISIONS:
        book.error("mixed_precision", f"{precision} is not computed in: take bf16 or no")
    else:
        book.set("train.precision", PRECISIONS[precision], of="mixed_precision",
                 why="" if book.has("mixed_precision") else "kohya's own default")  # fmt: skip
    if precision == "fp16":
        book.warn("mixed_precision", "fp16 became bf16: these networks leave the range of fp16; a GPU that has no bf16 "
                  "wants train.precision=fp32")  # fmt: skip
    dtype = str(book.get("save_precision") or "")
    if dtype in DTYPES:
        book.set("export.dtype", DTYPES[dtype], of="save_precision")
    elif dtype:
        book.error("save_precision", f"{dtype} is not written: take bf16, fp16 or float")
    if book.has("gradient_checkpointing"):
        kept = "full" if book.yes("gradient_checkpointing") else "none"
        book.set("train.activation_memory", kept, of="gradient_checkpointing")
    seed = book.number("seed")
    if seed is not None:
        book.set("seed", int(seed), of="seed", why="the draws are others than kohya's")
    elif book.has("seed"):
        book.note("seed", "none: 0 here, so that a run can be repeated")
    book.set(
        "data.cache.prior",
        False,
        of="mixed_precision",
        said="without a prior, captions about the class are not encoded",
    )
