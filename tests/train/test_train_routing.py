"""When tokens pass blocks by is a function of how far the run is, told to the learner before every step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from animeflow.core.errors import ConfigError
from animeflow.model.routing import Route
from animeflow.train.settings import Routing, Settings
from animeflow.train.speed import Speed


class Learner(nn.Module):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Route | None] = []

    def route(self, route: Route | None) -> None:
        self.told.append(route)


def speed(**routing) -> Speed:
    return Speed(Settings(images=1000, routing=Routing(**routing)), device=torch.device("cpu"))


def test_off_the_learner_is_not_even_asked() -> None:
    plain = nn.Linear(1, 1)
    off = speed()
    off.prepare(plain)
    off.before_step(plain, 0)
    assert off.lines() == []


def test_tokens_pass_by_until_the_last_part_of_the_run_also_after_a_resume() -> None:
    here, learner = speed(share=0.5, first=1, last=-2, dense_share=0.2), Learner()
    here.prepare(learner)
    for images in (0, 400, 799, 800, 999, 400):  # the last: gone back to an earlier checkpoint
        here.before_step(learner, images)
    route = Route(0.5, first=1, last=-2)
    assert learner.told == [route, route, route, route, None, None, route]
    resumed, other = speed(share=0.5, dense_share=0.2), Learner()
    resumed.prepare(other)
    resumed.before_step(other, 900)
    assert other.told[-1] is None
    assert "0.5 of the picture's tokens pass blocks 1 to -2 by" in here.lines()[0]


@pytest.mark.parametrize(("dense_share", "last_on"), [(0.0, 999), (1.0, -1), (0.15, 849)])
def test_the_end_of_the_run_is_dense(dense_share: float, last_on: int) -> None:
    routing = Routing(share=0.5, dense_share=dense_share)
    assert [routing.on(images, images=1000) for images in range(1000)] == [i <= last_on for i in range(1000)]


def test_a_learner_that_does_not_route_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match="does not let tokens pass"):
        speed(share=0.5).prepare(nn.Linear(1, 1))


@pytest.mark.parametrize("wrong", [{"share": 1.0}, {"share": -0.1}, {"share": 0.5, "dense_share": 1.5}])
def test_shares_are_shares(wrong) -> None:
    with pytest.raises(ConfigError, match="share"):
        Routing(**wrong)
