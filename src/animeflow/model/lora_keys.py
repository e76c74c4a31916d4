"""Endings of the tensors in LoRA files, whoever wrote them: what a key is of its layer. Knows endings; knows no layer.

The names before the endings are a dialect's, see `lora_table`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..core.errors import DataError
from .names import listed

DOWN, UP, ALPHA, MAGNITUDE = "down", "up", "alpha", "magnitude"

# What ComfyUI reads (FORMATS of its `weight_adapter`), and with it every trainer we know of.
ENDINGS = [
    (
        kind,
        re.compile(
            rf"(.+?)(?:\.lora_{a}|\.lora_{b}|[._]lora\.{b}|\.lora_linear_layer\.{b})(?:\.default)?(?:\.weight)?"
        ),
    )
    for kind, a, b in ((DOWN, "A", "down"), (UP, "B", "up"))
] + [
    (ALPHA, re.compile(r"(.+)\.alpha")),
    (MAGNITUDE, re.compile(r"(.+)\.(?:dora_scale|lora_magnitude_vector(?:\.default)?(?:\.weight)?)")),
]

TEXT_ENCODERS = re.compile(r"lora_te\d*_|text_encoders?(_\d)?\.|lora_prior_te_|base_model\.model\.text_model\.")

OTHER_KINDS = [  # one key of the kind; what it is
    (r"\.hada_[wt]\d", "LoHa"),
    (r"\.lokr_[wt]\d", "LoKr"),
    (r"\.lora_mid\.weight$", "LoCon with a middle tensor"),
    (r"\.boft_", "BOFT"),
    (r"\.oft_(blocks|diag|R)|\.oft_R\.", "OFT"),
    (r"\.vera_lambda_", "VeRA"),
    (r"\.[ab][12]\.weight$", "GLoRA"),
    (r"\.(on_input|ia3_l)(\.|$)", "IA3"),
    (r"\.(diff|diff_b|set_weight|w_norm|b_norm)$", "whole differences of weights"),
    (r"\.lora_(B|up)(\.default)?\.bias$", "LoRA with biases"),
    (r"\.reshape_weight$", "LoRA that changes the shape of layers"),
]


def taken_apart(key: str) -> tuple[str, str] | None:
    """(name of the layer as the file has it, what of it this is), or None for something else."""
    for kind, pattern in ENDINGS:
        if match := pattern.fullmatch(key):
            return match[1], kind
    return None


def of_text_encoder(keys: Iterable[str]) -> tuple[str, ...]:
    """Those that belong to a text encoder."""
    return tuple(sorted(key for key in keys if TEXT_ENCODERS.match(key)))


def refuse_other_kinds(keys: Iterable[str]) -> None:
    """Raise DataError where some keys are of an addition that is not low-rank as `LowRank` is."""
    keys = list(keys)
    for pattern, kind in OTHER_KINDS:
        found = sorted(key for key in keys if re.search(pattern, key))
        if found:
            raise DataError(
                f"{kind} is not supported: {listed(found)}",
                why="only additions of the form B A are read here, with or without DoRA's magnitudes",
                do="convert it with the program that made it, or load it there",
            )
