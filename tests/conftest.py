"""One torch thread (two OpenMP threads spin against each other on a small machine) and no network."""

from __future__ import annotations

import logging
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "disabled")

import hypothesis
import numpy as np
import pytest
import torch

torch.set_num_threads(1)
# The same examples every time, however busy the machine is: what fails is the code.
hypothesis.settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")


def _seed(name: str) -> None:
    """What is drawn without a seed of its own is the same alone, in any order, and beside whatever other tests."""
    number = zlib.crc32(name.encode())
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> None:
    _seed(f"{fixturedef.baseid}::{fixturedef.argname}")  # whoever asks for it first


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    _seed(pyfuncitem.nodeid)


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """The command line sets up this process for itself: our logger for a terminal, the environment for libraries, torch's
    threads. The next test, and the programs it starts, want what they would find alone."""
    environment, folder = dict(os.environ), os.getcwd()
    yield
    logger = logging.getLogger("animeflow")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)  # `doctor` wants findings only
    for name in {*os.environ} - {*environment, "PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    os.environ.update({name: value for name, value in environment.items() if name != "PYTEST_CURRENT_TEST"})
    os.chdir(folder)
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real pictures, tags, tokenizers and small weights; tests that need it are skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ANIMEFLOW_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip("real pictures are not here: set ANIMEFLOW_TEST_DATA to their folder")
    return folder
