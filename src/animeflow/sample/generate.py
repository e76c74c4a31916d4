"""Prompts to pictures. Knows the Family protocol and the solvers; knows no family, no checkpoint and no run.

noise(seed, C, h, w) -> solve(guided velocity) -> codec.decode -> uint8

All noise of a picture is keyed by its seed and size alone, so the batch it is drawn in does not change it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..core import seed as keyed
from ..core.errors import ConfigError
from ..flow import schedule as schedules
from ..flow.guidance import guided
from ..flow.solution import OnStep, Solution
from ..flow.solver import ADAPTIVE, ATOL, MAX_NFE, RTOL, solve
from ..flow.stochastic import STOCHASTIC
from ..model.protocol import Codec, Family, TextRow, TextTower
from ..text import emphasis

Part = TypeVar("Part", Codec, TextTower)
Request = tuple[str, int]  # a prompt and a seed


@dataclass(frozen=True)
class Sample:
    """One picture and all that is needed to draw it again.

    Attributes:
        pixels: uint8 RGB `[H, W, 3]`.
        recipe: JSON values: prompt, negative, seed, height, width, solver, schedule, steps, nfe, cfg, shift, model, ...
    """

    pixels: np.ndarray
    recipe: dict[str, Any]


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample. What is None is the family's own default.

    Args:
        solver: one of flow/solver.py. `bosh3` and `dopri5` choose their own steps; with `steps`, they take that fixed grid.
        steps, schedule, shift: of the fixed grid, see flow/schedule.py. An adaptive solver reads none of them.
        eta, s_noise: of the solvers of flow/stochastic.py. The others read none of them.
        cfg: guidance; 1 turns it off and halves the cost.
        negative: the negative prompt; the family's when None.
        prompt_weights: read `(smile:1.3)` in prompts and negative as emphasis; otherwise a parenthesis is a parenthesis.
        rtol, atol, max_nfe: of the adaptive solvers.
        joined: both halves of guidance in one forward; False needs half the memory.
    """

    solver: str | None = None
    steps: int | None = None
    schedule: str | None = None
    cfg: float | None = None
    shift: float | None = None
    eta: float = 1.0
    s_noise: float = 1.0
    negative: str | None = None
    prompt_weights: bool = False
    rtol: float = RTOL
    atol: float = ATOL
    max_nfe: int = MAX_NFE
    joined: bool = True


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
    settled = _with_defaults(settings, family)
    return list(_samples(family, net, requests, settled, (height, width), batch_size, autocast, progress, on_step))


def _samples(
    family: Family,
    net: nn.Module,
    requests: Sequence[Request],
    settings: SamplingSettings,
    size: tuple[int, int],
    batch_size: int,
    autocast: torch.dtype | None,
    progress: Callable[[int], None] | None,
    on_step: OnStep | None,
) -> Iterator[Sample]:
    codec, where = family.codec(), next(net.parameters()).device
    model = {"name": family.name, "flavour": family.flavour, **family.describe()}
    with _at_rest(net), _visiting(codec, where), torch.no_grad():
        captions = [prompt for prompt, _ in requests] + [_negative(settings)]
        rows = _text_rows(family, captions, where, weighted=settings.prompt_weights)
        for start in range(0, len(requests), batch_size):
            part = requests[start : start + batch_size]
            with torch.autocast(where.type, dtype=autocast, enabled=autocast is not None):
                solution = _solve(family, net, part, rows, settings, size, on_step)
            pixels = to_uint8(codec.decode(solution.x))
            for i, request in enumerate(part):
                yield Sample(pixels[i], _recipe(model, request, size, settings, solution, i))
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


def _with_defaults(settings: SamplingSettings, family: Family) -> SamplingSettings:
    """The settings as they will be used: nothing None but the steps of an adaptive solver."""
    defaults = family.defaults
    solver = defaults.solver if settings.solver is None else settings.solver
    adaptive = solver in ADAPTIVE and settings.steps is None
    return replace(
        settings,
        solver=solver,
        steps=None if adaptive else (defaults.steps if settings.steps is None else settings.steps),
        schedule=defaults.schedule if settings.schedule is None else settings.schedule,
        cfg=defaults.cfg if settings.cfg is None else settings.cfg,
        shift=defaults.shift if settings.shift is None else settings.shift,
        negative=defaults.negative if settings.negative is None else settings.negative,
    )


def _negative(settings: SamplingSettings) -> str:
    return settings.negative or ""


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
        uncond = tower.collate([rows[_negative(settings)]] * len(requests)).to(where)
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


def _recipe(
    model: Mapping[str, str],
    request: Request,
    size: tuple[int, int],
    settings: SamplingSettings,
    solution: Solution,
    i: int,
) -> dict[str, Any]:
    taken = int(solution.steps_B[i])
    recipe: dict[str, Any] = {
        "prompt": request[0],
        "negative": _negative(settings),
        "prompt_weights": settings.prompt_weights,
        "seed": request[1],
        "height": size[0],
        "width": size[1],
        "solver": settings.solver,
        "steps": taken if settings.steps is None else settings.steps,  # those to ask for to draw it again
        "nfe": int(solution.nfe_B[i]),
        "cfg": settings.cfg,
        "model": dict(model),
        "animeflow": __version__,
    }
    if settings.steps is None:
        recipe |= {"rtol": settings.rtol, "atol": settings.atol, "max_nfe": settings.max_nfe}
        return recipe | ({"capped": True} if bool(solution.capped_B[i]) else {})
    recipe |= {"schedule": settings.schedule, "shift": settings.shift}
    if settings.solver in STOCHASTIC:
        recipe |= {"eta": settings.eta, "s_noise": settings.s_noise}
    return recipe | ({"steps_taken": taken} if taken != settings.steps else {})


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
