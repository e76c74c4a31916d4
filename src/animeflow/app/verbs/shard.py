"""Cut the catalogue's pictures into buckets and write shards."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...core.errors import DataError
from ..build import build
from ..compose import compose
from ..wiring import Workspace, bucket_plan

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    cut(compose(overrides), dry_run=dry_run)


def cut(config: dict[str, Any], *, dry_run: bool = False) -> Any:
    """The manifest of what was written."""
    from ...catalogue.table import Catalogue
    from ...data.shard import write_shards

    place, plan = Workspace.of(config), bucket_plan(config)
    catalogue = Catalogue(place.catalogue)
    if not len(catalogue):
        raise DataError("the catalogue is empty", where=str(place.catalogue), do="run 'animeflow catalogue' first")
    if dry_run:
        _tell(Counter(str(plan.assign(post.height, post.width)) for post in catalogue.posts()))
        return None
    manifest = build(
        write_shards,
        config["data"]["shard"],
        where="data.shard",
        posts=catalogue.posts(),
        plan=plan,
        out=place.shards,
        root=catalogue.root,
    )
    _tell({name: facts["samples"] for name, facts in manifest.buckets.items()})
    reasons = Counter(rejection.reason for rejection in manifest.rejected)
    log.info(
        "%s in = %s written + %s rejected %s",
        *map("{:,}".format, (manifest.found, manifest.written, len(manifest.rejected))),
        dict(reasons) or "",
    )
    return manifest


def _tell(buckets: dict[str, int] | Counter[str]) -> None:
    for name, count in sorted(buckets.items(), key=lambda item: -item[1]):
        log.info("bucket %-10s %9s pictures", name, f"{count:,}")
