"""Identity is what the pictures show of her and the prompts do not say; what it cost is told beside it, on the page too."""

from __future__ import annotations

import json
import re

import pytest
from run_on_disk import IMAGES, PRESET, write_run

from animeflow.core.files import read_json, write_json
from animeflow.evaluate.adherence import Tally
from animeflow.evaluate.identity import NAMED, IdentityReport, Measured, identity_prompt, measure, scenes_of
from animeflow.evaluate.report import NAV, write_report
from animeflow.sample import png
from animeflow.text.emphasis import plain
from animeflow.toonworld.dataset import World
from animeflow.toonworld.draw import draw
from animeflow.toonworld.words import FIXED, GUESTS
from animeflow.toonworld.world import attributes, sample_prompt_scenes

SCENES = scenes_of("nova", 12, seed=1)
OTHERS = sample_prompt_scenes(3, 12)


def reading(scene, **wrong):
    return {name: (value, 1.0) for name, value in (attributes(scene) | wrong).items()}


def planted(readings_of_her, readings_of_others):
    """A reader that gives the first list, then the second."""
    answers = [readings_of_her, readings_of_others]
    return lambda pictures: answers.pop(0)


def scored(wrong_of_her, wrong_of_others=None, *, images_seen=0) -> Measured:
    hers = [reading(scene, **wrong_of_her(k)) for k, scene in enumerate(SCENES)]
    others = [reading(scene, **(wrong_of_others(k) if wrong_of_others else {})) for k, scene in enumerate(OTHERS)]
    return measure(
        planted(hers, others), "nova", SCENES, [None] * len(hers), images_seen=images_seen, others=OTHERS,
        other_pictures=[None] * len(others),
    )  # fmt: skip


def test_a_prompt_says_everything_but_who_she_is():
    for scene in SCENES:
        said = identity_prompt(scene, "novaword").split(", ")
        assert said[0] == "novaword" and plain(", ".join(said)) == ", ".join(said)
        known = {name: value.replace("_", " ") for name, value in attributes(scene).items()}
        assert all(known[name] in said for name in NAMED)
        assert not any(known[name] in said for name in FIXED) and "nova" not in said


def test_the_scenes_are_none_of_her_data_set():
    own = World(guest="nova", seed=1)
    assert not {own.scene(index).to_json() for index in range(100)} & {scene.to_json() for scene in SCENES}
    assert scenes_of("nova", 5, seed=1) == SCENES[:5]


def test_every_picture_right_is_all_of_her_and_every_picture_wrong_is_none():
    assert scored(lambda k: {}).identity == 1.0
    wrong = {"hair_color": "red_hair", "hair_style": "long_hair", "eye_color": "red_eyes", "accessory": "none"}
    measured = scored(lambda k: wrong)
    assert measured.identity == 0.0 and measured.followed == 1.0


@pytest.mark.parametrize("name", FIXED)
def test_attributes_count_alike(name):
    other = {"hair_color": "red_hair", "hair_style": "long_hair", "eye_color": "red_eyes", "accessory": "none"}[name]
    measured = scored(lambda k: {name: other} if k < 6 else {})
    assert measured.fixed[name] == Tally(6, 12)
    assert measured.identity == pytest.approx(1 - 0.5 / len(FIXED))


def test_what_the_prompt_says_is_counted_apart():
    measured = scored(lambda k: {"background": "sky" if SCENES[k].background != "sky" else "snow"})
    assert measured.identity == 1.0 and measured.named["background"].right == 0
    assert measured.followed == pytest.approx(1 - 1 / len(NAMED))


def test_others_are_scored_as_adherence_is_and_the_loss_is_the_difference():
    before = scored(lambda k: {})
    after = scored(lambda k: {}, lambda k: {"lighting": "none"} if k < 6 else {}, images_seen=500)
    report = IdentityReport("nova", "nova", before, after)
    asked = len(before.others.attributes)
    assert before.adherence == 1.0 and report.lost == pytest.approx(0.5 / asked)
    assert report.unharmed is (report.lost < 0.05)
    assert IdentityReport("nova", "nova", before).lost is None


def test_as_many_pictures_as_scenes():
    with pytest.raises(ValueError, match="11 \\+ 0 pictures for 12 \\+ 0"):
        measure(lambda pictures: [], "nova", SCENES, [None] * 11, images_seen=0)


def test_the_report_comes_back_from_its_file(tmp_path):
    before, after = scored(lambda k: {"accessory": "none"}), scored(lambda k: {}, images_seen=900)
    report = IdentityReport(
        "nova", "nova", before, after, [{"prompt": "x", "before": "a", "after": "b"}], {"accessory": 0.9}
    )
    write_json(tmp_path / "identity.json", report.as_dict())
    value = read_json(tmp_path / "identity.json")
    assert IdentityReport.from_dict(value) == report
    assert value["after"]["identity"] == 1.0 and value["unharmed"] is True
    assert IdentityReport.from_dict(IdentityReport("nova", "x", before).as_dict()).after is None


# -- on the page -------------------------------------------------------------------------------------------------------


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def write_lora_run(folder, *, after: bool = True) -> IdentityReport:
    write_run(folder)
    record = read_json(folder / "record.json")
    learn = {
        "kind": "lora",
        "rank": 16,
        "alpha": 8.0,
        "targets": "default",
        "layers": 41,
        "parameters": 344_064,
        "base": "sd35_tiny",
    }
    data = record["data"] | {"sources": {"nova": 24}}
    write_json(folder / "record.json", record | {"learn": learn, "data": data})
    concepts = {
        "text.concepts.nova.trigger": "nova",
        "text.concepts.nova.class": "girl",
        "text.concepts.nova.prune": ["*_hair"],
    }
    write_json(folder / "config.json", PRESET | {"optim.lr": 4e-3} | concepts)
    before = scored(lambda k: {"hair_color": "red_hair", "accessory": "none"})
    report = IdentityReport("nova", "nova", before, scored(lambda k: {}, images_seen=IMAGES) if after else None)
    rows = []
    for k, scene in enumerate(SCENES[:2]):
        for when in ("before", "after"):
            pixels = draw(scene, 64, 64, layers=False).pixels
            png.save(folder / "identity" / when / f"{k}.png", pixels, {"seed": k})
        rows.append(
            {"prompt": identity_prompt(scene, "nova"), **{w: f"identity/{w}/{k}.png" for w in ("before", "after")}}
        )
    report = IdentityReport("nova", "nova", report.before, report.after, rows if after else [])
    write_json(folder / "identity.json", report.as_dict())
    return report


def test_a_page_of_a_lora_shows_what_it_is_and_what_it_came_to(tmp_path):
    write_lora_run(tmp_path)
    page = write_report(tmp_path, preset=PRESET).read_text()
    text = text_of(page)
    for words in (
        "nova is drawn as she is in 100.0 % of her attributes, where the base gives 50.0 %",
        "They are unharmed", "344,064", "sd35_tiny", "0.002 (scale 0.5)", "*_hair", "girl", "24",
    ):  # fmt: skip
        assert words in text, words
    assert page.count("data:image/webp") >= 4
    order = [page.index(f'id="{name}"') for name in ("lora", "identity", "adherence", "training")]
    assert order == sorted(order)


def test_a_run_that_is_not_done_says_so(tmp_path):
    write_lora_run(tmp_path, after=False)
    text = text_of(write_report(tmp_path).read_text())
    assert "only the base was asked" in text and "50.0 %" in text


def test_a_page_of_another_run_has_no_empty_sections(tmp_path):
    write_run(tmp_path)
    page = write_report(tmp_path).read_text()
    others = ("lora", "identity", "languages", "official", "screening")
    assert all(f'id="{name}"' not in page for name in others)
    assert all(f'id="{name}"' in page for name in NAV if name not in others)


def test_a_record_of_other_words_breaks_no_page(tmp_path):
    """Who reads the record does not write it: what is missing or odd is left out."""
    write_lora_run(tmp_path)
    record = read_json(tmp_path / "record.json")
    for learn in ({"kind": "lora"}, {"kind": "lora", "rank": "x", "alpha": None, "targets": ["a", "b"]}, "lora", None):
        write_json(tmp_path / "record.json", record | {"learn": learn})
        write_report(tmp_path)
    assert json.loads((tmp_path / "record.json").read_text())["learn"] is None
    assert all(getattr(GUESTS["nova"], name) for name in FIXED)
