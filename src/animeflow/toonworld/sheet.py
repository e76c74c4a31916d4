"""Contact sheets: many pictures on one, with labels. Knows pixels; the command draws the README's picture from toonworld."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def contact_sheet(
    pictures: Sequence[Pixels],
    columns: int,
    labels: Sequence[str] | None = None,
    *,
    gap: int = 4,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Pixels:
    """Pictures [H, W, 3] row by row in cells as large as the largest, each centred, its label below it."""
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    height, width = max(p.shape[0] for p in pictures), max(p.shape[1] for p in pictures)
    foot = 0 if labels is None else 16
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    size = (rows * (height + foot + gap) + gap, columns * (width + gap) + gap, 3)
    sheet: Pixels = np.full(size, background, np.uint8)
    for k, picture in enumerate(pictures):
        y = gap + (k // columns) * (height + foot + gap)
        x = gap + (k % columns) * (width + gap)
        h, w = picture.shape[:2]
        top, left = y + (height - h) // 2, x + (width - w) // 2
        sheet[top : top + h, left : left + w] = picture[..., :3]
        if labels is not None:
            _label(sheet, labels[k], x, y + height + 12, width)
    return sheet


def _label(sheet: Pixels, text: str, x: int, baseline: int, width: int) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.38
    while text and cv2.getTextSize(text, font, scale, 1)[0][0] > width:
        text = text[:-1]
    ink = (0, 0, 0) if int(sheet[0, 0].sum()) > 380 else (255, 255, 255)
    cv2.putText(sheet, text, (x, baseline), font, scale, ink, 1, cv2.LINE_AA)


def main(path: str = "docs/images/toonworld.png") -> None:
    """Draw the README's picture: 8 x 3 scenes that show every place, light and artist."""
    from pathlib import Path

    from animeflow.core.files import write_bytes
    from animeflow.toonworld.dataset import encode_png
    from animeflow.toonworld.draw import draw
    from animeflow.toonworld.show import showcase

    pictures = [draw(scene, 148, 148, layers=False).pixels for scene in showcase(24)]
    write_bytes(Path(path), encode_png(contact_sheet(pictures, 8), compression=9))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:2])
