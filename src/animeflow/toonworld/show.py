"""A choice of scenes that shows the whole world: every place, light, artist and hair style comes up. Knows no pixels."""

from __future__ import annotations

import dataclasses

from animeflow.toonworld.words import ATTRIBUTES, CAST
from animeflow.toonworld.world import Scene, sample_scene

_LIGHTS = ("day", "day", "sunset", "day", "night", "overexposed", "day", "sunset")
_COUNTS = (1, 1, 1, 2, 1, 1, 1, 1, 3, 1, 1)


def showcase(count: int, *, seed: int = 7) -> list[Scene]:
    """`count` scenes, most of them solo; the values go round by different strides, so that few combinations repeat."""
    hair, styles, places = (ATTRIBUTES[name] for name in ("hair_color", "hair_style", "background"))
    expressions, outfits, artists = (ATTRIBUTES[name] for name in ("expression", "outfit", "artist"))
    accessories, scenes = ATTRIBUTES["accessory"], []
    for k in range(count):
        scene = sample_scene(seed, k, count_weights={_COUNTS[k % len(_COUNTS)]: 1.0}, named_share=0.5)
        first = scene.figures[0]
        values = {"expression": expressions[(k + k // 5) % 5], "outfit": outfits[(k + k // 6) % 6]}
        if first.character not in CAST and len(scene.figures) == 1:
            values |= {"hair_color": hair[(k * 3 + 1) % 8], "hair_style": styles[(k * 2) % 5]}
            values |= {"accessory": accessories[(k + k // 6) % 6]}
        first = dataclasses.replace(first, **values)
        scenes.append(
            dataclasses.replace(
                scene,
                figures=(first, *scene.figures[1:]),
                background=places[(k + k // 6) % 6],
                lighting=_LIGHTS[(k + k // 8) % len(_LIGHTS)],
                artist=artists[(k + k // 4) % 4],
            )
        )
    return scenes
