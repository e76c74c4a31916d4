"""Make the averaged weights of another width out of a run's snapshots, after it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ... import __version__
from ...core.errors import DataError
from ..averaged import place_of, write_average
from ..compose import compose_run
from ..wiring import Workspace, use_threads

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, sigma_rel: float, images: int | None = None, dry_run: bool = False) -> None:
    config = compose_run(overrides)
    use_threads(config["train"]["threads"])
    make(config, sigma_rel=sigma_rel, images=images, dry_run=dry_run)


def make(config: dict[str, Any], *, sigma_rel: float, images: int | None = None, dry_run: bool = False) -> Path | None:
    """The file with the average of this width after `images`, at the newest snapshot by default; None for a dry run."""
    from ...optim.posthoc import Profile, combine, fit
    from ...train import snapshots

    place = Workspace.of(config)
    if not place.run.is_dir():
        raise DataError("there is no such run", where=str(place.run), do="give the name=... or run=... of one")
    stored = snapshots.kept(place.run / "snapshots")
    if images is not None:
        stored = _until(stored, images, where=str(place.run / "snapshots"))
    profiles = [each.profile for each in stored]
    target = Profile(max(profile.images for profile in profiles) if images is None else images, sigma_rel)
    found = fit(profiles, target)
    _tell(profiles, target, found)
    path = place_of(place.run, sigma_rel, images)
    if dry_run:
        log.info("would write %s", path)
        return None
    used = [(each, weight) for each, weight in zip(stored, found.weights, strict=True) if weight]
    tensors = combine((each.load() for each, _ in used), [weight for _, weight in used])
    made = {
        "run": config["name"],
        "images_seen": int(target.images),
        "sigma_rel": sigma_rel,
        "expected_error": found.expected_error,
        "snapshots": [
            {"images": int(each.profile.images), "sigma_rel": each.profile.sigma_rel, "weight": weight}
            for each, weight in used
        ],
        "made_by": f"animeflow {__version__}",
    }
    write_average(path, tensors, made)
    log.info("wrote %s", path)
    return path


def _until(stored: Sequence[Any], images: int, *, where: str) -> list[Any]:
    """The snapshots that had been made by then. Raises DataError where there is none, or the run was never that far."""
    there = sorted({int(each.profile.images) for each in stored})
    if not there[0] <= images <= there[-1]:
        raise DataError(
            f"no average after {images:,} images can be made", where=where,
            why=f"the snapshots are of {there[0]:,} to {there[-1]:,} images", do="give --images between these",
        )  # fmt: skip
    return [each for each in stored if each.profile.images <= images]


def _tell(profiles: Sequence[Any], target: Any, found: Any) -> None:
    """The fit, in lines; a warning where the wanted width is not one that the stored ones make well."""
    from ...optim.posthoc import GOOD, good_range

    widths = sorted({profile.sigma_rel for profile in profiles})
    weights = {(profile.images, profile.sigma_rel): w for profile, w in zip(profiles, found.weights, strict=True)}
    log.info("average of width %g of the first %s images, out of", target.sigma_rel, f"{target.images:,}")
    log.info("%14s  %s", "images", "  ".join(f"width {width:<6g}" for width in widths))
    for images in sorted({profile.images for profile in profiles}):
        columns = (f"{weights[images, width]:+12.6f}" if (images, width) in weights else " " * 12 for width in widths)
        log.info("%14s  %s", f"{images:,}", "  ".join(columns))
    log.info(
        "expected error %.3g %% of weights if they walked at random (profile: %.3g %%); a snapshot's rounding counts %.2f times",
        100 * found.expected_error, 100 * found.misfit, found.growth,
    )  # fmt: skip
    if found.expected_error > GOOD:
        good = good_range(profiles, target.images)
        log.warning(
            "this width is not made well of these snapshots; %s. More snapshots (train.ema.snapshots) or nearer widths "
            "(train.ema.sigma_rels) would",
            f"widths from {good[0]:g} to {good[1]:g} are" if good else "no width is",
        )
