"""The model card of a LoRA: Markdown with Hugging Face's front matter, written from its record. Knows records; knows no run.

Every figure comes from a field of the record, as it is there; what is missing is said to be. The template itself holds no digit
outside `FIXED_NAMES` and the strength that is usual.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..text.emphasis import escape, unescape
from .markdown import MISSING, cell, table, words

FIXED_NAMES = ("sha256",)
STRENGTH = "0.8 to 1.0"  # what people use; nothing that was measured

Record = Mapping[str, Any]


def lora_card(record: Record) -> str:
    """README.md of a LoRA.

    Args:
        record: `record.json` of the run, and of the export: `dialects` (name -> file, readers, place, example), `files`, `dtype`.
            Also read are `trigger`, `pictures` (names of files beside the card), `licence`, `base_licence` and `limitations`.
    """
    sections = [
        _front_matter(record),
        f"# {words(record.get('name'))}",
        str(record.get("description") or ""),
        _at_a_glance(record),
        _use(record),
        _pictures(record),
        _prompts(record),
        _training(record),
        _data(record),
        _results(record),
        _licence(record),
        _files(record),
        _provenance(record),
    ]
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def _front_matter(record: Record) -> str:
    base = str(record.get("base") or "")
    concepts = _concepts(record)
    facts: dict[str, Any] = {
        "license": record.get("licence") or "other",
        "library_name": "diffusers" if "diffusers" in (record.get("dialects") or {}) else None,
        "pipeline_tag": "text-to-image",
        "base_model": base if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else None,
        "base_model_relation": "adapter" if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else None,
        "instance_prompt": ", ".join(filter(None, (each.get("trigger") for each in concepts.values()))) or None,
        "tags": ["animeflow", "lora", "text-to-image", "anime", *filter(None, [record.get("family")])],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items() if value is not None]
    return "\n".join(["---", *lines, "---"])


def _concepts(record: Record) -> dict[str, Mapping[str, Any]]:
    """Name -> trigger and class; one without a name where the record only has a trigger."""
    found = (record.get("caption_policy") or {}).get("concepts") or {}
    if found:
        return {name: each for name, each in found.items() if each.get("trigger")} or dict(found)
    return {str(record.get("name") or ""): {"trigger": record["trigger"]}} if record.get("trigger") else {}


def _at_a_glance(record: Record) -> str:
    learn = record.get("learn") or {}
    concepts = _concepts(record)
    rows = {
        "adds to": record.get("base") or learn.get("base"),
        "family": " ".join(str(record[key]) for key in ("family", "flavour") if record.get(key)) or None,
        "trigger": ", ".join(f"`{each['trigger']}`" for each in concepts.values() if each.get("trigger")) or None,
        "class": ", ".join(str(each["class"]) for each in concepts.values() if each.get("class")) or None,
        "kind": learn.get("kind"),
        "rank": learn.get("ranks") or learn.get("rank"),
        "strength": f"{STRENGTH} is usual",
        "resolution (width x height)": record.get("resolution"),
        "author": record.get("author"),
        "date": record.get("date"),
        "files in": record.get("dtype"),
    }
    return table(rows)


def _use(record: Record) -> str:
    dialects: Mapping[str, Any] = record.get("dialects") or {}
    if not dialects:
        return f"## How to use it\n\nFiles: {MISSING}."
    text = ["## How to use it", "\n".join(_lines_of(dialects))]
    if any("ComfyUI" in (each.get("readers") or ()) for each in dialects.values()):
        text.append(
            "In ComfyUI: put the file there, add the node *Load LoRA* (or *LoraLoaderModelOnly*: text encoders are as they were) "
            f"after the model's loader, set a strength of {STRENGTH}, and write the trigger into the prompt."
        )
    for each in dialects.values():
        if each.get("example"):
            base = (record.get("learn") or {}).get("base") or record.get("base") or ""
            base = (
                base if "/" in str(base) else f"PATH_OF_BASE/{base}".rstrip("/")
            )  # a bare name is a folder's, wherever that lies
            text.append(str(each["example"]).replace("{file}", str(each.get("file"))).replace("{base}", str(base)))
    return "\n\n".join(text)


def _lines_of(dialects: Mapping[str, Any]) -> Iterator[str]:
    yield from ("| file | for | place |", "|---|---|---|")
    for each in dialects.values():
        readers = ", ".join(each.get("readers") or []) or MISSING
        yield f"| `{cell(each.get('file'))}` | {cell(readers)} | {cell(each.get('place') or MISSING)} |"


def _pictures(record: Record) -> str:
    found = record.get("pictures") or []
    names = [found] if isinstance(found, str) else list(found)
    if not names:
        return ""
    return "## Before and after\n\n" + "\n\n".join(f"![{cell(name)}]({name})" for name in names)


def _prompts(record: Record) -> str:
    captions = (record.get("data") or {}).get("captions")
    text = ["## Prompts"]
    if record.get("prompts"):
        text.append(
            "Parentheses are escaped, because ComfyUI reads plain ones as emphasis; diffusers takes them literally."
        )
        text.append(_listed(escape(unescape(prompt)) for prompt in record["prompts"]))
    else:
        text.append(f"Example prompts: {MISSING}.")
    if captions:
        text += ["Captions that it was trained on look like this:", _listed(captions)]
    if record.get("sampling"):
        text += ["It was drawn with:", table(record["sampling"])]
    return "\n\n".join(text)


def _listed(lines: Any) -> str:
    return "```\n" + "\n".join(lines) + "\n```"


def _training(record: Record) -> str:
    learn: Mapping[str, Any] = record.get("learn") or {}
    rows = {
        "images seen": record.get("images_seen"),
        "optimizer steps": record.get("steps"),
        "effective batch": record.get("effective_batch"),
        "rank": learn.get("ranks") or learn.get("rank"),
        "alpha": learn.get("alpha"),
        "alpha / rank": learn.get("scale"),
        "learning rate x alpha / rank": _span(learn.get("effective_rate")),
        "layers": learn.get("layers"),
        "targets": learn.get("targets"),
        "parameters that learned": learn.get("parameters"),
        "base kept in": learn.get("base_dtype"),
        "went on from": learn.get("start"),
        "optimizer": record.get("optimizer"),
        "schedule": record.get("schedule"),
        "flow": record.get("flow"),
        "precision": record.get("precision"),
        "average of weights (EMA)": record.get("ema"),
        "text encoders": record.get("text_encoder"),
        "captions": {key: value for key, value in (record.get("caption_policy") or {}).items() if key != "concepts"}
        or None,
        "seed": record.get("seed"),
        "hardware": record.get("hardware"),
        "seconds": record.get("seconds"),
        "device hours": record.get("device_hours"),
    }
    return "## Training details\n\n" + table(rows)


def _span(rates: Any) -> Any:
    """One rate where all layers have the same."""
    return rates[0] if isinstance(rates, Sequence) and len(set(rates)) == 1 else rates


def _data(record: Record) -> str:
    data: Mapping[str, Any] = record.get("data") or {}
    rows = {
        "pictures": data.get("images"),
        "by step": data.get("counts"),
        "by source": data.get("sources"),
        "by origin": data.get("origins"),
        "by rating": data.get("ratings"),
        "by bucket (height x width)": data.get("buckets"),
        "rejected, by reason": data.get("rejected"),
        "licence of the pictures": data.get("licence_note"),
        "manifest hash": data.get("manifest_hash"),
    }
    text = ["## Data", table(rows)]
    cut = {
        encoder: f"{row.get('truncated')} of {row.get('captions')}"
        for encoder, row in (data.get("truncation") or {}).items()
    }
    if cut:
        text.append(f"Captions that lost their end to a text encoder's length: {words(cut)}.")
    return "\n\n".join(text)


def _results(record: Record) -> str:
    results, limits = record.get("results"), [*(record.get("limitations") or []), *(record.get("notes") or [])]
    text = ["## Measured results", table(results) if results else f"Results: {MISSING}.", "## Known limitations"]
    text.append("\n".join(f"- {limit}" for limit in limits) if limits else f"Limitations: {MISSING}.")
    text.append(
        "A LoRA does what it learned on the base that it was trained on; on another one of the same family it may do less, or harm."
    )
    return "\n\n".join(text)


def _licence(record: Record) -> str:
    base = record.get("base") or (record.get("learn") or {}).get("base")
    text = f"This file: {words(record.get('licence'))}. Base ({words(base)}): {words(record.get('base_licence'))}."
    return (
        f"## Licence\n\n{text} Whoever uses or shares this LoRA is bound by the base's licence too, and pictures of a character or "
        "by an artist may have rights of their own."
    )


def _files(record: Record) -> str:
    rows = [f"| `{cell(file['path'])}` | {file['bytes']} | `{file['sha256']}` |" for file in record.get("files") or []]
    return "## Files\n\n" + (
        "\n".join(["| file | bytes | sha256 |", "|---|---|---|", *rows]) if rows else f"Files: {MISSING}."
    )


def _provenance(record: Record) -> str:
    rows = {key: record.get(name) for key, name in (("config hash", "config_hash"), ("versions", "versions"))}
    return (
        "## Provenance\n\n"
        + table(rows)
        + "\n\nWritten by animeflow from `record.json`; no figure here was typed by hand."
    )
