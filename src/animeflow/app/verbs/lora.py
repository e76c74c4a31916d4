"""A folder of pictures in, a LoRA out: look, choose, show, ask once, train, verify."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..lora import show
from ..lora.choose import Asked, Chosen

log = logging.getLogger(__name__)
INTERRUPTED = 130  # what a shell says of Ctrl-C


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
    from ..lora.begun import begun

    asked = Asked(base, family, tiny, preset, trigger, kind, tuple(overrides))
    try:
        chosen = _agreed(Path(directory), asked, yes=yes, dry_run=dry_run)
    except KeyboardInterrupt:
        show.say("\nstopped; nothing was written")
        return INTERRUPTED
    if chosen is None:
        return 0
    try:
        done = stages.run(chosen)
    except KeyboardInterrupt:
        if begun(chosen.config) is not None:
            raise
        show.say("\nstopped before the first checkpoint; the same command goes on with what is read and encoded")
        return INTERRUPTED
    if done.code:
        show.say(f"stopped and saved; the same command goes on: {_again(chosen, directory, asked)}", style="bold")
        return done.code
    end.tell(chosen, done)
    return 0


def _agreed(folder: Path, asked: Asked, *, yes: bool, dry_run: bool) -> Chosen | None:
    """The run after its plan was shown; None where it shall not be. Writes nothing."""
    from ..lora.job import prepare
    from ..lora.plan import rows
    from ..lora.stages import WORDS
    from ..lora.words import line
    from ..wiring import Workspace

    chosen = prepare(folder, asked, on_found=show.found)
    show.plan(rows(chosen), title=chosen.config["name"])
    if dry_run:
        title = "the same run by the verbs that scripts use: catalogue, shard, cache with these words, then"
        show.command(line(chosen.words), title=title)
        return None
    saved = line([f"@{Workspace.of(dict(chosen.config)).run / WORDS}"])
    show.command(saved, title="the same run for scripts, once it has begun (--dry-run shows all its words)")
    if not yes and not show.ask("train?"):
        show.say("nothing was written")
        return None
    return chosen


def _again(chosen: Chosen, directory: str, asked: Asked) -> str:
    """This command, without its question."""
    import shlex

    options = {"--base": asked.base, "--family": asked.family, "--preset": asked.preset, "--trigger": asked.trigger,
               "--class": asked.kind}  # fmt: skip
    named = [part for name, value in options.items() if value is not None for part in (name, value)]
    return shlex.join(["animeflow", "lora", directory, *named, *(["--tiny"] if asked.tiny else []), "-y", *asked.words])
