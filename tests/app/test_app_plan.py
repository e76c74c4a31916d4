"""The published recipe composes to the published figures; a plan needs neither weights nor pictures."""

from __future__ import annotations

import pytest

from animeflow.app.compose import compose
from animeflow.app.verbs.plan import figures
from animeflow.app.wiring import bucket_plan, optim, recipe
from animeflow.core.errors import ConfigError
from animeflow.flow.density import kohya_sd3_compat
from animeflow.optim.adamw import AdamW
from animeflow.optim.schedule import Constant


@pytest.fixture(scope="module")
def nekofantasia() -> dict:
    return compose(["experiment=nekofantasia_0_1"])


def test_nekofantasia_is_the_published_recipe(nekofantasia) -> None:
    facts = figures(nekofantasia)
    assert facts["effective batch"] == "176 = 8 processes x 22 x 1 accumulated"
    assert facts["images"] == "1,333,376 in 7,576 optimizer steps"
    assert facts["family"] == "sd35/medium"
    assert facts["parameters"]["backbone"] == "2,243,171,520 (trained)"
    assert facts["precision"] == "bf16"
    optimizer, schedule = optim(nekofantasia)
    assert isinstance(optimizer, AdamW)
    assert isinstance(schedule, Constant)
    sizes = {(bucket.height, bucket.width) for bucket in bucket_plan(nekofantasia)}
    portraits = {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640)}
    assert sizes == portraits | {(width, height) for height, width in portraits}


def test_half_the_micro_batch_is_twice_the_accumulation() -> None:
    config = compose(["experiment=nekofantasia_0_1", "data.loader.micro_batch=11"])
    assert figures(config)["effective batch"] == "176 = 8 processes x 11 x 2 accumulated"


def test_a_batch_that_cannot_be_cut_names_the_numbers_that_can() -> None:
    with pytest.raises(ConfigError, match="micro-batch of 1 or 2 or 11 or 22"):
        figures(compose(["experiment=nekofantasia_0_1", "data.loader.micro_batch=20"]))


@pytest.mark.parametrize(
    "override, says",
    [
        ("train.precision=fp16", "train.precision=bf16"),
        ("data.bucket.kind=nekofantasy", "did you mean 'nekofantasia'"),
        ("+data.bucket.sizes=[100x100]", "unknown setting 'sizes'"),
        ("+recipe.density.meen=1", "did you mean 'mean'"),
        ("+text.shufle=1", "did you mean 'shuffle'"),
    ],
)
def test_a_plan_finds_what_a_run_would_stumble_over(override, says) -> None:
    with pytest.raises(ConfigError, match=says):
        figures(compose(["experiment=nekofantasia_0_1", override]))


def test_the_compat_recipe_is_the_peers_law() -> None:
    import torch

    made = recipe(compose(["recipe=kohya_sd3_compat"]), patch=2)(torch.nn.Identity())
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    torch.testing.assert_close(made.density.quantile(u), kohya_sd3_compat().quantile(u))
    assert made.weight(torch.tensor([0.5])).item() == pytest.approx(0.25)
