"""Captions of a step encoded packed (`data.loader.texts=live`) and padded: speed, padding, FLOP. `python benchmarks/text_live.py`.

Both ways run in one process, in turn, and their rows are compared. Packed: every different caption once, in groups of one length
(Qwen's differ by up to 15 tokens), and the empty one once for the run. Padded: every caption of a step in one rectangle as long as
the longest, with a mask; CLIP likewise.
Captions are toonworld's, and the tokenizers know its words, one token each: real ones cut more words into pieces.
Without arguments the encoders are the tiny ones; `--released` gives random ones of the released sizes in bfloat16, for a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from animeflow.bench import machine
from animeflow.data.live import LiveTexts
from animeflow.model.anima.sizes import QWEN3_06B
from animeflow.model.anima.text_tower import AnimaTextTower
from animeflow.model.anima.tiny import tiny_tower as anima_tower
from animeflow.model.packing import groups
from animeflow.model.sd35 import sizes
from animeflow.model.sd35.encoders import T5, Clip
from animeflow.model.sd35.t5_length import POLICIES, T5Length
from animeflow.model.sd35.text_tower import SD3TextTower
from animeflow.model.sd35.tiny import tiny_tower as sd35_tower
from animeflow.text.caption import CaptionPolicy, render
from animeflow.toonworld import describe
from animeflow.toonworld.world import sample_scene

KINDS = {"tags": {"tags": 1.0}, "tags and sentences": {"tags": 1.0, "sentence": 1.0, "tags+sentence": 1.0}}
ORDER = ("count", "character", "series", "artist", "general")


def drawn_steps(kinds: dict[str, float], *, steps: int, batch: int, dropout: float) -> list[list[str]]:
    """Captions of steps, a share of them empty."""
    policy = CaptionPolicy(order=ORDER, kinds=kinds, rating_words={}, size_tags=False)
    rng, numbers = random.Random(0), itertools.count()

    def caption() -> str:
        scene = sample_scene(0, next(numbers))
        text = render({"tags": describe.tags(scene), "captions": describe.captions(scene)}, policy, rng).text
        return "" if rng.random() < dropout else text

    return [[caption() for _ in range(batch)] for _ in range(steps)]


# -- towers ------------------------------------------------------------------------------------------------------------


def sd35(policy: str, *, released: bool, device: torch.device) -> SD3TextTower:
    length = T5Length(policy)
    tiny = sd35_tower(describe.vocabulary(), clip_length=77, t5_length=length)
    if not released:
        return tiny.to(device)
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    assert tiny.t5
    with torch.device(device):
        end = {"eos_token_id": tiny.clip_l.tokenizer.eos_token_id}
        both = [CLIPTextModelWithProjection(CLIPTextConfig(**each | end)) for each in (sizes.CLIP_L, sizes.CLIP_G)]
        t5 = T5(T5EncoderModel(T5Config(**sizes.T5_XXL)).bfloat16(), tiny.t5.tokenizer, length=length, weights="random")
    clip_l, clip_g = (Clip(model.bfloat16(), tiny.clip_l.tokenizer, length=77, weights="random") for model in both)
    return SD3TextTower(clip_l, clip_g, t5, joint_dim=t5.width, t5_length=length)


def anima(*, released: bool, device: torch.device) -> AnimaTextTower:
    tiny = anima_tower(describe.vocabulary())
    if not released:
        return tiny.to(device)
    from transformers import Qwen3Config, Qwen3Model

    with torch.device(device):
        model = Qwen3Model(Qwen3Config(**QWEN3_06B))
    return AnimaTextTower(model.bfloat16(), tiny.tokenizer, tiny.t5_tokenizer, weights="random")


def padded_sd35(tower: SD3TextTower, captions: Sequence[str]) -> list[Tensor]:
    assert tower.t5
    clips = [features.bfloat16().cpu() for clip in (tower.clip_l, tower.clip_g) for features in clip(captions)]
    assert len(clips) == 4
    ids = [tower.t5.token_ids(caption) for caption in captions]
    return _rectangle(tower.t5.model, ids)


def padded_anima(tower: AnimaTextTower, captions: Sequence[str]) -> list[Tensor]:
    return _rectangle(
        partial(tower.model, use_cache=False),
        [tower.tokenizer(c, add_special_tokens=False)["input_ids"] for c in captions],
    )


@torch.no_grad()
def _rectangle(model: Callable[..., Any], ids: Sequence[Sequence[int]]) -> list[Tensor]:
    """Rows of one encoder, padded to the longest."""
    longest = max(1, *map(len, ids))
    device = getattr(model, "func", model).device
    ids_BL = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids], device=device)
    mask_BL = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=device)
    states_BLD = model(input_ids=ids_BL, attention_mask=mask_BL)[0].bfloat16().cpu()
    return [states[: len(row)] for states, row in zip(states_BLD, ids, strict=True)]


# -- counting ----------------------------------------------------------------------------------------------------------


def forward_flop(tokens: int, family: str) -> float:
    """Of one row of so many tokens through the released encoder: T5 v1.1 XXL (2.397 TFLOP at 256) or Qwen3-0.6B."""
    if family == "sd35":
        layers, width, inner, hidden = 24, 4096, 4096, 10240
        linear = 4 * width * inner + 3 * width * hidden
    else:
        layers, width, inner, hidden = 28, 1024, 2048, 3072
        linear = (
            2 * width * inner + 2 * width * (inner // 2) + 3 * width * hidden
        )  # keys and values have half the heads
    return layers * (2 * linear * tokens + 4 * inner * tokens**2)


def counted(steps: Sequence[Sequence[str]], length: Callable[[str], int], tower: Any) -> dict[str, float]:
    """Padding and FLOP of both ways. Attention is counted over the whole rectangle, as masked kernels compute it."""
    family = "anima" if "qwen" in tower.encoders else "sd35"
    own = [length(caption) for step in steps for caption in step]
    shapes: dict[str, list[tuple[int, int]]] = {
        "padded": [],
        "grouped": [],
        "packed": [(1, length(""))],
    }  # rows, tokens
    for step in steps:
        shapes["padded"].append((len(step), max(map(length, step))))
        for way, captions in {"packed": sorted(set(step) - {""}), "grouped": step}.items():
            lengths = [length(caption) for caption in captions]
            cut = {"most": tower.captions_at_once, "step": tower.round_to if family == "anima" else 1}
            shapes[way] += [(len(group), max(lengths[place] for place in group)) for group in groups(lengths, **cut)]
    tokens = {way: sum(rows * most for rows, most in found) for way, found in shapes.items()}
    work = {way: sum(rows * forward_flop(most, family) for rows, most in found) for way, found in shapes.items()}
    return {
        "padding": 1 - sum(own) / tokens["padded"],
        "padding_grouped": 1 - sum(own) / tokens["grouped"],
        "saved": 1 - work["grouped"] / work["padded"],
        "saved_shared": 1 - work["packed"] / work["padded"],
        "calls": len(shapes["packed"]) / len(steps),
        "tflop": work["packed"] / len(own) / 1e12,
    }


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds; on a CPU of this process's own work, which a busy machine does not change much."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def compare(name: str, tower: Any, steps: Sequence[Sequence[str]], device: torch.device, rounds: int) -> str:
    family, main = ("anima", "qwen") if "qwen" in tower.encoders else ("sd35", "t5")
    padded = partial(padded_anima if family == "anima" else padded_sd35, tower)
    live = LiveTexts(tower, lambda uid, visit: "", text_dtype="bf16", device=device)
    worst = 0.0
    for step in steps[:2]:  # also warms up
        for row, other in zip(live.encode(step), padded(step), strict=True):
            away, size = (row[main].double() - other.double()).norm(), other.double().norm()
            worst = max(worst, float(away / size) if len(other) else 0.0)
    seconds: dict[str, list[float]] = {"packed": [], "padded": []}
    for _ in range(rounds):
        seconds["packed"].append(timed(lambda: [live.encode(step) for step in steps], device))
        seconds["padded"].append(timed(lambda: [padded(step) for step in steps], device))
    captions = sum(map(len, steps))
    lengths = {c: len(tower.encode([c])[0][main]) for c in {c for step in steps for c in step} | {""}}
    share = counted(steps, lengths.__getitem__, tower)
    rate = {way: captions / median(times) for way, times in seconds.items()}
    cells = [f"{rate['packed']:.0f}", f"{rate['padded']:.0f}", f"{rate['packed'] / rate['padded']:.2f}"]
    cells += [f"{share[key]:.1%}" for key in ("padding", "padding_grouped", "saved", "saved_shared")]
    cells += [f"{share['calls']:.1f}", f"{share['tflop']:.3f}", f"{worst:.0e}"]
    return " | ".join([f"| {name}", f"{min(lengths.values())} to {max(lengths.values())}", *cells]) + " |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--batch", type=int, default=22, help="captions of a step on one process")
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--dropout", type=float, default=0.1, help="share of empty captions")
    options.add_argument("--released", action="store_true", help="random encoders of the released sizes, bfloat16")
    given = options.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    print(machine.facts(device))
    print(f"{given.batch} captions a step, {given.steps} steps, {given.rounds} rounds, {given.dropout:.0%} empty\n")
    head = ["tower, captions", "tokens of a row", "packed, captions/s", "padded, captions/s", "packed / padded"]
    head += ["padding, padded", "padding, packed", "FLOP saved by packing", "and by encoding once"]
    head += ["calls a step, packed", "TFLOP a caption, packed", "rows differ by"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in (*POLICIES, "anima"):
        where = {"released": given.released, "device": device}
        tower: Any = anima(**where) if name == "anima" else sd35(name, **where)
        for kind, kinds in KINDS.items():
            steps = drawn_steps(kinds, steps=given.steps, batch=given.batch, dropout=given.dropout)
            label = "anima" if name == "anima" else f"sd35, {name}"
            print(compare(f"{label}, {kind}", tower, steps, device, given.rounds), flush=True)
        del tower


if __name__ == "__main__":
    main()
