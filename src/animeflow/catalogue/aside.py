"""Posts that wait for the end of a run, however many: lines of JSON in a file that nobody else sees. Knows posts only."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator

from .post import Post

SMALL = 16 * 2**20  # bytes up to which there is no file at all


class Aside:
    """In the order in which they came."""

    def __init__(self) -> None:
        # It goes with the process.
        self._lines = tempfile.SpooledTemporaryFile(SMALL, "w+", encoding="utf-8", newline="\n")  # noqa: SIM115

    def add(self, post: Post) -> None:
        self._lines.write(json.dumps(post.as_dict()) + "\n")

    def __iter__(self) -> Iterator[Post]:
        self._lines.seek(0)
        for line in self._lines:
            yield Post.from_dict(json.loads(line))
