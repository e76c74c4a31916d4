"""How a run is sampled, as its record and the card of its export tell it: by the very settings that the verb would use."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from animeflow.app.compose import compose
from animeflow.app.record import IDENTITY, sampling_of
from animeflow.model import registry
from animeflow.model.protocol import SamplingDefaults

ADVISED = SamplingDefaults(
    solver="er_sde", schedule="simple", steps=31, cfg=4.25, positive="masterpiece", negative="worst"
)
SMALL = {"solver": "er_sde", "schedule": "simple", "steps": 31, "shift": 3.0, "cfg": 4.25, "negative": "worst"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], SMALL),
        (["sample.cfg=2", "sample.steps=7"], SMALL | {"cfg": 2, "steps": 7}),
        (["sample.negative=''", "sample.shift=5.0"], SMALL | {"negative": "", "shift": 5.0}),
        (["sample.positive=null"], SMALL | {"positive": "masterpiece"}),
        (["sample.positive=best", "sample.schedule=beta57"], SMALL | {"positive": "best", "schedule": "beta57"}),
        (
            ["sample.solver=dopri5", "sample.steps=7"],
            {"solver": "dopri5", "rtol": 3.16e-3, "atol": 3.16e-4, "cfg": 4.25, "negative": "worst"},
        ),
    ],
)
def test_the_recorded_settings_are_those_of_the_run_over_the_familys(words, told) -> None:
    family = SimpleNamespace(defaults=ADVISED)
    assert sampling_of(compose(["sample=default", *words]), family) == told


@pytest.mark.parametrize("name", registry.names())
def test_a_family_says_more_than_its_identity_as_words(name) -> None:
    described = registry.constructor(name)("tiny").describe()
    assert set(IDENTITY) < described.keys()
    assert all(isinstance(value, str) for value in described.values())
