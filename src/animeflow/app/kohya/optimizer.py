"""Optimizer, learning rates and schedule of kohya's as `optim` here. Knows names and numbers."""

from __future__ import annotations

import re

from ...core.errors import did_you_mean
from .book import Book, plain

KINDS = {
    "adamw": "adamw_lora",
    "adamw8bit": "adamw8bit",
    "pagedadamw8bit": "adamw8bit",
    "pagedadamw": "adamw_lora",
    "pagedadamw32bit": "adamw_lora",
    "prodigy": "prodigy",
}
# The share of the run that our decay (1 - sqrt) must take for the same mean rate: 1 - 2 s / 3.
SAME_MEAN = {"cosine": 0.75, "linear": 0.75, "cosine_with_restarts": 0.75, "cosine_with_min_lr": 0.75}
CONSTANT = ("constant", "constant_with_warmup")


def optimizer(book: Book) -> str | None:
    """The optimizer, its numbers and its rate; gives our name of it, None where there is none."""
    told = str(
        book.get("optimizer_type") or ("AdamW8bit" if book.yes("use_8bit_adam") else book.get("optimizer") or "AdamW")
    )
    of = next((key for key in ("optimizer_type", "optimizer", "use_8bit_adam") if book.has(key)), "optimizer_type")
    kind = KINDS.get(told.rpartition(".")[2].lower())
    if kind is None:
        book.error(of, f"{told} is not offered{did_you_mean(told.lower(), KINDS)}, and its rate is not AdamW's: take AdamW, "
                   "AdamW8bit or Prodigy, with a rate of theirs")  # fmt: skip
        return None
    book.set("optim", kind, of=of, why="" if book.has(of) else "kohya's own default")
    for key in ("optimizer_type", "optimizer", "use_8bit_adam"):
        if book.has(key) and key not in book.read:
            book.note(key, f"as {of} says")
    _rates(book, kind)
    _arguments(book, kind)
    clip = book.number("max_grad_norm", 1.0)
    book.set("train.clip", plain(1.0 if clip is None else clip), of="max_grad_norm")
    return kind


def _rates(book: Book, kind: str) -> None:
    of = "unet_lr" if book.number("unet_lr") is not None else "learning_rate"
    rate = book.number(of, 2e-6)
    why = "" if book.has(of) else "kohya's own default"
    if kind == "prodigy" and rate is not None and rate > 2:
        why = "Prodigy's rate is a factor: 1 is usual"
    book.set("optim.lr", rate, of=of, why=why)
    if of == "unet_lr" and book.has("learning_rate"):
        book.note("learning_rate", "unet_lr goes before it")
    trains = not book.yes("network_train_unet_only")
    if book.yes("network_train_text_encoder_only"):
        book.error("network_train_text_encoder_only", "text encoders are not trained, and nothing else would be")
    for key in ("text_encoder_lr", "te_lr", *(f"text_encoder_lr{i}" for i in (1, 2, 3))):
        if book.get(key) not in (None, 0, 0.0, [], ""):
            book.warn(key, "text encoders are not trained: the file loads in every program without them")
        elif book.has(key):
            book.note(key, "text encoders are not trained, as here")
    if book.has("network_train_unet_only") and not trains:
        book.note("network_train_unet_only", "as here: text encoders are never trained")
    elif trains:
        book.warn(
            "network_train_unet_only", "kohya trains text encoders too unless it is true; here they stay as they are"
        )
    for key in ("self_attn_lr", "cross_attn_lr", "mlp_lr", "mod_lr"):
        if book.has(key):
            book.warn(key, "rates of parts go by the beginning of a layer's name: optim.rates")


def _arguments(book: Book, kind: str) -> None:
    """optimizer_args: `name=value` words."""
    args = book.words_of("optimizer_args")
    ours = {"weight_decay": "optim.weight_decay", "eps": "optim.eps"}
    if kind == "prodigy":
        ours |= {"d_coef": "optim.d_coef", "d0": "optim.d0"}
    switches = ("use_bias_correction", "safeguard_warmup") if kind == "prodigy" else ()
    if "betas" not in args:
        book.set("optim.betas", [0.9, 0.999], of="optimizer_args", said="betas are not given (kohya: 0.9, 0.999)")
    defaults = {"d_coef": "1.0", "use_bias_correction": "False", "safeguard_warmup": "False", "weight_decay": "0"}
    for name, value in defaults.items() if kind == "prodigy" else ():
        if name not in args:
            ready = value == "True" if name in switches else plain(float(value))
            book.set(f"optim.{name}", ready, of="optimizer_args", said=f"{name} is not given (Prodigy: {value})")
    for name, value in args.items():
        said = f'optimizer_args "{name}={value}"'
        if name == "betas":
            numbers = [float(number) for number in re.findall(r"[\d.eE-]+", value)]
            book.set("optim.betas", numbers[:2], of="optimizer_args", said=said)
        elif name in ours:
            book.set(ours[name], float(value), of="optimizer_args", said=said)
        elif name in switches:
            book.set(f"optim.{name}", value.lower() == "true", of="optimizer_args", said=said)
        elif name == "decouple" and value.lower() == "true":
            book.note("optimizer_args", "weight decay is always decoupled", said=said)
        else:
            book.warn("optimizer_args", f"{kind} has no such option here", said=said)
    book.read.add("optimizer_args")


def schedule(book: Book, *, images: int | None, per_step: int) -> None:
    """Warm-up in images, and the decay whose mean rate is the same."""
    kind = str(book.get("lr_scheduler", "constant") or "constant")
    share = SAME_MEAN.get(kind)
    if kind == "polynomial":
        share = min(1.0, 1.5 * (1 - 1 / ((book.number("lr_scheduler_power", 1) or 1) + 1)))
    if kind in CONSTANT:
        book.set(
            "optim.schedule.kind",
            "constant",
            of="lr_scheduler",
            why="" if book.has("lr_scheduler") else "kohya's default",
        )
    elif share is not None:
        book.set("optim.schedule.kind", "wsd", of="lr_scheduler")
        book.set("++optim.schedule.decay_share", share, of="lr_scheduler", why="the same mean rate")
        book.set("++optim.schedule.final", 0.0, of="lr_scheduler")
        book.warn(
            "lr_scheduler",
            f"{kind} has no counterpart: constant, then a decay over the last {share:.0%}, with the same mean rate",
        )
    else:
        book.error("lr_scheduler", f"{kind} has no counterpart: take constant, cosine or linear")
    for key in ("lr_scheduler_power", "lr_scheduler_num_cycles"):
        if book.has(key):
            if key in book.read or book.number(key, 1) == 1:
                book.note(key, "of the schedule above")
            else:
                book.warn(key, "the rate falls once and does not rise again")
    _warmup(book, images=images, per_step=per_step, kind=kind)


def _warmup(book: Book, *, images: int | None, per_step: int, kind: str) -> None:
    steps = book.number("lr_warmup_steps", 0) or 0
    if kind == "constant" and steps:  # kohya's plain `constant` has no warm-up, whatever is told
        book.warn(
            "lr_warmup_steps", "kohya's constant schedule ignores it, and so does this: constant_with_warmup has one"
        )
        steps = 0
    if 0 < steps < 1:  # a share of the run
        if images is None:
            book.warn("lr_warmup_steps", "a share of a run whose length is not known: the experiment's own is kept")
            return
        book.set(
            "optim.schedule.warmup_images", round(steps * images), of="lr_warmup_steps", why=f"{steps:.0%} of the run"
        )
    else:
        book.set("optim.schedule.warmup_images", int(steps) * per_step, of="lr_warmup_steps",
                 why=f"{int(steps)} steps of {per_step} images" if steps else "")  # fmt: skip
