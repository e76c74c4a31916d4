"""Training or validation, as a function of the picture alone. Knows integers."""

from __future__ import annotations

import hashlib

from ..core.errors import ConfigError


def split_of(uid: int, val_share: float) -> str:
    """`val` for about `val_share` of all pictures, else `train`.

    The same in every run and on every machine; a larger share keeps all of a smaller one's validation pictures.
    """
    if not 0 <= val_share <= 1:
        raise ConfigError(f"val_share={val_share} is not a share", where="catalogue.val_share", do="choose 0 to 1")
    drawn = int.from_bytes(hashlib.blake2b(f"split\x1f{uid}".encode(), digest_size=8).digest(), "big")
    return "val" if drawn < val_share * 2**64 else "train"
