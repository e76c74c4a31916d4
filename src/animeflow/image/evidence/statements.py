"""What files declare by a standard: C2PA manifests, IPTC's source type in XMP, TC260's label. Knows no container.

C2PA's statements are read, not verified: a signature says who signed, and no list of the trusted ships with this program.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from . import words
from .sign import Sign

MADE = {
    "trainedAlgorithmicMedia": ("certain", "ai"),
    "compositeWithTrainedAlgorithmicMedia": ("declared", "ai_assisted"),
}
# IPTC's word for algorithms without training data; early generators said it of themselves.
XMP_MADE = MADE | {"algorithmicMedia": ("declared", "ai")}
# What follows the name of the property, as an attribute, an element or a resource; the last word of the address.
XMP_TYPE = re.compile(
    r"(?:\s*=\s*[\"']|\s+rdf:resource\s*=\s*[\"']|[^<>]{0,60}>\s*(?:<[^<>]{0,60}>\s*){0,3})\s*(?:[^\"'<>]{0,120}/)?([A-Za-z]{1,48})"
)
# Agents that name a generator, and names that only say whose tool it was.
AGENTS = ("Adobe Firefly", "GPT-4o", "ChatGPT", "DALL-E", "DALL\u00b7E", "Imagen")
OWNERS = ("OpenAI", "Google")
LABELS = {"1": ("certain", "ai"), "2": ("declared", "ai"), "3": ("declared", "ai")}
LABEL = re.compile(r"[\"']?Label[\"']?\s{0,4}:\s{0,4}[\"']?([123])\b")
PRODUCER = re.compile(r"[\"']ContentProducer[\"']\s{0,4}:\s{0,4}[\"']([^\"']{1,80})")
MAX_PACKET = 4 * 1024 * 1024
MAX_HITS = 32  # windows that are looked into per word: a hostile packet may repeat it a million times


def c2pa(blob: bytes) -> list[Sign]:
    """Signs in a manifest store. A manifest alone says nothing: cameras and painting programs write them too."""
    if b"jumb" not in blob or b"c2pa" not in blob:
        return []
    # CBOR's text has no end mark: the next field's length may be a letter, so words cannot be told apart by what follows
    types = [name for name in MADE if f"/{name}".encode() in blob]
    agents = [_text(blob[at : at + 96]) for at in _places(blob, b"softwareAgent")]
    agent = next((name for name in AGENTS if any(name in text for text in agents)), "")
    tool = agent or next((name for name in OWNERS if name.encode() in blob), "")
    tool = tool.replace("\u00b7", "-")
    found = [Sign(*MADE[name], "c2pa", tool, f"digitalSourceType {name}") for name in types]
    if not found and agent:
        return [Sign("declared", "ai", "c2pa", tool, f"softwareAgent {tool}")]
    return found


def xmp(packet: bytes) -> list[Sign]:
    """Signs in an XMP packet: the source type as attribute or element, TC260's label, a generator's UserComment."""
    text = _text(packet[:MAX_PACKET])
    found = [
        Sign(*XMP_MADE[match[1]], "xmp", "", f"DigitalSourceType {match[1]}")
        for window in _windows(text, "DigitalSourceType", 240)
        if (match := XMP_TYPE.match(window)) and match[1] in XMP_MADE
    ]
    if "www.tc260.org.cn" in text:
        found += [sign for window in _windows(text, "AIGC", 4096) for sign in label(window)]
    comments = (
        html.unescape(window[window.find("{") :]) for window in _windows(text, "UserComment", 1 << 16) if "{" in window
    )
    return found + words.signs("xmp", (("usercomment", _object(comment)) for comment in comments))


def label(text: str) -> list[Sign]:
    """TC260's label in JSON: 1 generated, 2 possibly, 3 suspected."""
    start = text.find("{")
    if start < 0:
        return []
    text = html.unescape(text[start : start + 4096])
    match = LABEL.search(text)
    if match is None:
        return []
    producer = PRODUCER.search(text)
    by = f", produced by {words.detail(producer[1])}" if producer else ""
    return [Sign(*LABELS[match[1]], "tc260", "", f"Label {match[1]}{by}")]


def _object(text: str) -> str:
    """A text cut after the brace that closes its first one; the rest of the packet may follow it."""
    depth, quoted, escaped = 0, False, False
    for at, c in enumerate(text):
        if quoted:
            quoted, escaped = escaped or c != '"', c == "\\" and not escaped
        elif c == '"':
            quoted = True
        elif c in "{}":
            depth += 1 if c == "{" else -1
            if depth == 0:
                return text[: at + 1]
    return text


def _text(data: bytes) -> str:
    """ASCII words can be found in UTF-8, and in UTF-16 and UTF-32 without their zeros."""
    return data.replace(b"\0", b"").decode("utf-8", "replace")


def _places(data: bytes, word: bytes) -> Iterator[int]:
    at = -1
    for _ in range(MAX_HITS):
        at = data.find(word, at + 1)
        if at < 0:
            return
        yield at + len(word)


def _windows(text: str, word: str, length: int) -> Iterator[str]:
    """What follows a word, but not where it closes an element: what comes then is another property's."""
    at = -1
    for _ in range(MAX_HITS):
        at = text.find(word, at + 1)
        if at < 0:
            return
        before = text[max(0, at - 40) : at]
        if before[before.rfind("<") :].startswith("</"):
            continue
        if window := text[at + len(word) : at + len(word) + length]:
            yield window
