"""Fixed-noise validation: repeatable, independent of the batching, and its parts mean what they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from animeflow.core.batch import Batch
from animeflow.core.conditioning import Conditioning
from animeflow.recipe.validation import fixed_noise_loss, law_times


class Knows(nn.Module):
    """Predicts the velocity towards a picture it is told in its conditioning, wrong by a constant and by a pattern."""

    def __init__(self, *, offset: float = 0.0, pattern: float = 0.0) -> None:
        super().__init__()
        self.offset, self.pattern = offset, pattern

    def forward(self, x, t_B, cond):
        t = t_B.reshape(-1, 1, 1, 1)
        stripes = torch.tensor([1.0, -1.0]).repeat(x.shape[3] // 2)
        believed = cond["picture"] + self.offset + self.pattern * stripes
        return (x - believed) / t


def pictures(count: int = 6, h: int = 6, w: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count * h * w)
    level = torch.linspace(-1, 1, count).reshape(-1, 1, 1, 1)
    return list(level + torch.randn(count, 4, h, w, generator=generator))


def batches(images: list[torch.Tensor], size: int, first: int = 1) -> list[Batch]:
    uids = list(range(first, first + len(images)))
    parts = []
    for i in range(0, len(images), size):
        x = torch.stack(images[i : i + size])
        parts.append(Batch(x, Conditioning({"picture": x}), tuple(uids[i : i + size]), (i,) * len(x), 99))
    return parts


def test_the_law_is_a_logit_normal_of_shift_three():
    times = law_times()
    assert len(times) == 10
    assert times[4] < 0.75 < times[5]  # its median is S_3(0.5)
    assert list(times) == sorted(times)


def test_a_model_that_knows_the_picture_has_no_error():
    values = fixed_noise_loss(Knows(), batches(pictures(), 2))
    assert set(values) >= {"val/loss", "val/loss_t0.980", "val/loss_t1.000", "val/dc", "val/ac", "val/loss_bucket6x8"}
    assert all(value == pytest.approx(0, abs=1e-6) for value in values.values())


def test_values_do_not_depend_on_batching_visits_or_the_global_generator():
    net = Knows(offset=0.3, pattern=0.2)
    first = fixed_noise_loss(net, batches(pictures(), 2), seed=4)
    torch.manual_seed(123)
    second = fixed_noise_loss(net, batches(pictures(), 3), seed=4)
    assert first == pytest.approx(second, rel=1e-6)


def test_brightness_and_detail_are_told_apart():
    images = pictures()
    bright = fixed_noise_loss(Knows(offset=0.5), batches(images, 3))
    busy = fixed_noise_loss(Knows(pattern=0.5), batches(images, 3))
    means = torch.stack(images).mean((2, 3))
    between, inside = means.var(0, unbiased=False), torch.stack(images).var((2, 3), unbiased=False).mean(0)
    assert bright["val/dc"] == pytest.approx(float((0.25 / between).mean()), rel=1e-4)
    assert bright["val/ac"] == pytest.approx(0, abs=1e-6)
    assert busy["val/dc"] == pytest.approx(0, abs=1e-6)
    assert busy["val/ac"] == pytest.approx(float((0.25 / inside).mean()), rel=1e-4)


def test_an_error_in_the_picture_costs_its_square_over_t_squared():
    values = fixed_noise_loss(Knows(offset=0.5), batches(pictures(), 3))
    expected = [0.25 / t**2 for t in law_times()]
    assert values["val/loss"] == pytest.approx(sum(expected) / 10, rel=1e-4)
    assert values["val/loss_t1.000"] == pytest.approx(0.25, rel=1e-4)


def test_every_image_counts_alike_over_buckets():
    class Zero(nn.Module):
        def forward(self, x, t_B, cond):
            return torch.zeros_like(x)

    wide, tall = batches(pictures(4), 4), batches(pictures(2, 8, 6), 2, first=50)
    values = fixed_noise_loss(Zero(), wide + tall)
    mixed = (4 * values["val/loss_bucket6x8"] + 2 * values["val/loss_bucket8x6"]) / 6
    assert values["val/loss"] == pytest.approx(mixed)


def test_the_learner_is_asked_in_eval_mode_and_left_as_it_was():
    class Nosy(nn.Module):
        modes: list[bool]

        def forward(self, x, t_B, cond):
            self.modes.append(self.training)
            return x

    net = Nosy()
    net.modes = []
    values = fixed_noise_loss(net.train(), batches(pictures(1), 1), prefix="val_null")
    assert net.training
    assert not any(net.modes)
    assert "val_null/loss" in values
    assert "val_null/dc" not in values  # one image has no variance between images
    assert fixed_noise_loss(net, []) == {}
