"""Folders that waifuc saved: NAME.ext and a hidden `.NAME_meta.json` beside it. Knows its keys; decodes nothing.

waifuc writes what is no plain JSON as a pickle in base64. A pickle runs whatever its maker wanted when it is opened, so a sidecar
with one is refused as a whole (`pickled_sidecar`); plain ones are read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...text.tags import split_tags
from ..candidate import Candidate, Facts
from ..index import Texts
from ..walk import files_in, is_picture, not_a_picture
from .booru import read_post
from .dump import is_pickled
from .fields import plain
from .sidecar import read_tags, tell_origin
from .sites import FAMILIES, post_at

END = "_meta.json"


class WaifucSource:
    """Pictures with waifuc's sidecars below `root`.

    Args:
        root: the folder.
        name: how its posts are marked.
        min_score: tags with a lower score are left out, where no site's own tags are there; scores come from a tagger.
    """

    def __init__(self, root: Path, *, name: str = "waifuc", min_score: float = 0.35) -> None:
        self.root, self.name, self.min_score = Path(root), name, min_score

    def __iter__(self) -> Iterator[Candidate]:
        described = Texts()
        folders: set[Path] = {self.root}
        for file in files_in(self.root):
            folders.add(file.parent)
            if is_picture(file):
                sidecar = file.with_name(f".{file.stem}{END}")
                described.add(str(sidecar))
                yield self._candidate(file, sidecar)
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))
        for sidecar in sorted(path for folder in folders for path in folder.glob(f".*{END}")):
            if str(sidecar) not in described:
                name = sidecar.name.removesuffix(END).removeprefix(".")
                yield Candidate(
                    sidecar.with_name(name), reason="missing_picture", detail=f"only {sidecar.name} is here"
                )

    def _candidate(self, picture: Path, sidecar: Path) -> Candidate:
        if not os.path.isfile(sidecar):  # a Path raises for a name that is too long
            return Candidate(picture, reason="missing_metadata", detail=f"no {sidecar.name} beside it")
        try:
            record = json.loads(sidecar.read_text(encoding="utf-8-sig"))
        except (ValueError, OSError, RecursionError) as error:
            return Candidate(picture, reason="bad_sidecar", detail=f"{sidecar.name}: {str(error)[:120]}")
        if not isinstance(record, dict):
            return Candidate(picture, reason="bad_sidecar", detail=f"{sidecar.name} is not an object")
        if is_pickled(record):
            detail = f"{sidecar.name} holds a pickle, which is never opened"
            return Candidate(picture, reason="pickled_sidecar", detail=detail)
        return Candidate(picture, self._facts(record))

    def _facts(self, record: Mapping[str, Any]) -> Facts:
        """The site's own object where there is one, else the tags with their scores."""
        for site in FAMILIES:
            if isinstance(record.get(site), Mapping):
                return read_post(record[site], site)
        facts, scores = Facts(), record.get("tags")
        if isinstance(scores, Mapping):
            kept = [str(tag) for tag, score in scores.items() if _at_least(score, self.min_score)]
            read_tags(split_tags([plain(tag) or "" for tag in kept]), facts)
            facts.surfaces = tuple(split_tags([plain(str(tag)) or "" for tag in scores]))
        elif isinstance(scores, list):
            read_tags(split_tags([plain(tag) or "" for tag in scores]), facts)
        if isinstance(record.get("url"), str):
            facts.url = plain(record["url"])
            facts.site, facts.source_id = post_at(record["url"]) or (None, None)
        tell_origin(facts)
        return facts


def _at_least(score: Any, limit: float) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and score >= limit
