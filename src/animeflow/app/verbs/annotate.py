"""Let taggers, detectors and segmenters say what they see; their scores are kept beside the catalogue and take nothing out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, DataError
from ..build import build
from ..compose import compose
from ..wiring import Workspace, use_threads

log = logging.getLogger(__name__)

SHOWN = 10  # of a queue


def run(overrides: Sequence[str], *, kind: str, dry_run: bool = False) -> None:
    config = compose(overrides)
    place = Workspace.to_write(config)
    use_threads(config["train"]["threads"])
    pictures = list(_pictures(config))
    if not pictures:
        raise DataError("the catalogue is empty", where=str(place.catalogue), do="run 'animeflow catalogue' first")
    if dry_run:
        log.info("would ask a %s about %s pictures", kind, f"{len(pictures):,}")
        return
    verbs: dict[str, Callable[..., None]] = {"tagger": _tag, "detector": _detect, "masks": _mask}
    verbs[kind](config, pictures)


def _pictures(config: dict[str, Any]) -> list[tuple[int, Path]]:
    from ...catalogue.table import Catalogue

    catalogue = Catalogue(Workspace.of(config).catalogue)
    return [(post.uid, catalogue.file(post)) for post in catalogue.iterate()]


def open_tagger(folder: Path | None, name: str | None, *, device: str = "cpu") -> Any:
    """The tagger that lies in a folder, by what it holds. Raises ConfigError where it holds none."""
    if folder is None or not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder}" if folder else "no tagger is named",
            where="annotate.tagger.path",
            do="give a folder with model.onnx, or config.json and model.safetensors, and its labels",
        )
    if (folder / "model.onnx").is_file():
        from ...annotate.onnx_tagger import OnnxTagger

        return OnnxTagger(folder, name=name)
    if (folder / "config.json").is_file():
        from ...annotate.torch_tagger import TorchTagger

        return TorchTagger(folder, name=name, device=device)
    raise ConfigError(
        "neither model.onnx nor config.json is in it",
        where=f"annotate.tagger.path={folder}",
        do="give a tagger's folder",
    )


def _tag(config: dict[str, Any], pictures: list[tuple[int, Path]]) -> None:
    from ...annotate.scoring import score_all

    node, place = config["annotate"]["tagger"], Workspace.of(config)
    tagger = open_tagger(Path(node["path"]) if node["path"] else None, node["name"], device=config["train"]["device"])
    words = [label.word for label in tagger.labels]

    def say(batch: Sequence[Any]) -> list[dict[str, float]]:
        rows = tagger.scores(batch)
        # The best label stays whatever its score, so that a picture of which nothing is sure is known to have been asked about.
        return [
            {words[i]: float(row[i]) for i in range(len(words)) if row[i] >= node["keep"] or i == row.argmax()}
            for row in rows
        ]

    version = f"{tagger.version}, {node['keep']:g} and above"  # with a lower bound it has more to say of every picture
    found = score_all(
        place.catalogue, pictures, say, tool=tagger.name, version=version, batch=node["batch"], limits=_limits(config)
    )
    log.info("%s, version %s, %d labels: %s", tagger.name, tagger.version, len(words), _account(found))


def _detect(config: dict[str, Any], pictures: list[tuple[int, Path]]) -> None:
    from ...annotate.detector import Budget, queue, train_detector
    from ...annotate.scoring import read_scores, score_all
    from ...catalogue.reading import read_file
    from ...image.decode import decode

    node, place = dict(config["annotate"]["detector"]), Workspace.of(config)
    by, files = node.pop("queue"), dict(pictures)
    budget = build(Budget, node, where="annotate.detector")
    labels, limits = _labels(config), _limits(config)
    detector, quality = train_detector(
        labels, lambda uid: decode(read_file(files[uid]), limits=limits).pixels, budget=budget, seed=config["seed"]
    )
    version = detector.save(place.set / "detector", quality)
    told = f"{quality.positives} machine-made and {quality.negatives} other pictures that it did not learn from"
    log.info("detector, version %s: area under the curve %.3f on %s", version, quality.auc, told)
    found = score_all(place.catalogue, pictures, detector.say, tool="detector", version=version, limits=limits)
    log.info("%s; its scores order a queue and take nothing out", _account(found))
    scores = {uid: row["ai"] for uid, row in read_scores(place.catalogue, "detector").items() if uid not in labels}
    for uid in queue(scores, by=by)[:SHOWN]:
        log.info("  look at %s: %.2f", files[uid], scores[uid])


def _labels(config: dict[str, Any]) -> dict[int, bool]:
    """uid -> machine-made or not, of pictures whose origin people stated or signs tell. Unknown ones teach nothing."""
    import numpy as np

    from ...catalogue.post import ORIGINS
    from ..curation import selection

    chosen = selection(config)
    names = np.array(ORIGINS)[chosen.origins]
    made = {"ai": True, "human": False, "drawn_by_program": False}
    return {int(uid): made[name] for uid, name in zip(chosen.all_uids, names.tolist(), strict=True) if name in made}


def _mask(config: dict[str, Any], pictures: list[tuple[int, Path]]) -> None:
    from ...annotate.masks import OnnxSegmenter, write_masks

    node = config["annotate"]["masks"]
    if not node["path"] or not (Path(node["path"]) / "model.onnx").is_file():
        raise ConfigError(
            "no segmenter is named" if not node["path"] else f"there is no model.onnx in {node['path']}",
            where="annotate.masks.path",
            do="give a folder with model.onnx, which makes one plane of how much each pixel counts",
        )
    segmenter = OnnxSegmenter(Path(node["path"]), name=node["name"])
    found = write_masks(
        Workspace.of(config).catalogue, pictures, segmenter, tool=segmenter.name, version=segmenter.version,
        limits=_limits(config),
    )  # fmt: skip
    told = "".join(f"; {reason} {count:,}" for reason, count in found.refused.items())
    log.info(
        "%s: %s masks written, %s pictures had one%s", segmenter.name, f"{found.written:,}", f"{found.there:,}", told
    )


def _limits(config: dict[str, Any]) -> Any:
    """Those under which the pictures were catalogued."""
    from ...image.picture import Limits

    return build(Limits, config["catalogue"]["limits"], where="catalogue.limits")


def _account(found: Any) -> str:
    refused = "".join(f"; {reason} {count:,}" for reason, count in found.refused.items())
    return f"{found.asked:,} pictures asked about, {found.known:,} known{refused}"
