"""Prompts to pictures. Knows the Family protocol and the solvers; knows no family, no checkpoint and no run.

noise(seed, C, h, w) -> solve(guided velocity) -> codec.decode -> uint8

All noise of a picture is keyed by its seed and size alone, so the batch it is drawn in does not change it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..core import seed as keyed
from ..core.errors import ConfigError
from ..flow import schedule as schedules
from ..flow.guidance import guided
from ..flow.solution import OnStep, Solution
from ..flow.solver import ATOL, MAX_NFE, RTOL, solve
from ..model.protocol import Codec, Family, TextRow, TextTower
from ..text import emphasis
from .recipe import Request, origin_of, recipe
from .settings import SamplingSettings

Part = TypeVar("Part", Codec, TextTower)


@dataclass(frozen=True)
class Sample:
    """One picture and all that is needed to draw it again.

    Attributes:
        pixels: uint8 RGB `[H, W, 3]`.
        recipe: JSON values: prompt, negative, seed, height, width, solver, schedule, steps, nfe, cfg, shift, model, weights, ...
    """

    pixels: np.ndarray
    recipe: dict[str, Any]


def generate(
    family: Family,
    prompts: Sequence[str],
    *,
    height: int,
    width: int,
    seeds: Sequence[int] = (0,),
    pair: bool = False,
    solver: str | None = None,
    steps: int | None = None,
    schedule: str | None = None,
    cfg: float | None = None,
    shift: float | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    negative: str | None = None,
    prompt_weights: bool = False,
    rtol: float = RTOL,
    atol: float = ATOL,
    max_nfe: int = MAX_NFE,
    batch_size: int = 4,
    joined: bool = True,
    device: torch.device | str | None = None,
    backbone: nn.Module | None = None,
    weights: Mapping[str, Any] | None = None,
    autocast: torch.dtype | None = None,
    progress: Callable[[int], None] | None = None,
    on_step: OnStep | None = None,
) -> list[Sample]:
    """Every prompt with every seed, prompt by prompt; with `pair=True` prompt i with seed i.

    Args:
        height, width: pixels; multiples of codec stride x patch.
        device: where to work; where the backbone is, when None. The family's backbone goes and stays there; a given `backbone`
            is never moved; text tower and codec come along while they are needed and go back to where they were.
        backbone: weights to use instead of the family's, e.g. those in training or their average.
        weights: which ones these are, as JSON values for the recipe, e.g. `{"run": "toonworld", "images_seen": 20000}`.
        autocast: dtype for the forward passes, e.g. torch.bfloat16; None leaves it to the weights.
        progress: called with the number of pictures that have just been finished.
        on_step: called before every solver step of every batch, for previews.

    Other arguments are those of `SamplingSettings`. Raises ConfigError on an impossible size or setting.
    """
    settings = SamplingSettings(
        solver, steps, schedule, cfg, shift, eta, s_noise, negative, prompt_weights, rtol, atol, max_nfe, joined
    )
    _check_size(family, height, width)
    requests = _requests(prompts, seeds, pair)
    net = family.backbone() if backbone is None else backbone
    if device is not None and backbone is None:
        net = net.to(device)
    settled, origin = settings.settled(family.defaults), origin_of(family, weights)
    return list(
        _samples(family, net, requests, settled, (height, width), origin, batch_size, autocast, progress, on_step)
    )


def _samples(
    family: Family,
    net: nn.Module,
    requests: Sequence[Request],
    settings: SamplingSettings,
    size: tuple[int, int],
    origin: Mapping[str, Any],
    batch_size: int,
    autocast: torch.dtype | None,
    progress: Callable[[int], None] | None,
    on_step: OnStep | None,
) -> Iterator[Sample]:
    codec, where = family.codec(), next(net.parameters()).device
    with _at_rest(net), _visiting(codec, where), torch.no_grad():
        captions = [prompt for prompt, _ in requests] + [settings.negative or ""]
        rows = _text_rows(family, captions, where, weighted=settings.prompt_weights)
        for start in range(0, len(requests), batch_size):
            part = requests[start : start + batch_size]
            with torch.autocast(where.type, dtype=autocast, enabled=autocast is not None):
                solution = _solve(family, net, part, rows, settings, size, on_step)
            pixels = to_uint8(codec.decode(solution.x))
            for i, request in enumerate(part):
                yield Sample(pixels[i], recipe(origin, request, size, settings, solution, i))
            if progress:
                progress(len(part))


def initial_noise(seed: int, channels: int, h: int, w: int) -> Tensor:
    """`[C, h, w]` float32 on the CPU: the same for the same seed and size on every machine and in every batch."""
    return keyed.normal((channels, h, w), seed, "sample")


def step_noise(seed: int, step: int, channels: int, h: int, w: int) -> Tensor:
    """`[C, h, w]` float32 on the CPU: what a stochastic solver adds at a step, keyed as `initial_noise` is."""
    return keyed.normal((channels, h, w), seed, "sample noise", step)


def to_uint8(pixels_B3HW: Tensor) -> np.ndarray:
    """Pixels in [-1, 1] -> uint8 `[B, H, W, 3]`, rounded to the nearest."""
    scaled = (pixels_B3HW.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def _check_size(family: Family, height: int, width: int) -> None:
    stride = family.codec().stride
    step = stride * family.patch
    if height < step or width < step or height % step or width % step:
        near = tuple(max(step, round(side / step) * step) for side in (height, width))
        raise ConfigError(
            f"a picture of {height}x{width} (height x width) is not a multiple of {step}",
            where="sample.height, sample.width",
            why=f"{family.name} makes tokens of {step} x {step} pixels (stride {stride} x patch {family.patch})",
            do=f"use {near[0]}x{near[1]}",
        )


def _requests(prompts: Sequence[str], seeds: Sequence[int], pair: bool) -> list[Request]:
    if not pair:
        return [(prompt, seed) for prompt in prompts for seed in seeds]
    if len(prompts) != len(seeds):
        raise ConfigError(
            f"{len(prompts)} prompts and {len(seeds)} seeds",
            where="sample.seeds",
            do="with pair=True give one seed per prompt",
        )
    return list(zip(prompts, seeds, strict=True))


def _text_rows(
    family: Family, captions: Sequence[str], device: torch.device, *, weighted: bool
) -> Mapping[str, TextRow]:
    """Every different caption encoded once."""
    different = list(dict.fromkeys(captions))
    with _visiting(family.text_tower(), device) as tower:
        rows = (
            tower.encode_weighted([emphasis.parse(each) for each in different]) if weighted else tower.encode(different)
        )
        return dict(zip(different, rows, strict=True))


def _solve(
    family: Family,
    net: nn.Module,
    requests: Sequence[Request],
    rows: Mapping[str, TextRow],
    settings: SamplingSettings,
    size: tuple[int, int],
    on_step: OnStep | None,
) -> Solution:
    assert settings.solver and settings.schedule and settings.cfg is not None and settings.shift is not None
    tower, codec, where = family.text_tower(), family.codec(), next(net.parameters()).device
    cond = tower.collate([rows[prompt] for prompt, _ in requests]).to(where)
    uncond = None
    if settings.cfg != 1:
        uncond = tower.collate([rows[settings.negative or ""]] * len(requests)).to(where)
    shape = (codec.channels, size[0] // codec.stride, size[1] // codec.stride)
    sigmas = None
    if settings.steps is not None:
        sigmas = schedules.sigmas(settings.steps, shift=settings.shift, schedule=settings.schedule)
    return solve(
        guided(net, cond, uncond, settings.cfg, joined=settings.joined),
        torch.stack([initial_noise(seed, *shape) for _, seed in requests]).to(where),
        sigmas,
        solver=settings.solver,
        rtol=settings.rtol,
        atol=settings.atol,
        max_nfe=settings.max_nfe,
        eta=settings.eta,
        s_noise=settings.s_noise,
        noise=lambda step: torch.stack([step_noise(seed, step, *shape) for _, seed in requests]).to(where),
        first_sigma=schedules.first_sigma(settings.shift),
        on_step=on_step,
    )


@contextlib.contextmanager
def _visiting(part: Part, device: torch.device) -> Iterator[Part]:
    """On `device` inside, back where it was after: others own it too, and a text tower may be larger than the backbone."""
    home = part.device
    try:
        part.to(device)
        yield part
    finally:
        part.to(home)


@contextlib.contextmanager
def _at_rest(module: nn.Module) -> Iterator[None]:
    """In eval mode inside, in its former mode after."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
