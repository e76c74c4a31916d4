"""What kohya adds to the model, as `learn` here. Knows names and numbers."""

from __future__ import annotations

from ...learn.settings import UNSUPPORTED
from .book import Book, plain
from .kin import Kin

PLAIN_ALGORITHMS = ("", "lora")
IGNORED = {
    "conv_dim": "the model has no convolutions to add to",
    "conv_alpha": "the model has no convolutions to add to",
    "rank_dropout": "learn.dropout is the one kind of dropout",
    "module_dropout": "learn.dropout is the one kind of dropout",
    "emb_dims": "embedders and the last layer are left as they are; learn.targets=[...] can name them",
    "train_block_indices": "learn.ranks={PATTERN:0} leaves layers out by name",
    "exclude_patterns": "learn.ranks={PATTERN:0} leaves layers out by name, with * for anything",
    "include_patterns": "learn.targets=[...] names layers, with * for anything",
    "network_reg_dims": "learn.ranks={PATTERN:rank} gives ranks by name, with * for anything",
    "network_reg_lrs": "optim.rates gives learning rates by the beginning of a name",
    "loraplus_text_encoder_lr_ratio": "text encoders are not trained",
    "verbose": "as here",
    "preset": "learn.targets=default, attention or all",
    "split_qkv": "queries, keys and values are always apart; the kohya file is written fused",
    "rank_stabilized": "",
    "rs_lora": "",
    "dora_wd": "",
    "algo": "",
    "factor": "of another kind of network",
}


def network(book: Book, kin: Kin) -> None:
    """Kind, rank, alpha, dropout, targets, and a file to begin with."""
    args = book.words_of("network_args")
    if not _kind(book, kin, args.get("algo", "")):
        return
    rank = int(book.number("network_dim", 4) or 4)
    book.set("learn.rank", rank, of="network_dim", why="" if book.has("network_dim") else "kohya's own default")
    alpha = book.number("network_alpha", 1) or float(rank)
    why = f"scale {alpha / rank:g} = alpha / rank"
    if not book.has("network_alpha"):
        why += "; kohya's default is 1, here it would be the rank"
    book.set("learn.alpha", plain(alpha), of="network_alpha", why=why)
    dropout = book.number("network_dropout")
    if dropout is not None:
        book.set("learn.dropout", dropout, of="network_dropout")
    _arguments(book, kin, args)
    _start(book)
    if book.yes("fp8_base"):
        book.set("learn.base_dtype", "int8", of="fp8_base", why="8 bits of another kind, as small")
    book.note("network_module", f"fp32 adapters over a frozen base; exports hold the average of the run: "
              f"export.weights=trained gives the last weights, as kohya saves ({kin.name})")  # fmt: skip


def _kind(book: Book, kin: Kin, algorithm: str) -> bool:
    """Whether it is a plain LoRA."""
    module = str(book.get("network_module") or "")
    strange = [word for word in UNSUPPORTED if word == algorithm.lower() or f".{word}" in module.lower()]
    if "lycoris" in module.lower():  # LoCon, unless it is told to be a LoRA
        strange = [] if algorithm.lower() == "lora" else [module]
    if algorithm.lower() not in PLAIN_ALGORITHMS or strange:
        name = algorithm or strange[0]
        book.error("network_module", f"{name} is not trained here, and a LoRA of the same rank is another thing: "
                   f"use network_module = \"{kin.modules[0]}\" without algo")  # fmt: skip
        return False
    if not module:
        book.warn(
            "network_module", "no network: a full finetune there, a LoRA here (learn=everything trains every weight)"
        )
    elif module == "networks.lora":
        book.note("network_module", f"read as {kin.modules[0]}, the one for this model")
    elif module not in kin.modules:
        book.warn("network_module", f"read as {kin.modules[0]}")
    return True


def _arguments(book: Book, kin: Kin, args: dict[str, str]) -> None:
    """network_args: `name=value` words."""
    ranks: dict[str, int] = {}
    for name, value in args.items():
        said = f'network_args "{name}={value}"'
        on = value.lower() not in ("false", "0", "none", "")
        if name in kin.ranks:
            ranks.update(dict.fromkeys(kin.ranks[name], int(float(value))))
            book.note(
                "network_args", f"ranks of their layers, below as learn.ranks: {', '.join(kin.ranks[name])}", said=said
            )
        elif name in ("loraplus_lr_ratio", "loraplus_unet_lr_ratio"):
            book.set("optim.lora_plus", plain(float(value)), of="network_args", said=said)
        elif name in ("rank_stabilized", "rs_lora") and on:
            book.set("learn.rslora", True, of="network_args", said=said)
        elif name in ("dora_wd", "use_dora") and on:
            book.set("learn.dora", True, of="network_args", said=said)
        elif name in ("train_t5xxl", "train_llm_adapter") and on:
            book.error(
                "network_args", "text encoders and the text adapter are frozen beside a LoRA: take it out", said=said
            )
        elif not on or name in ("train_t5xxl", "train_llm_adapter", "algo"):
            book.note("network_args", "off, as here" if not on else "as here", said=said)
        elif name in IGNORED:
            book.warn("network_args", IGNORED[name] or "as it stands here", said=said)
        else:
            book.unknown(name, [*IGNORED, *kin.ranks, "loraplus_lr_ratio"], said=said, of="network_args")
    if ranks:
        book.set("++learn.ranks", ranks, of="network_args", said="network_args")
    book.read.add("network_args")


def _start(book: Book) -> None:
    if book.get("network_weights"):
        book.set("learn.start", str(book.get("network_weights")), of="network_weights",
                 why="goes on from it; its ranks count")  # fmt: skip
    if book.yes("dim_from_weights"):
        book.note("dim_from_weights", "so it is with learn.start")
    for key in ("base_weights", "base_weights_multiplier"):
        if book.get(key):
            book.error(
                key, "other LoRA files cannot be added to the base on the way: animeflow lora merge makes such a base"
            )
