"""The words that generators leave: keys and texts to the Signs they are. Knows programs; knows no file format.

A sign names a tool only from this page's own list: nothing that a file says about itself gets into a table of names.
AUTOMATIC1111's format is written by many programs; the tool is then the format's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from .sign import Sign

MAX_JSON = 1 << 20  # characters; longer texts are judged by the words they begin with
STEPS = re.compile(r"\bSteps: \d{1,6}, (?:Sampler|Seed|Schedule type|CFG scale): ")
NEGATIVE = "\nNegative prompt: "
DREAM = re.compile(r" -S ?\d")
JSON_KEYS = frozenset({"invokeai_metadata", "invokeai_workflow", "invokeai_graph", "sd-metadata"})
# Under these keys a generator writes; its weaker words count here and nowhere else.
OWN_KEYS = frozenset({"parameters", "usercomment", "comment", "extras", "postprocessing", "stealth"})


def signs(kind: str, pairs: Iterable[tuple[str, str]]) -> list[Sign]:
    """Signs in (key, text) pairs of one kind of place. Keys are lower case."""
    found = [sign for key, text in pairs if (sign := _sign(kind, key, text)) is not None]
    certain = {sign.says for sign in found if sign.grade == "certain"}
    return [sign for sign in found if sign.grade == "certain" or sign.says not in certain]


def detail(text: str) -> str:
    """The beginning of a text, on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:400]).split())[:120]


def _sign(kind: str, key: str, text: str) -> Sign | None:
    tool = _by_key(key, text)
    if tool is None:
        tool = _by_text(key, text)
    if tool is not None:
        return Sign("certain", "ai", kind, tool, detail(f"{key}: {text}"))
    if key == "title" and text.strip() == "AI generated image":
        return Sign("declared", "ai", kind, "", detail(f"{key}: {text}"))
    if key in ("extras", "postprocessing") and "Postprocess upscale" in text:
        return Sign("declared", "ai_assisted", kind, "AUTOMATIC1111", detail(f"{key}: {text}"))
    return None


def _by_key(key: str, text: str) -> str | None:
    """The tool whose key this is, with the least that its text must be."""
    begins_json = text.lstrip()[:1] == "{"
    if key == "animeflow" and begins_json:
        return "animeflow"
    if key == "fooocus_scheme" and text.strip().lower() in ("fooocus", "a1111"):
        return "Fooocus"
    if (key in JSON_KEYS and begins_json) or (key == "dream" and DREAM.search(text[:MAX_JSON])):
        return "InvokeAI"
    if (key == "software" and text.strip() == "NovelAI") or (
        key == "title" and text.strip() == "NovelAI generated image"
    ):
        return "NovelAI"
    if key == "source" and text.startswith(("NovelAI Diffusion", "Stable Diffusion")):
        return "NovelAI"
    if key in ("negative_prompt", "negative prompt"):
        return "EasyDiffusion"
    if (key == "software" and text.startswith("AI generated")) or (key == "make" and text == "Black Forest Labs"):
        return "Black Forest Labs"
    return None


def _by_text(key: str, text: str) -> str | None:
    """The tool whose format this is, whatever the key."""
    head = text[:MAX_JSON]
    if STEPS.search(head) or (key in OWN_KEYS and NEGATIVE in head):
        return _web_interface(head)
    for prefix in ("prompt:", "workflow:", "Prompt:", "Workflow:"):
        head = head.removeprefix(prefix)
    if head.lstrip()[:1] != "{":
        return None
    if "sui_image_params" in head:
        return "SwarmUI"
    if '"class_type"' in head and '"inputs"' in head:
        return "ComfyUI"
    if '"nodes"' in head and ('"last_node_id"' in head or '"links"' in head):
        return "ComfyUI"
    facts = json_object(head) if len(text) <= MAX_JSON else None
    return None if facts is None else _by_facts(key, facts)


def _web_interface(text: str) -> str:
    if "App: SD.Next" in text:
        return "SD.Next"
    if "Version: Fooocus" in text:
        return "Fooocus"
    return "Forge" if re.search(r"Version: (?:f\d|forge|neo)", text) else "AUTOMATIC1111"


def _by_facts(key: str, facts: dict[str, Any]) -> str | None:
    """The tool by the names in its JSON."""
    has = facts.keys()
    if "metadata_scheme" in has or "adm_guidance" in has or "Fooocus V2 Expansion" in has:
        return "Fooocus"
    if "signed_hash" in has or {"uc", "sampler", "steps", "scale"} <= has or facts.get("Software") == "NovelAI":
        return "NovelAI"
    if {"c", "uc"} <= has:
        return "Draw Things"
    if {"generation_mode", "positive_prompt"} <= has or str(facts.get("app_id", "")).startswith("invoke-ai"):
        return "InvokeAI"
    if "negative_prompt" in has and ("num_inference_steps" in has or "use_stable_diffusion_model" in has):
        return "EasyDiffusion"
    if key in OWN_KEYS and "prompt" in has and "seed" in has and ("steps" in has or "sampler" in has):
        return ""  # a generator's facts in nobody's known shape
    return None


def json_object(text: str) -> dict[str, Any] | None:
    """The object that a text is, None for anything else."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None
