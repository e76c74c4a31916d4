"""All that is needed to draw a picture again, as JSON values. Knows settings and solutions; knows no family and no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..flow.solution import Solution
from ..flow.stochastic import STOCHASTIC
from .settings import SamplingSettings

if TYPE_CHECKING:
    from ..model.protocol import Family

Request = tuple[str, int]  # a prompt and a seed


def recipe(
    origin: Mapping[str, Any],
    request: Request,
    size: tuple[int, int],
    settings: SamplingSettings,
    solution: Solution,
    i: int,
) -> dict[str, Any]:
    """Of picture `i` of a batch. `origin` is what `origin_of` says, `settings` are settled ones."""
    taken = int(solution.steps_B[i])
    told: dict[str, Any] = {
        "prompt": request[0],
        "negative": settings.negative or "",
        "prompt_weights": settings.prompt_weights,
        "seed": request[1],
        "height": size[0],
        "width": size[1],
        "solver": settings.solver,
        "steps": taken if settings.steps is None else settings.steps,  # those to ask for to draw it again
        "nfe": int(solution.nfe_B[i]),
        "cfg": settings.cfg,
        **origin,
        "animeflow": __version__,
    }
    if settings.steps is None:
        told |= {"rtol": settings.rtol, "atol": settings.atol, "max_nfe": settings.max_nfe}
        return told | ({"capped": True} if bool(solution.capped_B[i]) else {})
    told |= {"schedule": settings.schedule, "shift": settings.shift}
    if settings.solver in STOCHASTIC:
        told |= {"eta": settings.eta, "s_noise": settings.s_noise}
    return told | ({"steps_taken": taken} if taken != settings.steps else {})


def origin_of(family: Family, weights: Mapping[str, Any] | None) -> dict[str, Any]:
    """What drew a picture: the family as `model`, and its `weights` where the caller says which they were. What the family itself
    knows of its weights is how they began, which says nothing once they have learned."""
    model = {"name": family.name, "flavour": family.flavour, **family.describe()}
    if weights is None:
        return {"model": model}
    return {"model": {key: value for key, value in model.items() if key != "weights"}, "weights": dict(weights)}
