"""One sign of where a picture is from. Knows words; knows no file format."""

from __future__ import annotations

from dataclasses import dataclass

GRADES = ("certain", "declared")
SAYS = ("ai", "ai_assisted")
KINDS = (
    *("png_text", "exif", "chunk", "comment", "stealth", "c2pa", "xmp", "tc260", "invisible_watermark"),  # in the file
    *("tag", "field"),  # of the post
)


@dataclass(frozen=True, order=True)
class Sign:
    """What one place in a file, or one field of a post, says.

    Attributes:
        grade: `certain` (a generator's own keys, a signed statement, a site's own rule) or `declared` (possible, or in part).
        says: ai or ai_assisted.
        kind: one of KINDS, the place that says it.
        tool: the program or model that is named, "" where none is.
        detail: one line for a person; not a part of `word`.
    """

    grade: str
    says: str
    kind: str
    tool: str = ""
    detail: str = ""

    @property
    def word(self) -> str:
        """How it stands in the catalogue: `certain ai png_text AUTOMATIC1111`."""
        return " ".join(filter(None, (self.grade, self.says, self.kind, self.tool)))

    @classmethod
    def parse(cls, word: str) -> Sign:
        """The inverse of `word`. Raises ValueError for anything else."""
        grade, says, kind, *tool = word.split(" ", 3)
        if grade not in GRADES or says not in SAYS:
            raise ValueError(f"{word!r} is no sign of an origin")
        return cls(grade, says, kind, *tool)
