"""The `sample` verb: its settings reach the pictures. The family is given; nothing is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from animeflow.app.compose import compose
from animeflow.app.verbs import sample as verb
from animeflow.model.protocol import SamplingDefaults
from animeflow.model.sd35.family import SD35
from animeflow.sample import png

SMALL = ["sample.height=32", "sample.width=32", "sample.steps=2", "train.device=cpu", "sample.source=elsewhere"]


ADVISED = SamplingDefaults(solver="er_sde", schedule="beta57", steps=3, positive="masterpiece", negative="worst")


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Recipes of the pictures that a command line draws, of the tiny family, maybe with other advice on its model card."""

    def draw(*words: str, advice: SamplingDefaults | None = None, without: tuple[str, ...] = ()) -> list[dict]:
        family = SD35("tiny")
        family.defaults = advice or family.defaults
        monkeypatch.setattr(verb, "exported_family", lambda config, source, given=(): family)
        monkeypatch.setattr(verb, "exported_weights", lambda config, source: {"run": "other"})
        monkeypatch.setattr(verb, "require_source", Path)
        config = compose([*SMALL, f"set={tmp_path}/set", f"sample.out={tmp_path}/out", *words])
        config["sample"] = {key: value for key, value in config["sample"].items() if key not in without}
        verb.picture(config)
        return [png.read_recipe(path) for path in sorted((tmp_path / "out").glob("[0-9]*.png"))]

    return draw


def test_prompts_are_read_as_comfyui_reads_them_unless_told_otherwise(drawn):
    (weighted,) = drawn("sample.prompts=['(smile:1.4), girl']")
    (literal,) = drawn("sample.prompts=['(smile:1.4), girl']", "sample.prompt_weights=false")
    assert weighted["prompt"] == literal["prompt"] == "(smile:1.4), girl"
    assert (weighted["prompt_weights"], literal["prompt_weights"]) == (True, False)


def test_text_before_the_prompts_is_added_where_it_is_asked_for(drawn):
    given = "sample.prompts=['girl','']"
    assert [recipe["prompt"] for recipe in drawn(given, advice=ADVISED)] == ["girl", ""]
    assert [recipe["prompt"] for recipe in drawn(given, "sample.positive='best, new'")] == [
        "best, new, girl",
        "best, new",
    ]
    recipes = drawn(given, "sample.positive=null", advice=ADVISED)
    assert [(r["prompt"], r["negative"]) for r in recipes] == [("masterpiece, girl", "worst"), ("masterpiece", "worst")]


def test_null_is_what_the_family_advises(drawn):
    given = ("sample.prompts=[girl]", "sample.solver=null", "sample.schedule=null")
    (plain,) = drawn(*given)
    assert (plain["solver"], plain["schedule"], plain["steps"]) == ("euler", "linear", 2)
    (advised,) = drawn(*given, "sample.eta=0.5", "sample.s_noise=0.9", advice=ADVISED)
    assert (advised["solver"], advised["schedule"]) == ("er_sde", "beta57")
    assert (advised["eta"], advised["s_noise"]) == (0.5, 0.9)


def test_a_solver_that_chooses_its_steps_is_not_given_any(drawn):
    (recipe,) = drawn("sample.prompts=[girl]", "sample.solver=bosh3", "sample.max_nfe=6")
    assert recipe["capped"]
    assert "schedule" not in recipe


def test_a_run_saved_before_a_setting_existed_is_sampled_with_its_default(drawn):
    (recipe,) = drawn(
        "sample.prompts=['(girl)']",
        "sample.solver=er_sde",
        without=("eta", "s_noise", "prompt_weights", "positive"),
    )
    assert (recipe["prompt"], recipe["prompt_weights"], recipe["eta"], recipe["s_noise"]) == ("(girl)", False, 1.0, 1.0)
