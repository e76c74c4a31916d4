"""How long kohya's run is and what it does on the way: steps and epochs as images. Knows numbers only."""

from __future__ import annotations

from .book import Book

STEPS = 1600  # kohya's own default


def batch(book: Book, size: int) -> int:
    """Images of an optimizer step: the batch of a forward pass, accumulated."""
    accumulated = int(book.number("gradient_accumulation_steps", 1) or 1)
    told = f"batch size {size}, gradient_accumulation_steps = {accumulated}"
    why = "of an optimizer step, over all GPUs"
    book.set("data.loader.batch", size * accumulated, of="gradient_accumulation_steps", said=told, why=why)
    book.set("data.loader.micro_batch", size, of="train_batch_size", said=f"batch size {size}", why="of a forward pass")
    return size * accumulated


def images(book: Book, *, per_step: int, epoch: int | None) -> int | None:
    """The length of the run. Epochs go before steps, as they do there; None where the pictures cannot be counted."""
    key = next((name for name in ("max_train_epochs", "epoch") if book.number(name)), None)
    for name in ("max_train_epochs", "epoch"):  # 0 is none
        book.read.add(name)
    if key is not None:
        epochs = int(book.number(key) or 0)
        if book.has("max_train_steps"):
            book.note("max_train_steps", f"{key} goes before it")
        if epoch is None:
            do = f"set train.images = pictures x repeats x {epochs}"
            book.warn(key, f"the pictures are not here to be counted, the experiment's own length is kept: {do}")
            return None
        book.set("train.images", epochs * epoch, of=key, why=f"{epochs} epochs of {epoch} pictures, repeats counted")
        return epochs * epoch
    steps = int(book.number("max_train_steps", STEPS) or STEPS)
    why = f"{steps} steps of {per_step} images" + ("" if book.has("max_train_steps") else "; kohya's own default")
    book.set("train.images", steps * per_step, of="max_train_steps", why=why)
    return steps * per_step


def rhythm(book: Book, *, per_step: int, epoch: int | None) -> None:
    """Checkpoints and previews."""
    for words, ours, what in (
        (("save_every_n_steps", "save_every_n_epochs"), "train.checkpoint_every_images", "checkpoints"),
        (("sample_every_n_steps", "sample_every_n_epochs"), "train.samples.every_images", "previews"),
    ):
        by_step, by_epoch = words
        steps, epochs = book.number(by_step), book.number(by_epoch)
        if steps:
            book.set(ours, int(steps) * per_step, of=by_step, why=f"every {int(steps)} steps")
        elif epochs and epoch is not None:
            book.set(ours, int(epochs) * epoch, of=by_epoch, why=f"every {int(epochs)} epochs")
        elif epochs:
            book.warn(by_epoch, f"the pictures are not here to be counted: set {ours} for {what}")
        for key, value in ((by_step, steps), (by_epoch, epochs)):
            if book.has(key) and not value:
                book.note(key, "off")
