"""A folder of pictures in, a LoRA out: look, choose, show, ask once, train, verify."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..lora import show
from ..lora.choose import Asked, Chosen

log = logging.getLogger(__name__)


def run(
    overrides: Sequence[str],
    *,
    directory: str,
    base: str | None = None,
    family: str | None = None,
    tiny: bool = False,
    preset: str | None = None,
    trigger: str | None = None,
    kind: str | None = None,
    yes: bool = False,
    dry_run: bool = False,
) -> int:
    """The exit code: 0 when the files are written and verified, 75 when training was asked to stop and is saved."""
    from ..lora import end, stages
    from ..lora.job import prepare
    from ..lora.plan import rows
    from ..lora.words import line

    asked = Asked(base, family, tiny, preset, trigger, kind, tuple(overrides))
    chosen = prepare(Path(directory), asked, on_found=show.found)
    show.plan(rows(chosen), title=chosen.config["name"])
    show.command(line(chosen.words), title="the same run by the verbs that scripts use")
    if dry_run:
        return 0
    if not yes and not show.ask("train?"):
        show.say("nothing was written")
        return 0
    done = stages.run(chosen)
    if done.code:
        show.say(f"stopped and saved; the same command goes on: {_again(chosen, directory, asked)}", style="bold")
        return done.code
    end.tell(chosen, done)
    return 0


def _again(chosen: Chosen, directory: str, asked: Asked) -> str:
    """This command, without its question."""
    import shlex

    options = {"--base": asked.base, "--family": asked.family, "--preset": asked.preset, "--trigger": asked.trigger,
               "--class": asked.kind}  # fmt: skip
    named = [part for name, value in options.items() if value is not None for part in (name, value)]
    return shlex.join(["animeflow", "lora", directory, *named, *(["--tiny"] if asked.tiny else []), "-y", *asked.words])
