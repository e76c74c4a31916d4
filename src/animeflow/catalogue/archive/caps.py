"""What a hostile archive may cost, and what is said of a member that is left out. Knows numbers; knows no format."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import DataError

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Bounds of one archive. All of them are far above what pictures need and far below what hurts.

    Args:
        max_members: files it may name.
        max_index_bytes: its table of names, inflated.
        max_member_bytes: one member, inflated. A picture above it would be refused later too.
        max_total_bytes: everything that is inflated, taken or passed over.
        max_ratio: bytes that come out of one byte that goes in, looked at after the first `ratio_from` bytes.
        max_dictionary_bytes: memory that an xz stream may ask for.
        max_frames, max_shots: of a video.
    """

    max_members: int = 200_000
    max_index_bytes: int = 32 * MIB
    max_member_bytes: int = 256 * MIB
    max_total_bytes: int = 256 * 1024 * MIB
    max_ratio: int = 250
    ratio_from: int = 16 * MIB
    max_dictionary_bytes: int = 128 * MIB
    max_frames: int = 500_000
    max_shots: int = 20_000


class BadMember(DataError):
    """This member is left out, and the others go on. Counted under `reason`.

    Args:
        reason: a short slug: unsafe_name, hidden, link, encrypted, too_large, bomb, truncated, unreadable, overlap, ...
        detail: one line for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class BrokenArchive(DataError):
    """Nothing more can be read of this archive."""
