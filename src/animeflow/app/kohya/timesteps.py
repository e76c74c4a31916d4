"""Which timesteps kohya draws and how it weighs them, as `recipe` here. Knows numbers; `Kin` says which form is meant."""

from __future__ import annotations

from .book import Book, plain
from .kin import Kin

LAW = "recipe.density"
WEIGHTS = {"sigma_sqrt": "sigma_sqrt", "cosmap": "cosmap"}


def timesteps(book: Book, kin: Kin) -> None:
    """Density, shift and weight; nothing of our own is added."""
    if kin.timesteps == "sampling":
        _sampling(book, kin)
    else:
        _weighting(book, kin, shift="training_shift")
    book.set(f"{LAW}.floor_share", 0.0, of="weighting_scheme", said="kohya draws no extra timesteps near noise")
    book.set("recipe.prior.kind", "none", of="weighting_scheme", said="kohya keeps the class by pictures (is_reg) only")
    if kin.loss == "x0":
        book.note("weighting_scheme", "kohya's error is that of x0, a hidden t^2 on the velocity's: kept; "
                  "recipe=velocity is the error of the velocity itself", said="loss")  # fmt: skip
    weight = book.number("prior_loss_weight", 1.0)
    if weight not in (None, 1.0):
        book.warn("prior_loss_weight", "pictures of the class count as much as the others; give them fewer repeats")
    elif book.has("prior_loss_weight"):
        book.note("prior_loss_weight", "as here")


def _sampling(book: Book, kin: Kin) -> None:
    """timestep_sampling: sigmoid, shift, flux_shift, uniform, or sigma (then weighting_scheme)."""
    kind = str(book.get("timestep_sampling") or "sigmoid")
    scale = book.number("sigmoid_scale", 1.0) or 1.0
    shift = book.number("discrete_flow_shift", 1.0) or 1.0
    if kind == "sigma":
        _weighting(book, kin, shift="discrete_flow_shift")
        book.note("timestep_sampling", "as weighting_scheme says")
        return
    if kind in ("sigmoid", "shift", "flux_shift"):
        book.set(f"{LAW}.law", "logit_normal", of="timestep_sampling",
                 why="" if book.has("timestep_sampling") else "kohya's default is sigmoid")  # fmt: skip
        book.set(f"{LAW}.mean", 0.0, of="timestep_sampling")
        book.set(f"{LAW}.std", scale, of="sigmoid_scale")
    elif kind == "uniform":
        book.set(f"{LAW}.law", "uniform", of="timestep_sampling")
    else:
        book.error("timestep_sampling", f"{kind} has no counterpart: take sigmoid, shift, flux_shift or uniform")
    if kind == "flux_shift":
        book.set("recipe.shift.mode", "flux_mu", of="timestep_sampling")
        book.set("recipe.shift.value", None, of="timestep_sampling")
    else:
        moved = shift if kind == "shift" else 1.0
        book.set("recipe.shift.mode", "fixed", of="timestep_sampling")
        book.set("recipe.shift.value", plain(moved), of="discrete_flow_shift",
                 why="" if moved == shift else f"kohya ignores it with {kind}")  # fmt: skip
    scheme = str(book.get("weighting_scheme") or "none")
    _weight(book, kin, scheme)


def _weighting(book: Book, kin: Kin, *, shift: str) -> None:
    """weighting_scheme: the law of t for logit_normal and mode, else a weight on uniform t."""
    scheme = str(book.get("weighting_scheme") or "uniform")
    default = "" if book.has("weighting_scheme") else "kohya's default"
    if scheme == "logit_normal":
        book.set(f"{LAW}.law", "logit_normal", of="weighting_scheme")
        book.set(f"{LAW}.mean", book.number("logit_mean", 0.0), of="logit_mean")
        book.set(f"{LAW}.std", book.number("logit_std", 1.0), of="logit_std")
    elif scheme == "mode":
        book.set(f"{LAW}.law", "mode", of="weighting_scheme")
        book.set(f"++{LAW}.scale", book.number("mode_scale", 1.29), of="mode_scale")
    elif scheme in ("uniform", "none", *WEIGHTS):
        book.set(f"{LAW}.law", "uniform", of="weighting_scheme", why=default)
    else:
        book.error(
            "weighting_scheme", f"{scheme} has no counterpart: take logit_normal, mode, cosmap, sigma_sqrt or uniform"
        )
    for key in ("logit_mean", "logit_std", "mode_scale"):
        if book.has(key) and key not in book.read:
            book.note(key, f"kohya ignores it with {scheme}")
    book.set("recipe.shift.mode", "fixed", of=shift)
    book.set("recipe.shift.value", plain(book.number(shift, 1.0) or 1.0), of=shift)
    _weight(book, kin, scheme)


def _weight(book: Book, kin: Kin, scheme: str) -> None:
    if scheme == "sigma_sqrt" and kin.loss == "v":
        book.error(
            "weighting_scheme", "sigma_sqrt on the error of the velocity grows without bound towards t = 0: take none"
        )
        return
    book.set("recipe.weight.space", kin.loss, of="weighting_scheme", said="loss")
    book.set("recipe.weight.form", WEIGHTS.get(scheme, "none"), of="weighting_scheme")
