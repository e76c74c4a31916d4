"""Verbs as a user types them, in this process; what the command line sets up for itself is taken down again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from click.testing import CliRunner

from animeflow.app.cli import main

Verb = Callable[..., str]


@pytest.fixture(scope="session")
def animeflow() -> Iterator[Verb]:
    """`animeflow("shard", "name=x", code=0)`: everything that was printed. A traceback fails the test with itself."""

    def run(*words: str, code: int = 0) -> str:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        try:
            result = CliRunner().invoke(main, [*words])
        finally:
            logger = logging.getLogger("animeflow")  # its handler writes to a stream that is closed now
            logger.handlers.clear()
            logger.propagate = True
            torch.set_num_threads(1)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, f"{' '.join(words)} ended with {result.exit_code}:\n{result.output}"
        return result.output

    yield run
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
