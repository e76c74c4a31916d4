"""What is said when a LoRA is done: the verdict on its files, where each goes, how it went, what comes next. Knows results; decides
nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...evaluate import early_stop
from . import show
from .choose import Chosen
from .stages import Done

FEW = 8  # held-out pictures, below which their loss hangs on which ones they are


def tell(chosen: Chosen, done: Done) -> None:
    """The end of a run on a terminal."""
    show.say("\ndone", style="bold")
    show.files(list(paths(chosen, done)))
    if done.verified is not None:
        show.say(f"  {done.verified.verdict}", style="green")
    if hint := stopping(chosen, done.run):
        show.say(f"  {hint}")
    measured = identity(done.run)
    if measured:
        show.say(f"  {measured}")
    show.command(example(chosen), title="draw with it")
    show.say(calls(chosen))


def calls(chosen: Chosen) -> str:
    """Every trigger."""
    triggers = [trigger for trigger, _ in chosen.leads if trigger]
    if len(triggers) > 1:
        return f"The words that call them: {'; '.join(triggers)}"
    return f"The word that calls it: {triggers[0]}" if triggers else "It has no trigger: it acts on every prompt."


def stopping(chosen: Chosen, run: Path) -> str | None:
    """When learning stopped, and how little that says where few pictures were held out."""
    hint = early_stop.hint(run)
    if hint is None:
        return None
    few = f"held out on only {chosen.held_out} picture{'s' * (chosen.held_out > 1)}: " if chosen.held_out < FEW else ""
    return few + hint.replace("name=RUN", f"name={chosen.config['name']}")


def identity(run: Path) -> str | None:
    """Whether it drew whom it was taught, where that can be read from pictures: of a guest of the drawn world."""
    path = run / "identity.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    before, after = found["before"]["identity"], found["after"]["identity"]
    return (
        f"who she is was read right from {100 * after:.1f} % of her attributes ({100 * before:.1f} % before); "
        f"ordinary prompts lost {100 * found['lost']:.1f} points"
    )


def paths(chosen: Chosen, done: Done) -> Iterator[tuple[str, str]]:
    """Every file that matters, and where it goes."""
    if done.export is not None:
        places = dialect_places(chosen)
        for dialect, path in done.export.files.items():
            size = path.stat().st_size / 1e6 if path.is_file() else sum(f.stat().st_size for f in path.rglob("*")) / 1e6
            yield show.shortened(path), f"{size:.1f} MB, {dialect}{places.get(dialect, '')}"
        yield show.shortened(done.export.folder / "README.md"), "model card"
    for path, about in ((done.sheet, "before and after"), (done.report, "the whole run on one page")):
        if path is not None:
            yield show.shortened(path), about


def dialect_places(chosen: Chosen) -> dict[str, str]:
    """Where the file of each dialect goes, in the family's own words."""
    from ..wiring import family

    return {
        name: f": put it into {dialect.place}"
        for name, dialect in family(chosen.config).dialects().items()
        if dialect.place
    }


def metrics(run: Path) -> list[dict[str, Any]]:
    """The run's numbers, line by line."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.strip()]


def example(chosen: Chosen) -> str:
    """A command that draws with the run."""
    from .words import word

    given = chosen.config["sample"]["prompts"] or "1girl, smile"
    prompt = given if isinstance(given, str) else given[0]
    words = [word("name", chosen.config["name"]), word("sample.prompts", [prompt])]
    return shlex.join(["animeflow", "sample", *words])


def summary(run: Path) -> Mapping[str, float]:
    """The last value of every number of the run."""
    found: dict[str, float] = {}
    for each in metrics(run):
        found |= {key: value for key, value in each.items() if isinstance(value, int | float)}
    return found
