"""Sampling through the Family protocol only: a family of thirty lines is enough."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError
from animeflow.flow.adaptive import FINISH_STEPS
from animeflow.flow.schedule import SCHEDULES, first_sigma, sigmas
from animeflow.flow.solver import SOLVERS, solve
from animeflow.flow.stochastic import STOCHASTIC
from animeflow.model.protocol import SamplingDefaults
from animeflow.sample import png
from animeflow.sample.generate import generate, initial_noise, step_noise, to_uint8


class Movable:
    """Only remembers where it was told to be; nothing of it has to move."""

    def __init__(self, home="cpu"):
        self.places = [torch.device(home)]

    @property
    def device(self):
        return self.places[-1]

    def to(self, device):
        self.places.append(torch.device(device))
        return self


class ToyCodec(Movable):
    channels, stride, fingerprint = 3, 4, "toy"

    def encode(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels, 4)

    def decode(self, latents):
        assert self.device == latents.device
        return latents.clamp(-1, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)


class ToyTower(Movable):
    encoders, fingerprint = ("hash",), "toy"

    def __init__(self, home="cpu"):
        super().__init__(home)
        self.encoded: list[str] = []
        self.weighted: list[list[tuple[str, float]]] = []

    def encode_weighted(self, prompts):
        self.weighted += [list(prompt) for prompt in prompts]
        return self.encode(["".join(text * round(weight * 10) for text, weight in prompt) for prompt in prompts])

    def encode(self, captions):
        assert self.device.type == "cpu"  # where the backbone is
        self.encoded += captions
        return [{"hash": torch.tensor(list(hashlib.sha256(c.encode()).digest()[:3])) / 255.0} for c in captions]

    def collate(self, rows, *, drop=None):
        return Conditioning({"hash": torch.stack([row["hash"] for row in rows])})

    def num_tokens(self, caption):
        return {"hash": (len(caption), len(caption))}


class ToyNet(nn.Module):
    """Velocity towards a flat colour that the caption's hash names, with a little convolution so that pixels interact."""

    def __init__(self):
        super().__init__()
        self.blur = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.batches: list[int] = []

    def forward(self, x, t_B, cond):
        self.batches.append(len(x))
        colour = (2 * cond["hash"] - 1).reshape(-1, 3, 1, 1)
        return (x - colour) / t_B.reshape(-1, 1, 1, 1) + 0.1 * torch.tanh(self.blur(x))


class ToyFamily:
    name, flavour, patch = "toy", "tiny", 2
    defaults = SamplingDefaults(shift=3.0, cfg=2.0, steps=6, negative="bad picture")

    def __init__(self, home="cpu"):
        torch.manual_seed(0)
        self.net, self.tower, self.shared_codec = ToyNet(), ToyTower(home), ToyCodec(home)

    def backbone(self):
        return self.net

    def codec(self):
        return self.shared_codec

    def text_tower(self):
        return self.tower

    def layouts(self):
        return {}

    def sizes(self):
        return []

    def describe(self):
        return {"weights": "random"}


PROMPTS = ["red hair", "blue hair", "green hair", "1girl, smile"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_seed_same_picture_in_any_batch(solver):
    pictures = [
        [s.pixels for s in generate(ToyFamily(), PROMPTS, height=32, width=48, seeds=(7,), solver=solver, batch_size=n)]
        for n in (1, 2, 4)
    ]
    for alone, by_two, by_four in zip(*pictures, strict=True):
        assert alone.shape == (32, 48, 3)
        assert alone.dtype == np.uint8
        assert np.array_equal(alone, by_two)
        assert np.array_equal(alone, by_four)
    assert not np.array_equal(pictures[0][0], pictures[0][1])


def test_every_prompt_with_every_seed_or_in_pairs():
    all_of_them = generate(ToyFamily(), PROMPTS[:2], height=16, width=16, seeds=(1, 2, 3), steps=2)
    assert [(s.recipe["prompt"], s.recipe["seed"]) for s in all_of_them] == [
        (p, s) for p in PROMPTS[:2] for s in (1, 2, 3)
    ]
    pairs = generate(ToyFamily(), PROMPTS[:2], height=16, width=16, seeds=(1, 2), pair=True, steps=2)
    assert [(s.recipe["prompt"], s.recipe["seed"]) for s in pairs] == [("red hair", 1), ("blue hair", 2)]
    with pytest.raises(ConfigError, match="2 prompts and 3 seeds"):
        generate(ToyFamily(), PROMPTS[:2], height=16, width=16, seeds=(1, 2, 3), pair=True)


def test_defaults_are_the_familys_and_the_recipe_tells_all():
    family = ToyFamily()
    (sample,) = generate(family, ["red hair"], height=16, width=24, seeds=(3,))
    expected = {
        "prompt": "red hair",
        "negative": "bad picture",
        "seed": 3,
        "height": 16,
        "width": 24,
        "solver": "euler",
    }
    expected |= {"steps": 6, "nfe": 6, "cfg": 2.0, "shift": 3.0, "schedule": "linear"}
    assert expected.items() <= sample.recipe.items()
    assert sample.recipe["model"] == {"name": "toy", "flavour": "tiny", "weights": "random"}
    assert family.tower.encoded == ["red hair", "bad picture"]
    assert set(family.net.batches) == {2}  # guidance doubled the batch
    adaptive = generate(family, ["red hair"], height=16, width=24, seeds=(3,), solver="bosh3")[0].recipe
    assert adaptive["nfe"] > adaptive["steps"]
    assert {"rtol", "atol", "max_nfe"} <= adaptive.keys()
    assert "shift" not in adaptive


def test_the_recipe_says_which_weights_drew_it_where_that_is_known():
    told = {"run": "toys", "images_seen": 640, "kind": "ema"}
    (sample,) = generate(ToyFamily(), ["red hair"], height=16, width=16, steps=1, weights=told)
    assert sample.recipe["weights"] == told
    assert sample.recipe["model"] == {"name": "toy", "flavour": "tiny"}  # nothing of how they began


def test_guidance_off_asks_for_the_prompt_alone():
    family = ToyFamily()
    generate(family, ["red hair"], height=16, width=16, cfg=1.0, steps=3)
    assert set(family.net.batches) == {1}


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_recipe_in_the_file_draws_the_picture_again(solver, tmp_path):
    given = {"steps": 4, "cfg": 3.0, "schedule": "beta57", "eta": 0.7, "s_noise": 0.9, "prompt_weights": True}
    family = ToyFamily()
    (sample,) = generate(family, ["red (hair:1.2)"], height=16, width=24, seeds=(11,), solver=solver, **given)
    read = png.read_recipe(png.save(tmp_path / "a.png", sample.pixels, sample.recipe))
    assert {"eta", "s_noise"} & read.keys() == ({"eta", "s_noise"} if solver in STOCHASTIC else set())
    told = {name: read[name] for name in read.keys() - {"prompt", "seed", "nfe", "model", "animeflow"}}
    assert told.keys() >= {
        "height",
        "width",
        "solver",
        "steps",
        "schedule",
        "cfg",
        "shift",
        "negative",
        "prompt_weights",
    }
    again = generate(ToyFamily(), [read["prompt"]], seeds=(read["seed"],), **told)
    assert np.array_equal(again[0].pixels, sample.pixels)
    assert again[0].recipe == sample.recipe


def test_solver_and_schedule_are_the_familys_where_none_is_named():
    family = ToyFamily()
    family.defaults = replace(ToyFamily.defaults, solver="er_sde", schedule="beta57")
    one = generate(family, ["red hair"], height=16, width=16, seeds=(3,))[0]
    two = generate(ToyFamily(), ["red hair"], height=16, width=16, seeds=(3,), solver="er_sde", schedule="beta57")[0]
    assert one.recipe == two.recipe
    assert (one.recipe["solver"], one.recipe["schedule"], one.recipe["eta"], one.recipe["s_noise"]) == (
        *("er_sde", "beta57"),
        *(1.0, 1.0),
    )
    assert np.array_equal(one.pixels, two.pixels)
    family.defaults = replace(family.defaults, solver="bosh3")
    assert "rtol" in generate(family, ["red hair"], height=16, width=16)[0].recipe


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_a_stochastic_solver_draws_what_its_seed_and_step_say(solver):
    """The solver called by hand with the noise of two seeds gives the latents that `generate` decodes."""
    family, seen = ToyFamily(), []
    generate(
        family, ["red hair"], height=16, width=24, seeds=(5, 6), solver=solver, steps=4, cfg=1.0, on_step=seen.append
    )
    net, cond = family.net, family.tower.collate(family.tower.encode(["red hair"] * 2))
    with torch.no_grad():
        by_hand = solve(
            lambda x, t_B: net(x, t_B, cond),
            torch.stack([initial_noise(seed, 3, 4, 6) for seed in (5, 6)]),
            sigmas(4, shift=3.0),
            solver=solver,
            noise=lambda step: torch.stack([step_noise(seed, step, 3, 4, 6) for seed in (5, 6)]),
            first_sigma=first_sigma(3.0),
        )
    assert torch.equal(seen[-1].denoised_BChw, by_hand.x)
    steps = [step_noise(5, step, 3, 4, 6) for step in range(3)]
    for one, two in (
        (steps[0], steps[1]),
        (steps[0], step_noise(6, 0, 3, 4, 6)),
        (steps[0], initial_noise(5, 3, 4, 6)),
    ):
        assert not torch.equal(one, two)


def test_without_randomness_the_seed_of_the_steps_does_not_matter(monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr("animeflow.sample.generate.step_noise", refuse)
    for strength in ({"eta": 0.0}, {"s_noise": 0.0}):
        generate(ToyFamily(), PROMPTS[:1], height=16, width=16, solver="er_sde", **strength)


def test_prompt_weights_are_read_only_when_asked_for():
    prompt, family = r"red hair, (smile:1.3), miku \(vocaloid\)", ToyFamily()
    literal = generate(family, [prompt], height=16, width=16, negative="(bad)")[0]
    assert (family.tower.encoded, family.tower.weighted) == ([prompt, "(bad)"], [])
    assert literal.recipe["prompt_weights"] is False
    weighted = generate(family, [prompt], height=16, width=16, negative="(bad)", prompt_weights=True)[0]
    pieces = [("red hair, ", 1.0), ("smile", 1.3), (", miku (vocaloid)", 1.0)]
    assert family.tower.weighted == [pieces, [("bad", pytest.approx(1.1))]]
    assert weighted.recipe["prompt_weights"] is True
    assert weighted.recipe["prompt"] == literal.recipe["prompt"] == prompt
    assert not np.array_equal(weighted.pixels, literal.pixels)


def test_a_schedule_of_fewer_stops_is_told_and_can_be_drawn_again():
    taken = len(sigmas(300, shift=3.0, schedule="beta57")) - 1
    (sample,) = generate(ToyFamily(), ["a"], height=8, width=8, cfg=1.0, steps=300, schedule="beta57")
    assert taken < 300
    assert [sample.recipe[key] for key in ("steps", "steps_taken", "nfe")] == [300, taken, taken]
    whole = generate(ToyFamily(), ["a"], height=8, width=8, steps=4, schedule="beta57")[0].recipe
    assert "steps_taken" not in whole


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_has_its_way_here(schedule):
    recipe = generate(ToyFamily(), ["a"], height=8, width=8, steps=3, schedule=schedule)[0].recipe
    assert recipe["schedule"] == schedule


def test_a_given_backbone_is_used_and_left_in_its_mode():
    family, other = ToyFamily(), ToyNet().train()
    done, steps = [], []
    generate(
        family,
        PROMPTS,
        height=16,
        width=16,
        steps=2,
        batch_size=3,
        backbone=other,
        progress=done.append,
        on_step=steps.append,
    )
    assert other.training
    assert other.batches
    assert not family.net.batches
    assert done == [3, 1]
    assert len(steps) == 4


def test_shared_parts_are_back_where_they_were_also_after_a_failure():
    family, home = ToyFamily("meta"), torch.device("meta")
    at_steps = []
    generate(
        family, PROMPTS[:1], height=16, width=16, steps=2, on_step=lambda _: at_steps.append(family.tower.device.type)
    )
    visit = [home, torch.device("cpu"), home]
    assert family.tower.places == family.shared_codec.places == visit
    assert at_steps == ["meta", "meta"]  # a tower may be larger than the backbone: it is gone while the solver works

    def fail(_):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        generate(family, PROMPTS[:1], height=16, width=16, steps=2, on_step=fail)
    assert family.tower.device == family.shared_codec.device == home


def test_the_cost_of_an_adaptive_solver_is_capped_and_told():
    sample = generate(ToyFamily(), PROMPTS[:1], height=16, width=16, solver="dopri5", rtol=1e-7, atol=1e-8, max_nfe=12)
    assert 12 < sample[0].recipe["nfe"] <= 12 + FINISH_STEPS
    assert sample[0].recipe["max_nfe"] == 12
    assert sample[0].recipe["capped"]


def test_an_impossible_size_names_the_nearest_possible_one():
    with pytest.raises(ConfigError, match="use 32x40"):
        generate(ToyFamily(), PROMPTS, height=30, width=41)


def test_noise_is_a_function_of_seed_and_size_and_pixels_are_rounded():
    assert torch.equal(initial_noise(5, 3, 4, 6), initial_noise(5, 3, 4, 6))
    assert not torch.equal(initial_noise(5, 3, 4, 6), initial_noise(6, 3, 4, 6))
    levels = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert to_uint8(levels)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
    every = torch.arange(256.0) / 127.5 - 1
    assert to_uint8(every.reshape(1, 1, 16, 16).expand(1, 3, 16, 16))[0, :, :, 0].flatten().tolist() == list(range(256))


def test_a_real_family_samples_alike_in_any_batch():
    """sd35/tiny has matrix products whose rounding may change with the batch: at most one level of 255."""
    from animeflow.model.sd35.family import SD35

    family = SD35("tiny")
    whole = generate(family, PROMPTS[:2], height=32, width=48, steps=3, batch_size=2)
    alone = generate(family, PROMPTS[:2], height=32, width=48, steps=3, batch_size=1)
    apart = generate(family, PROMPTS[:2], height=32, width=48, steps=3, batch_size=2, joined=False)
    for one, two, three in zip(whole, alone, apart, strict=True):
        assert int(np.abs(one.pixels.astype(int) - two.pixels).max()) <= 1
        assert int(np.abs(one.pixels.astype(int) - three.pixels).max()) <= 1
        assert one.recipe == two.recipe == three.recipe
