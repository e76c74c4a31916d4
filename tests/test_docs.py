"""What the documents say is there: links, verbs, make targets, experiments. Reads Markdown; knows no prose."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import click
import pytest

from animeflow.app.cli import main
from animeflow.app.compose import compose

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```[^\n]*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
MACHINE_PATH = re.compile(r"(?<![\w.~$}/])/(?:home|root|Users|mnt|media|opt|work|srv)/\w")


def each_page(function):
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())(function)


def code_of(page: Path) -> str:
    """Everything a page shows as code, blocks and spans."""
    return "\n".join(block or span for block, span in CODE.findall(page.read_text()))


def anchors_of(page: Path) -> set[str]:
    """The anchors a Markdown viewer makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_relative_links_resolve(page):
    broken = []
    for target in (markdown or html for markdown, html in LINK.findall(FENCE.sub("", page.read_text()))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            broken.append(f"{target}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors_of(file):
            broken.append(f"{target}: no such heading")
    assert not broken, "\n".join(broken)


@each_page
def test_named_verbs_exist(page):
    verbs = set(main.list_commands(click.Context(main)))
    named = set(re.findall(r"(?<![\w./-])(?:\.venv/bin/)?animeflow ([a-z][a-z_-]*)", code_of(page)))
    assert named <= verbs, f"no such verb: {sorted(named - verbs)}; there are {sorted(verbs)}"


@each_page
def test_named_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = re.findall(r"^(?:[A-Z]+=\S+ )*make((?: [a-z-]+)+)", code_of(page), re.MULTILINE)
    named = {target for command in commands for target in command.split()}
    assert named <= targets, f"no such make target: {sorted(named - targets)}"


@each_page
def test_named_experiments_exist(page):
    named = set(re.findall(r"\bexperiment=(\w+)", code_of(page))) - {"NAME"}
    folders = [
        ROOT / "configs" / "experiment",
        ROOT / "tests" / "families" / "toy",
    ]  # the second is what a page walks through
    missing = [name for name in named if not any((folder / f"{name}.yaml").is_file() for folder in folders)]
    assert not missing, f"no such experiment: {missing}"


def commands_in(text: str) -> list[list[str]]:
    """The KEY=VALUE words of every command line in `text` that runs a verb, by its name or by its script."""
    lines = re.findall(r"^\s*(?:accelerate launch .*scripts/|animeflow )[a-z]+(?:\.py)?\b(.*)$", text, re.MULTILINE)
    words = [[word for word in shlex.split(line, comments=True) if not word.startswith("-")] for line in lines]
    return [each for each in words if each and all("=" in word for word in each)]


@functools.cache
def composes(*overrides: str) -> bool:
    """Many pages show the same command, and a third of a second is a long time."""
    return bool(compose(overrides))


@each_page
def test_shown_commands_compose(page):
    for overrides in commands_in(code_of(page)):
        assert composes(*overrides)


def test_examples_in_help_compose():
    shown = [overrides for command in main.commands.values() for overrides in commands_in(command.help or "")]
    assert shown
    for overrides in shown:
        assert composes(*overrides)


@each_page
def test_named_files_of_the_checkout_exist(page):
    """A path in code that starts with one of our folders is a promise, too; `<room>` and `VERB` are placeholders."""
    paths = re.findall(r"(?<![\w./-])((?:src|scripts|configs|tests|docker|benchmarks)/[\w./*<>-]*\w)", code_of(page))
    missing = [path for path in set(paths) if not re.search(r"[*<>]|VERB|NAME", path) and not (ROOT / path).exists()]
    assert not missing, f"no such file: {sorted(missing)}"


@each_page
def test_no_private_paths_and_no_promises(page):
    text = page.read_text()
    assert not MACHINE_PATH.findall(text), "an absolute path of somebody's machine"
    assert not re.findall(r"\b(?:T[O]DO|FIX[M]E|TBD)\b", text), "documents say what is, not what may come"
