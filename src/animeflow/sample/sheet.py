"""Contact sheets: pictures in rows and columns with words around them. Knows pixels and strings; knows no sample and no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..core.errors import ConfigError

PAPER, INK, FAINT = (250, 249, 247), (38, 38, 42), (120, 120, 128)
MARGIN, GAP, LINE = 16, 8, 17

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    cell_labels: Sequence[Sequence[str]] = (),
    title: str = "",
    cell: int = 192,
    font: str | Path | None = None,
) -> np.ndarray:
    """One picture of all: a row per prompt, a column per seed or step.

    Args:
        rows: uint8 RGB `[H, W, 3]` of any sizes, fitted into square cells; None leaves a cell empty. Rows may differ in length.
        row_labels: written left of each row, wrapped; prompts.
        column_labels: written above each column; seeds, or images seen.
        cell_labels: written below each picture, two lines at most; names. As many as the pictures of their row.
        cell: side of a cell in pixels.
        font: a font file, for labels in scripts that Pillow's own font lacks (Japanese, Chinese, ...).

    Returns uint8 RGB. Raises ConfigError when there is nothing to show or labels and pictures disagree.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise ConfigError("no pictures for a contact sheet", where="sample", do="give at least one prompt and one seed")
    _same_count("row", row_labels, len(rows))
    _same_count("column", column_labels, columns)
    _same_count("cell", [label for row in cell_labels for label in row], sum(map(len, rows)))
    small, large = _font(font, 13), _font(font, 18)
    left = MARGIN + (int(cell * 1.1) + GAP if row_labels else 0)
    top = MARGIN + (30 if title else 0) + (22 if column_labels else 0)
    tall = cell + (2 * LINE if cell_labels else 0) + GAP
    width = left + columns * (cell + GAP) - GAP + MARGIN
    height = top + len(rows) * tall - GAP + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((MARGIN, MARGIN - 2), title, INK, large)
    for j, label in enumerate(column_labels):
        draw.text((left + j * (cell + GAP) + cell // 2, top - 20), label, FAINT, small, anchor="ma")
    for i, row in enumerate(rows):
        y = top + i * tall
        if row_labels:
            _paragraph(draw, (MARGIN, y), row_labels[i], small, width=left - MARGIN - GAP, height=cell)
        for j, pixels in enumerate(row):
            if pixels is not None:
                picture = _fitted(pixels, cell)
                x = left + j * (cell + GAP)
                sheet.paste(picture, (x + (cell - picture.width) // 2, y + (cell - picture.height) // 2))
            if cell_labels:
                at = left + j * (cell + GAP), y + cell + 2
                _paragraph(draw, at, cell_labels[i][j], small, width=cell, height=2 * LINE)
    return np.asarray(sheet)


def _same_count(kind: str, labels: Sequence[str], count: int) -> None:
    if labels and len(labels) != count:
        raise ConfigError(
            f"{len(labels)} {kind} labels for {count} {kind}s", where="contact sheet", do="give one each, or none"
        )


def _font(path: str | Path | None, size: int) -> Font:
    return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)


def _fitted(pixels: np.ndarray, cell: int) -> Image.Image:
    """The picture as large as the cell allows; small ones are enlarged by whole pixels, so that they show what they are."""
    picture = Image.fromarray(pixels)
    scale = cell / max(picture.size)
    if scale >= 2:
        return picture.resize((picture.width * int(scale), picture.height * int(scale)), Image.Resampling.NEAREST)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _paragraph(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, font: Font, *, width: int, height: int
) -> None:
    """Text wrapped to `width` pixels and cut, with an ellipsis, at `height`."""
    lines = _wrapped(text, lambda line: draw.textlength(line, font) <= width)
    room = max(1, height // LINE)
    if len(lines) > room:
        lines = [*lines[: room - 1], lines[room - 1][:-1] + "…"]
    for k, line in enumerate(lines):
        draw.text((at[0], at[1] + k * LINE), line, INK, font)


def _wrapped(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Lines that fit, broken between words, and inside a word (or a sentence without spaces) only where it is too long."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if fits(joined):
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return lines
