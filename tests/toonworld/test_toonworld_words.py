"""Tags and captions say exactly what is drawn, in every language."""

from __future__ import annotations

import pytest

from animeflow.core.errors import ConfigError
from animeflow.toonworld import describe
from animeflow.toonworld.draw import draw
from animeflow.toonworld.languages import LANGUAGES
from animeflow.toonworld.words import FIGURE_ATTRIBUTES
from animeflow.toonworld.world import sample_scene

SCENES = [sample_scene(21, k, count_weights={1 + k % 3: 1.0}) for k in range(60)]


@pytest.mark.parametrize("scene", SCENES[:12], ids=range(12))
def test_tags_are_the_values_and_nothing_else(scene):
    tags = describe.tags(scene)
    figures = {getattr(figure, name) for figure in scene.figures for name in FIGURE_ATTRIBUTES} - {"none"}
    crowd = "solo" if len(scene.figures) == 1 else "multiple_girls"
    assert set(tags["general"]) == figures | {scene.background, scene.lighting, scene.count, crowd}
    assert len(tags["general"]) == len(set(tags["general"]))
    assert set(tags["character"]) == {figure.character for figure in scene.figures} - {"original"}
    assert set(tags["copyright"]) == {figure.identity.series for figure in scene.figures if figure.identity}
    assert tags["artist"] == [scene.artist]


def test_captions_differ_when_scenes_differ():
    for language in LANGUAGES:
        assert len({describe.captions(scene)[language] for scene in SCENES}) == len(SCENES)
        assert all("{" not in describe.captions(scene)[language] for scene in SCENES)


def test_left_and_right_of_captions_are_left_and_right_of_the_picture():
    for scene in SCENES[1:30:3]:  # two girls each
        text, points = describe.captions(scene)["en"], draw(scene, 96, 96, layers=False).keypoints
        left, right = text.split("on the left, ")[1].split("on the right, ")
        x = [point["head"][0] for point in points]
        by_place = scene.figures if x[0] < x[1] else scene.figures[::-1]
        for half, figure in zip((left, right), by_place, strict=True):
            assert figure.hair_color.removesuffix("_hair") in half
            assert LANGUAGES["en"].phrases[figure.pose] in half


def test_the_vocabulary_covers_every_word():
    known = set(describe.vocabulary())
    for scene in SCENES:
        tags = describe.tags(scene)
        texts = [*describe.captions(scene).values(), describe.prompt(scene), describe.prompt(scene, "sentence")]
        texts += [tag for names in tags.values() for tag in names]
        for text in texts:
            assert set(describe.split(text)) <= known
    assert len(known) < 600


def test_prompts():
    scene = SCENES[0]
    assert describe.prompt(scene, "sentence", language="es") == describe.captions(scene)["es"]
    assert describe.prompt(scene).startswith("1girl, solo, ")
    assert "_" not in describe.prompt(scene)
    with pytest.raises(ConfigError):
        describe.prompt(scene, "sentence", language="xx")
    with pytest.raises(ConfigError):
        describe.prompt(scene, "poem")


def test_identity_names_every_figure():
    scene = SCENES[2]
    who = describe.identity(scene)
    assert len(who["character"]) == len(who["series"]) == 3
