"""`sd35/tiny` for every test of this folder."""

from __future__ import annotations

import pytest
import torch
from small_models import small_vae, stirred

from animeflow.model.codec import KLCodec
from animeflow.model.sd35.family import SD35


@pytest.fixture(scope="session")
def family() -> SD35:
    """`sd35/tiny` with the KL autoencoder of SD3's layout; not for changing."""
    tiny = SD35(
        "tiny", vocabulary=["blue hair", "red eyes", "1girl", "night"], clip_length=20, codec=KLCodec(small_vae())
    )
    stirred(tiny.backbone())
    return tiny


@pytest.fixture(scope="session")
def state(family: SD35) -> dict[str, torch.Tensor]:
    return family.backbone().export_state()
