"""The hook asks the base before, the additions after, and leaves figures and pictures for the page."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from animeflow.app import bases
from animeflow.app.compose import compose
from animeflow.app.identity import SHOWN, Identity, trigger_of
from animeflow.app.source import Export
from animeflow.core.errors import ConfigError
from animeflow.core.files import read_json
from animeflow.evaluate.identity import IdentityReport
from animeflow.evaluate.run_folder import read_run
from animeflow.model import registry

ASKED = {"guest": "nova", "prompts": 3}


def config(**identity):
    made = compose(["seed=4"])
    made["evaluate"] |= {"steps": 2, "cfg": 1.0, "batch_size": 8, "identity": ASKED | identity}
    return made


@pytest.fixture(scope="module")
def base():
    place = bases.tiny_base("sd35")
    make = registry.constructor("sd35")
    return make("tiny", **make.weights_at(place), **Export.at(place).text(make.text_settings))


class Trainer:
    """As much of a trainer as a hook asks for."""

    def __init__(self, learner, images_seen, *, main=True, asks=True):
        self.learner, self.progress = learner, SimpleNamespace(images_seen=images_seen)
        self.parallel = SimpleNamespace(asks_for_hooks=asks, is_main=main)
        self.finished = images_seen > 0


def test_the_trigger_is_that_of_her_concept():
    assert trigger_of({"text": {}}, "nova") == "nova"
    assert trigger_of({"text": {"concepts": {"mine": {"trigger": "nvx"}}}}, "nova") == "nvx"
    two = {"mine": {"trigger": "a"}, "nova": {"trigger": "b"}}
    assert trigger_of({"text": {"concepts": two}}, "nova") == "b"
    assert trigger_of({"text": {"concepts": {"x": {"trigger": "a"}, "y": {"trigger": "c"}}}}, "nova") == "nova"
    assert trigger_of({"text": {"concepts": {"regular": {"trigger": None, "prior": True}}}}, "nova") == "nova"


def test_before_and_after_are_kept_with_pictures(base, tmp_path):
    hook = Identity(base, config(), folder=tmp_path, height=96, width=96)
    values = hook(Trainer(base.backbone(), 0))
    assert {"identity/mean", "identity/others", "identity/hair_color"} <= set(values)
    first = IdentityReport.from_dict(read_json(tmp_path / "identity.json"))
    assert first.after is None and first.before.images_seen == 0
    # The same weights again, as after a training that learned nothing: nothing is won and nothing is lost.
    again = Identity(base, config(), folder=tmp_path, height=96, width=96)
    again(Trainer(base.backbone(), 300))
    report = IdentityReport.from_dict(read_json(tmp_path / "identity.json"))
    assert report.after.images_seen == 300 and report.before == first.before
    assert report.lost == 0 and report.after.fixed == report.before.fixed
    assert len(report.pictures) == min(SHOWN, 3)
    for row in report.pictures:
        assert row["prompt"].startswith("nova, 1girl") and "blonde" not in row["prompt"]
        assert (tmp_path / row["before"]).read_bytes() and (tmp_path / row["after"]).is_file()
    assert read_run(tmp_path).identity["guest"] == "nova"


def test_a_run_that_was_not_asked_at_its_start_compares_nothing(base, tmp_path, caplog):
    hook = Identity(base, config(prompts=1), folder=tmp_path, height=96, width=96)
    assert hook(Trainer(base.backbone(), 300))
    assert not (tmp_path / "identity.json").exists() and "nothing to compare" in caplog.text


def test_other_processes_help_to_draw_and_write_nothing(base, tmp_path):
    hook = Identity(base, config(prompts=1), folder=tmp_path, height=96, width=96)
    assert hook(Trainer(base.backbone(), 0, main=False)) == {}
    assert hook(Trainer(base.backbone(), 0, asks=False)) == {}
    assert not list(tmp_path.iterdir())


def test_an_unknown_guest_is_told_before_anything_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match="no guest is called 'nava'"):
        Identity(None, config(guest="nava"), folder=tmp_path, height=96, width=96)
