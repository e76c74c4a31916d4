"""Cut the catalogue's pictures into buckets and write shards."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...core.errors import DataError
from ..build import build
from ..compose import compose
from ..curation import requirements, selection
from ..machine_tags import with_machine_tags
from ..wiring import Workspace, bucket_plan, engine

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    cut(compose(overrides), dry_run=dry_run)


def cut(config: dict[str, Any], *, dry_run: bool = False) -> Any:
    """The manifest of what was written."""
    from ...catalogue.table import Catalogue
    from ...curate.statement import insist, statement_of
    from ...data.shard import write_shards
    from ...image.picture import Limits
    from ...model import registry

    place, plan = Workspace.to_write(config), bucket_plan(config)
    catalogue = Catalogue(place.catalogue)
    if not len(catalogue):
        raise DataError("the catalogue is empty", where=str(place.catalogue), do="run 'animeflow catalogue' first")
    chosen = selection(config)
    required = requirements(config)
    known = statement_of(chosen, require=required.of_shards)
    insist(known)
    if required.origin and (unknown := known.origins.get("unknown", 0)):
        told = f"{unknown:,} of {len(chosen):,} pictures are of unknown origin"
        log.info("%s: nobody says that people drew them, and 'animeflow certify' insists on it", told)
    posts = _named(config, list(chosen.posts(val_share=config["catalogue"]["val_share"])))
    posts = with_machine_tags(config, posts, keep_list=not dry_run)
    if not chosen.is_trivial:
        log.info("query %s: %s", chosen.query.name, _chosen(chosen))
    if dry_run:
        return _foresee(config, posts, plan)
    manifest = build(
        write_shards,
        config["data"]["shard"],
        where="data.shard",
        posts=posts,
        plan=plan,
        out=place.shards,
        root=catalogue.root,
        cell=registry.cell(config["model"]["family"]),
        engine=engine(config, workers=config["data"]["shard"].get("workers", 0)),
        limits=build(Limits, config["catalogue"]["limits"], where="catalogue.limits"),
        config=_recorded(config) | ({} if chosen.is_trivial else {"curate": chosen.recorded()}) | _merged(config),
    )
    _tell({name: facts["samples"] for name, facts in manifest.buckets.items()})
    if len(scales := config["data"]["shard"].get("scales", [1.0])) > 1:
        log.info("every picture counts once for each of %d scales", len(scales))
    log.info("%s", _account(manifest.found, manifest.written, manifest.rejected, "written"))
    if masks := manifest.masks:
        log.info(
            "masks: %s beside pictures, %s by transparency, %s without", masks["sidecar"], masks["alpha"], masks["none"]
        )
        for path in masks["empty"]:
            log.warning("the mask of %s shows nothing of the picture, so all of it counts", path)
    return manifest


def _named(config: dict[str, Any], posts: list[Any]) -> list[Any]:
    """Without those of concepts that the config no longer names: a catalogue keeps what it took."""
    source = config["catalogue"]["source"]
    if source["kind"] != "concepts" or not source["concepts"]:
        return posts
    named = [post for post in posts if post.source in source["concepts"]]
    if len(named) < len(posts):
        others = sorted({post.source for post in posts} - {*source["concepts"]})
        log.info(
            "%s pictures of %s are left out: no concept is called so now", len(posts) - len(named), ", ".join(others)
        )
    return named


def _foresee(config: dict[str, Any], posts: list[Any], plan: Any) -> None:
    """Say what would be written, as far as sizes tell: no picture is opened."""
    from ...data.assign import select
    from ...data.scales import at_scales
    from ...model import registry

    options = ("max_upscale", "min_side", "max_crop")
    posts = list(at_scales(posts, config["data"]["shard"].get("scales", [1.0])))
    node = {key: value for key, value in config["data"]["shard"].items() if key in options}
    cell = registry.cell(config["model"]["family"])
    kept, rejected = build(select, node, where="data.shard", posts=posts, plan=plan, cell=cell)
    _tell({str(bucket): len(part) for bucket, part in kept.items()})
    log.info("%s", _account(len(posts), len(posts) - len(rejected), rejected, "that would be decoded and written"))


def _chosen(chosen: Any) -> str:
    left_out = ", ".join(f"{name} {fates['dropped']:,}" for name, fates in chosen.counts.items() if fates["dropped"])
    listed = f" ({left_out})" if left_out else ""
    return f"{chosen.total:,} pictures = {len(chosen):,} in + {chosen.total - len(chosen):,} out{listed}"


def _recorded(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that made the shards, for their manifest: none that names a place, none that changes no byte."""
    node, without = config["data"]["shard"], {"scales": [1.0], "masks": "off"}
    shard = {key: value for key, value in node.items() if key != "workers" and value != without.get(key, ...)}
    limits = config["catalogue"]["limits"]
    return {"data": {"shard": shard, "bucket": config["data"]["bucket"]}, "catalogue": {"limits": limits}}


def _merged(config: dict[str, Any]) -> dict[str, Any]:
    """Which taggers filled what, by the versions that spoke."""
    from ...annotate.scoring import version_of_scores

    node = config["annotate"]["merge"]
    folder = Workspace.of(config).catalogue
    return (
        {"annotate": {**node, "use": {name: version_of_scores(folder, name) for name in node["use"]}}}
        if node["use"]
        else {}
    )


def _account(found: int, written: int, rejected: Sequence[Any], fate: str) -> str:
    reasons = Counter(rejection.reason for rejection in rejected)
    listed = f" ({', '.join(f'{name} {n:,}' for name, n in reasons.most_common())})" if reasons else ""
    return f"{found:,} in = {written:,} {fate} + {len(rejected):,} rejected{listed}"


def _tell(buckets: dict[str, int]) -> None:
    for name, count in sorted(buckets.items(), key=lambda item: (-item[1], item[0])):
        log.info("bucket %-10s %9s pictures", name, f"{count:,}")
