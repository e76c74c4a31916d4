"""Who shares a learner how: what a launcher says, what the settings say, and numbers that do not fit."""

from __future__ import annotations

import os

import pytest
import torch

from animeflow.core.errors import ConfigError
from animeflow.train import parallel
from animeflow.train.settings import Settings

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
HSDP = {**FSDP2, "ACCELERATE_USE_PARALLELISM_CONFIG": "true", "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "2"}


@pytest.mark.parametrize(
    ("environment", "settings", "world", "kind"),
    [
        ({}, {}, 1, "one process"),
        ({}, {}, 8, "ddp"),
        (FSDP2, {}, 8, "fsdp2"),
        (FSDP2, {}, 1, "one process"),
        (HSDP, {}, 8, "hsdp"),
        (FSDP2, {"sharding": "none"}, 8, "ddp"),
        ({}, {"sharding": "fsdp2"}, 8, "fsdp2"),
        (FSDP2, {"sharding": "hsdp", "replicas": 4}, 8, "hsdp"),
    ],
)
def test_the_settings_win_and_auto_takes_what_the_launcher_says(monkeypatch, environment, settings, world, kind):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    wish = parallel._wish(Settings(images=1, **settings))
    assert parallel._resolve(*wish, world)[0] == kind
    assert "ACCELERATE_USE_FSDP" not in os.environ, "accelerate must not shard a second time"
    assert "ACCELERATE_USE_PARALLELISM_CONFIG" not in os.environ


@pytest.mark.parametrize("replicas", [1, 3])
def test_groups_that_do_not_fit_are_refused(replicas):
    with pytest.raises(ConfigError, match="cannot be cut into"):
        parallel._resolve("hsdp", replicas, 8)


@pytest.mark.parametrize("clip", [0.0, 0.5, 100.0])
def test_the_norm_is_that_before_and_0_leaves_the_gradients(clip):
    here = parallel.Parallel(Settings(images=1, device="cpu", precision="fp32"))
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 2.0)
    norm = here.clip(parameters, clip)
    assert float(norm) == pytest.approx((7 * 4) ** 0.5)
    after = torch.cat([p.grad.flatten() for p in parameters]).norm()
    assert float(after) == pytest.approx(min(clip, float(norm)) if clip else float(norm), rel=1e-5)
