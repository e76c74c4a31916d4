"""Python and packages against what the project asks for. Knows version numbers; imports none of the packages."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from .finding import Finding, error, ok, warning

PROJECT = "animeflow"
# Distributions that bring the same module: one of them is enough.
TWINS = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
}
NAME = re.compile(r"\s*(?P<name>[\w.-]+)\s*(\[[^\]]*\])?\s*\(?(?P<rules>[^;)]*)\)?\s*(;(?P<marker>.*))?$")
RULE = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*([\w.]+)")
EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


@dataclass(frozen=True)
class Need:
    """A package and what its version must be; `extra` is the option that asks for it, None for what everything needs."""

    name: str
    rules: tuple[tuple[str, str], ...]
    extra: str | None = None

    @classmethod
    def parse(cls, text: str, extra: str | None = None) -> Need:
        """`"torch>=2.11"`, or a line of a package's metadata with its marker."""
        found = NAME.match(text)
        if found is None:
            raise DataError(f"'{text}' names no package", where="pyproject.toml")
        marked = EXTRA.search(found["marker"] or "")
        return cls(found["name"], tuple(RULE.findall(found["rules"])), marked[1] if marked else extra)

    @property
    def wanted(self) -> str:
        return ",".join(f"{sign}{version}" for sign, version in self.rules)

    def fits(self, version: str) -> bool:
        return all(_holds(_numbers(version), sign, _numbers(wanted)) for sign, wanted in self.rules)

    def command(self) -> str:
        """What installs it."""
        if self.extra is not None:
            return f"pip install '{PROJECT}[{self.extra}]'"
        return f"pip install '{self.name}{self.wanted}'"


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` -> (2, 13, 0); what comes behind the numbers is left out, so 2.13.0rc1 counts as 2.13.0."""
    parts = re.match(r"\d+(\.\d+)*", version.strip())
    return tuple(int(part) for part in parts[0].split(".")) if parts else ()


def _holds(found: tuple[int, ...], sign: str, wanted: tuple[int, ...]) -> bool:
    width = max(len(found), len(wanted))
    a, b = (numbers + (0,) * (width - len(numbers)) for numbers in (found, wanted))
    if sign == "~=":
        return a >= b and a[: len(wanted) - 1] == b[: len(wanted) - 1]
    return {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, ">": a > b, "<": a < b}[sign]


def needs(package: Path) -> tuple[str, list[Need]]:
    """The rule for Python and the packages: of the checkout that `package` lies in, else of what is installed.

    Raises:
        DataError: neither tells.
    """
    file = package.parents[1] / "pyproject.toml"
    if file.is_file():
        project: Mapping[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        if project["name"] == PROJECT:
            found = [Need.parse(line) for line in project["dependencies"]]
            options: Mapping[str, list[str]] = project.get("optional-dependencies", {})
            found += [Need.parse(line, extra) for extra, lines in options.items() for line in lines]
            return project["requires-python"], found
    try:
        said = importlib.metadata.metadata(PROJECT)
    except importlib.metadata.PackageNotFoundError as lack:
        raise DataError(f"{PROJECT} does not tell what it needs", do=f"pip install {PROJECT}") from lack
    lines = importlib.metadata.requires(PROJECT) or []
    return said["Requires-Python"] or "", [Need.parse(line) for line in lines]


def installed(name: str) -> str | None:
    """The version of a package or of a twin of it."""
    for each in (name, *TWINS.get(name, ())):
        try:
            return importlib.metadata.version(each)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def judge_python(version: str, wanted: str, *, free_threaded: bool = False) -> list[Finding]:
    """The interpreter itself."""
    need = Need("Python", tuple(RULE.findall(wanted)))
    if not need.fits(version):
        return [error("python", f"Python {version}, and {wanted} is needed", do="make an environment with Python 3.12")]
    if free_threaded:
        return [
            warning(
                "python", f"Python {version} without its lock (free-threaded)", do="use the usual build of Python",
                why="few of the libraries have been tried with it",
            )
        ]  # fmt: skip
    return [ok("python", f"Python {version}")]


def judge_packages(required: Iterable[Need], found: Mapping[str, str | None]) -> list[Finding]:
    """What everything needs, `found` by name. One line for all that is well."""
    lines, well = [], []
    for need in (need for need in required if need.extra is None):
        version = found.get(need.name)
        if version is None:
            lines.append(error(need.name, f"{need.name} is not installed", do=need.command()))
        elif not need.fits(version):
            lines.append(error(need.name, f"{need.name} {version}, and {need.wanted} is needed", do=need.command()))
        else:
            well.append(need.name)
    return lines or [ok("packages", f"{len(well)} packages, all new enough")]


def judge_extras(
    required: Iterable[Need],
    found: Mapping[str, str | None],
    *,
    asked: Iterable[str] = (),
    hidden: Iterable[str] = ("dev",),
) -> list[Finding]:
    """Packages of options: only those that the settings ask for (`asked`, by the option's name) have to be there."""
    lines, asked, hidden = [], set(asked), set(hidden)
    for need in (need for need in required if need.extra is not None and need.extra not in hidden):
        version, name = found.get(need.name), f"option {need.extra}"
        if version is not None and need.fits(version):
            lines.append(ok(name, f"{need.name} {version}"))
        elif need.extra in asked:
            state = "is not installed" if version is None else f"{version}, and {need.wanted} is needed"
            lines.append(error(name, f"{need.name} {state}, and these settings ask for it", do=need.command()))
        elif version is not None:
            lines.append(warning(name, f"{need.name} {version}, and {need.wanted} is needed", do=need.command()))
        else:
            lines.append(
                ok(name, f"{need.name} is not installed, and these settings do not need it", do=need.command())
            )
    return lines


def look(asked: Iterable[str]) -> list[Finding]:
    """This interpreter and its packages."""
    python, required = needs(Path(__file__).resolve().parents[2])
    found = {need.name: installed(need.name) for need in required}
    free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    version = ".".join(str(part) for part in sys.version_info[:3])
    return [
        *judge_python(version, python, free_threaded=free),
        *judge_packages(required, found),
        *judge_extras(required, found, asked=asked),
    ]


def asked_by(config: Mapping[str, Any]) -> set[str]:
    """Which options of the package the settings need."""
    optim, train = config.get("optim", {}), config.get("train", {})
    asked = {"lowbit"} if "8bit" in str(optim.get("kind")) else set()
    asked |= {"prodigy"} if "prodigy" in str(optim.get("kind")) else set()
    asked |= {"fp8"} if train.get("fp8") else set()
    return asked | ({"remote"} if str(config.get("set", "")).startswith(("s3://", "gs://", "gcs://")) else set())
