"""What became of planted pictures: from the catalogue, its groups and the query's choice to a Screening."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .wiring import Config, Workspace


def planted_account(config: Config, chosen: Any) -> dict[str, Any] | None:
    """A Screening as JSON with the folder and some files of each kind; None where nothing was planted.

    Args:
        chosen: the Selection.
    """
    from ..catalogue.table import Catalogue
    from ..evaluate.screening import Fate, screened
    from ..toonworld.planted import read_planted

    folder = Path(config["toonworld"]["folder"]).resolve()
    plants = list(read_planted(folder))
    if not plants:
        return None
    catalogue = Catalogue(Workspace.of(config).catalogue)
    steps = {int(uid): chosen.steps[step] for uid, step in zip(chosen.all_uids, chosen.step_of, strict=True)}
    groups = {kind: _group_of(table) for kind, table in chosen.groups.items()}
    fates = {}
    for post in catalogue.iterate():
        step = steps[post.uid]
        tied = (groups.get("duplicate", {}).get(post.uid), groups.get("variant", {}).get(post.uid))
        fates[_name(catalogue.file(post), folder)] = Fate(step.action == "keep", step.name, *tied)
    for rejection in catalogue.rejections:
        fates[_name(catalogue.root / rejection.path, folder)] = Fate(False, rejection.reason)
    account = screened(plants, fates)
    shown: dict[str, list[str]] = {}
    for line in plants:
        shown.setdefault(line["planted"]["kind"], []).append(line["file"])
    return account.as_dict() | {"folder": str(folder), "shown": {kind: files[:6] for kind, files in shown.items()}}


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def _group_of(table: Any) -> dict[int, int]:
    """uid -> group, the group's own picture among its members."""
    members = dict(zip(table["uid"].to_pylist(), table[table.column_names[1]].to_pylist(), strict=True))
    return members | {group: group for group in members.values()}
