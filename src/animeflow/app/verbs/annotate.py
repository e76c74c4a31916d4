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
    tagger = open_tagger(Path(node["path"]) if node["path"] else None, node["name"], device=_device(config))
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
    from ...annotate.detector import Budget, train_detector
    from ...annotate.scoring import score_all
    from ...catalogue.reading import read_file
    from ...image.decode import decode

    node, place = dict(config["annotate"]["detector"]), Workspace.of(config)
    by, files = node.pop("queue"), dict(pictures)
    if (encoder := node.pop("encoder"))["path"]:
        _detect_on_vectors(config, encoder, pictures, by=by, test_share=node["test_share"])
        return
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
    _show_queue(place.catalogue, "detector", files, labels, by=by)


def _detect_on_vectors(
    config: dict[str, Any], settings: dict[str, Any], pictures: list[tuple[int, Path]], *, by: str, test_share: float
) -> None:
    """The same with a head on vectors of an encoder, which are kept: another label costs seconds, and decodes nothing."""
    from ...annotate.embeddings import embed_all, vectors, vectors_of
    from ...annotate.encoder import open_encoder
    from ...annotate.head import HeadBudget, train_head, write_scores

    node, place, labels = dict(settings), Workspace.of(config), _labels(config)
    train, (path, name, pieces, batch) = config["train"], (node.pop(key) for key in ("path", "name", "pieces", "batch"))
    budget = build(HeadBudget, {**node, "test_share": test_share}, where="annotate.detector.encoder")
    encoder = open_encoder(Path(path), name, pieces=pieces, device=_device(config), threads=train["threads"] or 1)
    found = embed_all(place.catalogue, pictures, encoder, batch=batch, limits=_limits(config))
    log.info("%s, version %s: %s", encoder.name, encoder.version, _account(found))
    head, quality = train_head(
        labels, vectors_of(place.catalogue, encoder.name, labels), budget=budget, seed=config["seed"]
    )
    tool = f"detector-{encoder.name}"
    version = head.save(place.set / tool, quality, encoder=encoder.version)
    told = f"{quality.positives} machine-made and {quality.negatives} other pictures that it did not learn from"
    log.info("%s, version %s: area under the curve %.3f on %s", tool, version, quality.auc, told)
    count = write_scores(place.catalogue, vectors(place.catalogue, encoder.name), head, tool=tool, version=version)
    log.info("%s pictures scored; scores order a queue and take nothing out", f"{count:,}")
    _show_queue(place.catalogue, tool, dict(pictures), labels, by=by)


def _show_queue(folder: Path, tool: str, files: dict[int, Path], labels: dict[int, bool], *, by: str) -> None:
    """The pictures that a person should look at next: none of those that are labelled, or are no longer in the catalogue."""
    from ...annotate.detector import queue
    from ...annotate.scoring import read_scores

    told = read_scores(folder, tool).items()
    scores = {uid: row["ai"] for uid, row in told if uid not in labels and uid in files}
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


def _device(config: dict[str, Any]) -> str:
    """`train.device`, where `auto` is the GPU if there is one."""
    import torch

    name = str(config["train"]["device"])
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _limits(config: dict[str, Any]) -> Any:
    """Those under which the pictures were catalogued."""
    from ...image.picture import Limits

    return build(Limits, config["catalogue"]["limits"], where="catalogue.limits")


def _account(found: Any) -> str:
    refused = "".join(f"; {reason} {count:,}" for reason, count in found.refused.items())
    return f"{found.asked:,} pictures asked about, {found.known:,} known{refused}"
