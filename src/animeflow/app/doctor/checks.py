"""All checks in their order, each isolated: what breaks inside one is a finding, not the end. Knows checks; prints nothing."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.errors import AnimeflowError
from ..compose import choices, compose, config_folder
from .finding import ERROR, Finding, error, ok

Look = Callable[[], list[Finding]]


@dataclass(frozen=True)
class Check:
    """A group of findings: what is looked at, and how."""

    title: str
    look: Look


def checks(overrides: Sequence[str] = (), *, base: str | None = None) -> list[Check]:
    """What is looked at, in the order in which one thing rests on another. Imports torch only when a check runs."""
    settings: dict[str, Any] = {}

    def configured() -> list[Finding]:
        settings.update(compose(()))  # what the other checks go by, should the words be wrong
        try:
            settings.update(compose(overrides))
        except AnimeflowError as wrong:
            return [error("settings", wrong.what, why=wrong.why, do=wrong.do or "look at the words of this command")]
        folder = config_folder()
        return [ok("settings", f"{len(choices(folder, 'experiment'))} experiments in {_short(folder)}")]

    def need(part: Callable[..., list[Finding]], **options: Any) -> Look:
        return lambda: part(settings, **options)

    from . import base as bases
    from . import disk, driver, gpu, host, models, steps, versions

    found = [
        Check("settings", configured),
        Check("versions", lambda: versions.look(versions.asked_by(settings))),
        Check("torch and driver", lambda: driver.judge(driver.build(), driver.driver())),
        Check("gpu", gpu.look),
        Check("attention", need(gpu.attention)),
        Check("machine", host.look),
        Check("wandb", need(wandb)),
        Check("disk", need(disk.look)),
        Check("models", need(models.look, chosen=bool(overrides))),
    ]
    if base is not None:
        found.append(Check("base", lambda: bases.look(Path(base))))
    return [*found, Check("training steps", need(steps.look))]


def wandb(config: Mapping[str, Any], *, environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Only where the settings ask for it; no server is asked."""
    import netrc
    import os

    if config.get("train", {}).get("wandb") != "online":
        return []
    told = os.environ if environment is None else environment
    file = Path(told.get("NETRC") or Path(told.get("HOME", "~")).expanduser() / ".netrc")
    try:
        known = file.is_file() and any("wandb" in host for host in netrc.netrc(file).hosts)
    except netrc.NetrcParseError:
        known = False
    if known or told.get("WANDB_API_KEY"):
        return [ok("wandb", "a key is there; whether the server takes it is not asked")]
    return [error("wandb", "train.wandb=online, and no key is on this machine", do="wandb login")]


def examine(todo: Sequence[Check]) -> Iterator[tuple[Check, list[Finding]]]:
    """Run one after another. What a check raises becomes its finding."""
    for check in todo:
        try:
            found = check.look()
        except AnimeflowError as wrong:
            found = [error(check.title, wrong.what, why=wrong.why, do=wrong.do or "see docs/troubleshooting.md")]
        except Exception as broken:  # whatever it is: the other checks still tell something
            text = " ".join(str(broken).split())[:300]
            said = f"{type(broken).__name__}: {text}" if text else type(broken).__name__
            line = error(check.title, said, why="this check itself broke", do="animeflow doctor --debug, and report it")
            found = [replace(line, trace=traceback.format_exc())]
        yield check, found


def failed(found: Sequence[Finding]) -> bool:
    return any(finding.level == ERROR for finding in found)


def _short(folder: Path) -> str:
    """Seen from the working folder where it lies below it."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
