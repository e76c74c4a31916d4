"""Files that a test's sets and caches keep open are closed after it: in a cycle of objects they stay open until Python happens to
collect it, which came to six hundred handles of the process that all tests share."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from animeflow.data.place import OpenFiles

_made: weakref.WeakSet[OpenFiles] = weakref.WeakSet()
_init = OpenFiles.__init__


def _noted(self: OpenFiles, *arguments: Any, **options: Any) -> None:
    _init(self, *arguments, **options)
    _made.add(self)


OpenFiles.__init__ = _noted  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def files_closed() -> Iterator[None]:
    yield
    for files in list(_made):
        files.close()  # whoever reads on, as a fixture of the whole file may, opens them again
