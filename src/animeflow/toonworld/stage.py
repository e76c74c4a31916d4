"""The frame a background is painted on: its units, light, sky, lamp and clouds. Knows no place."""

from __future__ import annotations

from animeflow.toonworld.brush import Brush
from animeflow.toonworld.curve import Points, ellipse, polygon
from animeflow.toonworld.palette import Color, Light


class Stage:
    """The frame in units of its shorter side: x from 0 to `width`, y from 0 (top) to `height`; the ground begins at `horizon`.

    `shift` in [-1, 1] moves sun and clouds a little, so that no two pictures are quite the same.
    """

    def __init__(self, brush: Brush, light: Light, *, shift: float, width: float, height: float) -> None:
        self.brush, self.light, self.shift, self.width, self.height = brush, light, shift, width, height
        self.horizon = height - 0.35 - 0.28 * max(0.0, height - 1.0)

    def band(self, top: float, bottom: float) -> Points:
        return polygon([(-0.05, top), (self.width + 0.05, top), (self.width + 0.05, bottom), (-0.05, bottom)])

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        """Fill an upright rectangle."""
        self.paint(polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), color)

    def far(self, color: Color) -> Color:
        return self.light.grade_far(color)

    def paint(self, shape: Points, color: Color) -> None:
        """Fill without outline; the colour is graded by the light."""
        self.brush.fill(shape, self.far(color), outline=0)

    def sky(self, bottom: float) -> None:
        top, middle, low = self.light.sky
        split = bottom * 0.55
        self.brush.gradient(self.band(-0.02, split + 0.01), top, middle)
        self.brush.gradient(self.band(split, bottom + 0.01), middle, low)

    def lamp(self, x: float, y: float) -> None:
        """Sun, or moon and stars."""
        x, y = x + 0.03 * self.shift, y - 0.02 * self.shift
        if self.light.name == "night":
            for k in range(11):
                sx, sy = ((k * 0.618 + 0.07) % 1) * self.width, ((k * 0.414 + 0.05) % 1) * self.horizon * 0.8
                r = 0.008 + 0.006 * (k % 3)
                self.brush.fill(ellipse((sx, sy), r, r, steps=10), (255, 246, 200), outline=0)
            self.brush.glow((x, y), 0.30, (160, 170, 240), opacity=0.5)
            self.brush.fill(ellipse((x, y), 0.105, 0.105), (255, 246, 198), outline=0)
            self.brush.fill(ellipse((x + 0.035, y - 0.02), 0.022, 0.022, steps=14), (238, 222, 164), outline=0)
            self.brush.fill(ellipse((x - 0.03, y + 0.03), 0.030, 0.030, steps=14), (238, 222, 164), outline=0)
        elif self.light.name == "sunset":
            y = max(y, self.horizon - 0.16)
            self.brush.glow((x, y), 0.62, (255, 226, 130), opacity=0.75)
            self.brush.fill(ellipse((x, y), 0.13, 0.13), (255, 240, 176), outline=0)
        else:
            self.brush.glow((x, y), 0.42, (255, 255, 236), opacity=0.85)
            self.brush.fill(ellipse((x, y), 0.085, 0.085), (255, 253, 226), outline=0)

    def cloud(self, x: float, y: float, size: float) -> None:
        x += 0.05 * self.shift
        for color, dy in ((self.light.cloud_shade, 0.045), (self.light.cloud, 0.0)):
            for dx, up, r in ((-0.62, 0.02, 0.30), (-0.22, -0.16, 0.42), (0.28, -0.08, 0.36), (0.66, 0.04, 0.24)):
                self.brush.fill(
                    ellipse((x + dx * size, y + (up + dy * 2) * size), r * size, r * size * 0.82), color, outline=0
                )
