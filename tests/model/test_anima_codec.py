"""Qwen-Image's autoencoder as a codec for pictures: the constants, the 2-D path, files."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from safetensors.torch import save_file

from animeflow.core import seed
from animeflow.core.errors import ConfigError, DataError
from animeflow.model.anima.codec import QwenCodec, load_anima_codec, qwen_net, untrained_qwen_codec
from animeflow.model.anima.keymap_vae import vae_to_original
from animeflow.model.toon_codec import untrained_codec

MEAN = [-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921]  # fmt: skip
STD = [2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
       3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160]  # fmt: skip


def plain_net() -> AutoencoderKLQwenImage:
    """diffusers' network as it comes, with the weights of the small codec."""
    net = qwen_net(base_dim=8, num_res_blocks=1).eval()
    net.load_state_dict(untrained_qwen_codec().net.state_dict())
    return net


@pytest.fixture(scope="module")
def codec() -> QwenCodec:
    return untrained_qwen_codec()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return 2 * torch.rand(2, 3, 64, 40, generator=seed.generator(0, "pixels")) - 1


def test_the_constants_are_those_of_the_released_latents(codec):
    assert codec.mean.tolist() == pytest.approx(MEAN)
    assert codec.std.tolist() == pytest.approx(STD)


@torch.no_grad()
def test_encode_is_the_video_codecs_mode_of_one_frame_normalised(codec, pixels):
    mode = plain_net().encode(pixels[:, :, None]).latent_dist.mode()
    mean, std = (torch.tensor(values)[None, :, None, None, None] for values in (MEAN, STD))
    torch.testing.assert_close(codec.encode(pixels), ((mode - mean) / std)[:, :, 0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_decode_is_the_video_codecs_frame(codec, pixels):
    latents = codec.encode(pixels)
    mean, std = (torch.tensor(values)[None, :, None, None, None] for values in (MEAN, STD))
    expected = plain_net().decode(latents[:, :, None] * std + mean).sample[:, :, 0]
    torch.testing.assert_close(codec.decode(latents), expected, rtol=0, atol=1e-5)


def test_a_large_batch_goes_through_in_parts_and_comes_back_whole(codec, pixels, monkeypatch):
    latents = codec.encode(pixels)
    pictures = codec.decode(latents)
    monkeypatch.setattr("animeflow.model.anima.codec.PIXELS_AT_ONCE", 64 * 40)
    seen = []
    codec.net.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    torch.testing.assert_close(codec.encode(pixels), latents, rtol=0, atol=1e-6)
    torch.testing.assert_close(codec.decode(latents), pictures, rtol=0, atol=1e-5)
    assert seen == [1, 1]


@torch.no_grad()
def test_a_longer_clip_still_goes_through_the_network_as_before(codec):
    """What was done to the convolutions for pictures must not change what the saved network means."""
    clip = 2 * torch.rand(1, 3, 5, 32, 32, generator=seed.generator(0, "clip")) - 1
    torch.testing.assert_close(
        codec.net.encode(clip).latent_dist.mode(), plain_net().encode(clip).latent_dist.mode(), rtol=0, atol=1e-5
    )


def test_a_saved_codec_is_the_same_codec(codec, pixels, tmp_path):
    codec.save(tmp_path)
    again = load_anima_codec(tmp_path)
    assert isinstance(again, QwenCodec)
    assert again.fingerprint == codec.fingerprint
    assert torch.equal(again.encode(pixels), codec.encode(pixels))


def test_a_single_file_is_the_same_codec(codec, pixels, tmp_path):
    file = tmp_path / "qwen_image_vae.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in vae_to_original(codec.net.state_dict()).items()}, file)
    again = load_anima_codec(file)
    assert again.fingerprint == codec.fingerprint
    assert torch.equal(again.encode(pixels), codec.encode(pixels))


def test_other_constants_are_another_codec(codec):
    net = qwen_net(base_dim=8, num_res_blocks=1, latents_mean=[0.0] * 16)
    net.load_state_dict(codec.net.state_dict())
    assert QwenCodec(net).fingerprint != codec.fingerprint


def test_constants_that_do_not_fit_the_channels_are_told():
    with pytest.raises(DataError, match="16 latent channels with 3 means"):
        QwenCodec(qwen_net(base_dim=8, num_res_blocks=1, latents_mean=[0.0] * 3))


def test_the_small_codec_of_the_demo_loads_too(tmp_path):
    small = untrained_codec()
    small.save(tmp_path)
    assert load_anima_codec(tmp_path).fingerprint == small.fingerprint


def test_a_missing_codec_says_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match="qwen_image_vae"):
        load_anima_codec(tmp_path / "nowhere")


def test_pixels_that_do_not_fit_are_told(codec):
    with pytest.raises(ConfigError, match="multiples of 8"):
        codec.encode(torch.zeros(1, 3, 60, 64))
