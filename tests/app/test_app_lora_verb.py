"""`animeflow lora` without a large base: what it chooses, who it says said so, what it refuses with nothing left behind."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from animeflow.app.bases import tiny_base
from animeflow.app.cli import main
from animeflow.app.compose import compose
from animeflow.app.lora import base as bases
from animeflow.app.lora.choose import OURS, PRESET, YOU, Asked, Chosen, choose
from animeflow.app.lora.job import prepare
from animeflow.app.lora.plan import rows
from animeflow.core.errors import ConfigError, DataError
from animeflow.model import registry
from animeflow.text.concept import concepts_of


def fill(
    folder: Path, count: int, *, first: int = 0, tags: str | None = "1boy, blue hair, smile", side: int = 112
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(first + i).integers(0, 255, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
        if tags is not None:
            (folder / f"{i:02d}.txt").write_text(tags)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lora(*words: str) -> Result:
    return CliRunner().invoke(main, ["lora", *words])


def chosen(folder: Path, *words: str, **options: object) -> Chosen:
    return prepare(folder, Asked(tiny=True, words=words, **options))  # type: ignore[arg-type]


# -- what is chosen ----------------------------------------------------------------------------------------------------


def test_the_words_alone_make_the_same_run(here: Path) -> None:
    found = chosen(fill(here / "Blue Boy", 14), "learn.rank=4")
    assert compose(found.words) == found.config
    assert found.words[0].startswith("experiment=") and found.words[-1] == "learn.rank=4"
    concept = concepts_of(found.config["text"]["concepts"])["blue_boy"]
    assert (concept.trigger, concept.class_word, concept.prune) == ("blue boy", "1boy", ("blue_hair",))
    assert found.config["catalogue"]["source"]["concepts"]["blue_boy"]["root"] == str(here / "Blue Boy")
    assert found.held_out >= 3


def test_what_the_user_says_wins_and_is_called_his(here: Path) -> None:
    folder = fill(here / "mio", 14)
    plain = chosen(folder)
    said = chosen(folder, "name=other", "catalogue.val_share=0.5", trigger="mioo", kind="1girl")
    assert said.config["name"] == "other" and said.config["catalogue"]["val_share"] == 0.5
    assert said.leads == [("mioo", "1girl")]
    told = {row.name: row.origin for row in rows(said)}
    assert (told["trigger"], told["class"], told["pictures"], told["run"]) == (YOU, YOU, YOU, YOU)
    told = {row.name: row.origin for row in rows(plain)}
    assert (told["trigger"], told["class"], told["pictures"], told["run"], told["length"]) == (
        OURS,
        OURS,
        OURS,
        OURS,
        PRESET,
    )
    assert not any("name=" in word and "other" not in word for word in said.words if word.startswith("name="))


def test_length_and_rate_of_a_large_base_come_from_the_pictures(here: Path) -> None:
    """The choice alone: no base of that size is here."""
    from animeflow.app.lora.scan import scan

    found = scan(fill(here / "mio", 20, side=64))
    small = ("data.shard.max_upscale=50", "data.shard.min_side=0")
    for preset in bases.presets():
        family = bases.composed(preset)["model"]["family"]
        base = bases.Base(family, preset, here, {})
        plain = choose(found, base, Asked(words=small))
        usual, train = compose([f"experiment={preset}"]), plain.config["train"]
        assert train["images"] == 2400 and train["samples"]["every_images"] == 240
        assert plain.config["optim"]["lr"] == 2 * usual["optim"]["lr"]
        longer = choose(found, base, Asked(words=("train.images=9000", "optim.lr=1e-5", *small)))
        assert (longer.config["train"]["images"], longer.config["train"]["samples"]["every_images"]) == (9000, 900)
        assert longer.config["optim"]["lr"] == 1e-5


def test_a_shorter_rehearsal_is_looked_at_as_often(here: Path) -> None:
    folder = fill(here / "mio", 14)
    plain, short = (chosen(folder, *words).config["train"] for words in ((), ("train.images=200",)))
    assert plain == compose([f"experiment={chosen(folder).base.preset}"])["train"]
    assert (short["samples"]["every_images"], short["checkpoint_every_images"]) == (20, 40)
    own = chosen(folder, "train.images=200", "train.samples.every_images=50").config["train"]
    assert (own["samples"]["every_images"], own["checkpoint_every_images"]) == (50, 40)


def test_the_plan_tells_of_rare_sizes_and_of_two_rates(here: Path) -> None:
    folder = fill(here / "mio", 9)
    told = {row.name: row for row in rows(chosen(folder, "optim.lora_plus=4"))}
    assert "4 times that" in told["learning rate"].value and "sizes of few" not in told
    Image.new("RGB", (128, 88)).save(folder / "wide.png")
    told = {row.name: row for row in rows(chosen(folder))}
    assert told["sizes of few"].value.startswith("1 of fewer than 8") and "LoRA+" not in told["learning rate"].value


def test_the_end_names_every_trigger_and_how_few_were_held_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from animeflow.app.lora import end

    fill(here / "cast" / "mio", 12)
    fill(here / "cast" / "rin", 4, first=50)
    both = chosen(here / "cast")
    assert end.calls(both).endswith(": mio; rin") and end.calls(chosen(here / "cast" / "rin")).endswith(": rin")
    monkeypatch.setattr(end.early_stop, "hint", lambda run: "ema name=RUN")
    assert end.stopping(both, here) == f"held out on only {both.held_out} pictures: ema name={both.config['name']}"
    assert end.stopping(replace(both, held_out=8), here) == f"ema name={both.config['name']}"


def test_pictures_of_the_class_take_the_place_of_the_prior_loss(here: Path) -> None:
    folder = fill(here / "mio", 8)
    fill(folder / "reg", 4, first=50, tags=None)
    found = chosen(folder)
    concepts = concepts_of(found.config["text"]["concepts"])
    assert concepts["reg"].prior and concepts["reg"].class_word == concepts["mio"].class_word
    assert found.config["recipe"]["prior"]["kind"] == "none"
    assert found.config["data"]["loader"]["repeats"] == {"reg": 2}
    assert len(found.found.pictures) == 8


def test_sub_folders_are_concepts_with_triggers_of_their_own(here: Path) -> None:
    fill(here / "cast" / "mio", 12)
    fill(here / "cast" / "rin", 4, first=50)
    found = chosen(here / "cast")
    assert [trigger for trigger, _ in found.leads] == ["mio", "rin"]
    assert found.config["data"]["loader"]["repeats"] == {"rin": 3}
    with pytest.raises(ConfigError, match="2 concepts and one trigger"):
        chosen(here / "cast", trigger="x")


def test_pictures_too_small_are_left_out_before_anything_is_counted(here: Path) -> None:
    folder = fill(here / "mio", 12)
    for i in range(3):
        Image.new("RGB", (30, 30), (i, 0, 0)).save(folder / f"small{i}.png")
    found = chosen(folder)
    assert len(found.found.pictures) == 12 == sum(found.buckets.values())
    assert {row.name: row.value for row in rows(found)}["left out for size"] == "3 too small"
    with pytest.raises(DataError, match="large enough"):
        chosen(fill(here / "tiny", 3, side=20))
    fill(here / "most", 3, first=50, side=20)
    fill(here / "most" / "deeper", 1, first=70)
    with pytest.raises(DataError, match="one picture of most, and 3 that the sizes"):
        chosen(here / "most")


# -- the base ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", registry.names())
def test_a_base_tells_its_family(family: str) -> None:
    path = tiny_base(family)
    found = bases.find_base(base=str(path), family=None, tiny=False, preset=None)
    assert (found.family, found.preset.endswith(bases.TINY)) == (family, True)
    assert bases.find_base(base=None, family=family, tiny=True, preset=None).path == path


def test_a_base_of_another_family_says_what_it_is() -> None:
    one, other = registry.names()
    with pytest.raises(ConfigError, match=f"for {other}") as caught:
        bases.find_base(base=str(tiny_base(one)), family=other, tiny=False, preset=None)
    assert caught.value.why


# -- wrong input -------------------------------------------------------------------------------------------------------

WRONG = {
    "empty": (["--tiny"], "the folder is empty"),
    "one": (["--tiny"], "one picture of one"),
    "captions": (["--tiny"], "captions, but no picture"),
    "broken": (["--tiny"], "none of the pictures can be used"),
    "none": (["--tiny"], "there is no folder"),
    "mio/00.png": (["--tiny"], "is a file, not a folder"),
}
SETTINGS = {
    "learn.rank=0": "rank 0 is not 1 or above",
    "learn.rnk=4": "did you mean 'learn.rank'",
    "learn.start=none.safetensors": "there is no LoRA at",
    "learn.start=half.safetensors": "no whole safetensors file",
    "train.images=abc": "'abc' is not a whole number",
    "learn.targets=nothing": "unknown targets 'nothing'",
    "oops": "is not of the form KEY=VALUE",
}


@pytest.fixture
def pictures(here: Path) -> Path:
    fill(here / "mio", 4)
    fill(here / "one", 1)
    for name in ("empty", "captions", "broken"):
        (here / name).mkdir()
    (here / "captions" / "a.txt").write_text("1girl")
    (here / "broken" / "a.png").write_bytes((here / "mio" / "00.png").read_bytes()[:200])
    (here / "half.safetensors").write_bytes(b"\x10\x27\0\0\0\0\0\0{")
    return here


def refused(done: Result, said: str, here: Path) -> None:
    assert done.exit_code == 2, done.output
    assert said in done.output and ("where:" in done.output or "do:" in done.output)
    assert "Traceback" not in done.output
    assert not (here / "runs").exists() and not (here / "sets").exists()


@pytest.mark.parametrize("folder", WRONG)
def test_a_folder_that_cannot_be_used_leaves_nothing_behind(pictures: Path, folder: str) -> None:
    options, said = WRONG[folder]
    refused(lora(folder, *options, "-y"), said, pictures)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_cannot_be_used_leaves_nothing_behind(pictures: Path, setting: str) -> None:
    refused(lora("mio", "--tiny", "-y", setting), SETTINGS[setting], pictures)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no base to train on"),
        (["--base", "nowhere"], "there is no nowhere"),
        (["--base", "mio"], "this base is not one that a LoRA can be trained on"),
        (["--base", "half.safetensors"], "this base is not one that a LoRA can be trained on"),
        (["--tiny", "--family", "sd53"], "unknown family"),
        (["--tiny", "--preset", "nothing"], "unknown preset"),
        (["--tiny", "--preset", "pictures_tiny"], "trains no LoRA"),
        (["--tiny", "--trigger", ""], "--trigger is empty"),
    ],
)
def test_a_base_or_preset_that_cannot_be_used_leaves_nothing_behind(
    pictures: Path, options: list[str], said: str
) -> None:
    refused(lora("mio", *options, "-y"), said, pictures)


def test_a_picture_that_breaks_later_takes_its_set_away_again(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from animeflow.app.verbs import shard
    from animeflow.core.errors import DataError

    def fails(*_: object, **__: object) -> None:
        raise DataError("the disk is gone", do="buy one")

    monkeypatch.setattr(shard, "cut", fails)
    refused(lora("mio", "--tiny", "-y"), "the disk is gone", pictures)


def test_a_run_of_other_pictures_is_another_run(here: Path) -> None:
    from animeflow.app.verbs import catalogue

    folder = fill(here / "mio", 4)
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    first = chosen(folder)
    catalogue.collect(dict(first.config))
    assert chosen(folder).words == first.words  # the small picture is catalogued, and no surprise
    fill(folder, 1, first=90)  # 00.png is another picture now
    with pytest.raises(ConfigError, match="1 are gone, 1 are new") as caught:
        chosen(folder)
    assert f"name={first.config['name']}_2" in str(caught.value.do)
    assert chosen(folder, f"name={first.config['name']}_2")


def test_new_pictures_are_taken_in_until_a_run_has_begun(here: Path) -> None:
    from animeflow.app.verbs import catalogue

    folder = fill(here / "mio", 4)
    first = chosen(folder)
    catalogue.collect(dict(first.config))
    fill(folder, 5)
    assert len(chosen(folder).found.pictures) == 5
    (here / first.config["run"] / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="1 are new"):
        chosen(folder)


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_nobody_to_ask_is_an_error_and_a_dry_run_asks_nobody(pictures: Path) -> None:
    refused(lora("mio", "--tiny"), "say -y", pictures)
    done = lora("mio", "--tiny", "--dry-run")
    assert done.exit_code == 0, done.output
    assert not (pictures / "runs").exists()
    (line,) = [line for line in done.output.splitlines() if line.startswith("animeflow train ")]
    assert compose(shlex.split(line)[2:]) == chosen(Path("mio")).config


def test_the_question_stands_below_the_plan_and_a_stop_there_wrote_nothing(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from animeflow.app.lora import show, stages

    def stop(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(show, "ask", stop)
    done = lora("mio", "--tiny")
    assert done.exit_code == 130 and "nothing was written" in done.output and "checkpoint" not in done.output
    name = chosen(Path("mio")).config["name"]
    assert [line for line in done.output.splitlines() if line.startswith("animeflow train ")] == [
        f"animeflow train @runs/{name}/lora.words"
    ]
    assert not (pictures / "runs").exists()
    monkeypatch.setattr(stages, "run", stop)
    assert "before the first checkpoint" in lora("mio", "--tiny", "-y").output


def test_the_plan_marks_what_the_user_said_in_yellow(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from animeflow.app.lora import show

    monkeypatch.setenv("FORCE_COLOR", "1")
    found = chosen(fill(here / "mio", 4), trigger="mioo")
    show.plan(rows(found), title="t")
    lines = capsys.readouterr().out.splitlines()
    (trigger,) = [line for line in lines if "mioo" in line and "trigger" in line]
    assert "\x1b[33m" in trigger
    assert not any("\x1b[33m" in line for line in lines if "preset" in line and "you" not in line)
