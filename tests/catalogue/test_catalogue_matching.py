"""What a file's name says of its post: an md5, and an id only where the name is one."""

from __future__ import annotations

import pytest

from animeflow.catalogue.sources.matching import keys_in

MD5 = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("stem", "keys"),
    [
        ("9000028", ["id 9000028"]),
        ("0009", ["id 9"]),
        ("9000028_p0", ["id 9000028"]),
        ("9000028_p12_master1200", ["id 9000028"]),
        ("9000028_2", ["id 9000028"]),
        ("9000028-512x512", ["id 9000028"]),
        ("9000028_sample", ["id 9000028"]),
        ("post_9000028", ["id 9000028"]),
        (f"9000028_{MD5}", [MD5, "id 9000028"]),
        (f"gelbooru_9000028_{MD5.upper()}", [MD5, "id 9000028"]),
        ("danbooru_9000028_a_girl", ["id 9000028"]),
        (f"__hatsune_miku__{MD5}", [MD5]),
        (f"sample-{MD5}", [MD5]),
        ("2023_x", []),
        ("2023 holidays", []),
        ("img_0001", []),
        ("page-12", []),
        ("123abc", []),
        ("20230101000000", []),
    ],
)
def test_a_name_is_an_id_only_where_it_is_written_as_one(stem: str, keys: list[str]) -> None:
    assert keys_in(stem) == keys
