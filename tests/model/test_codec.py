"""Codecs: normalisation, both file forms of TAESD, identity, real pictures, and the one that is trained here."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from animeflow.core import seed
from animeflow.core.errors import ConfigError, DataError
from animeflow.model.codec import KLCodec, TinyCodec, load_codec
from animeflow.model.sd35.family import SD35
from animeflow.model.toon_codec import round_trip_psnr, toon_net, train_toon_codec, untrained_codec
from animeflow.model.toon_start import settle_latents, start_at_principal_directions


def pixels(height: int = 32, width: int = 48, batch: int = 2) -> torch.Tensor:
    return 2 * torch.rand(batch, 3, height, width, generator=seed.generator(0, "pixels", height, width)) - 1


def small_kl() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            latent_channels=16,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )


def drawn(count: int, size: int = 64) -> np.ndarray:
    """Flat shapes with outlines, `[N, size, size, 3]`."""
    rng = np.random.default_rng(0)
    pictures = np.empty((count, size, size, 3), np.uint8)
    for picture in pictures:
        picture[:] = rng.integers(0, 256, 3)
        for _ in range(4):
            centre, radius = rng.integers(0, size, 2).tolist(), int(rng.integers(6, size // 3))
            cv2.circle(picture, centre, radius, rng.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
            cv2.circle(picture, centre, radius, (20, 20, 30), 2, cv2.LINE_AA)
    return pictures


def test_kl_latents_are_the_mode_in_model_space():
    net = small_kl()
    codec = KLCodec(net)
    mode = net.encode(pixels()).latent_dist.mode()
    latents = codec.encode(pixels())
    assert (codec.channels, codec.stride) == (16, 8)
    torch.testing.assert_close(latents, (mode - 0.0609) * 1.5305)
    torch.testing.assert_close(codec.decode(latents), net.decode(mode).sample.clamp(-1, 1), rtol=1e-4, atol=1e-5)


def test_codecs_load_back_with_their_identity(tmp_path):
    for name, codec in (("kl", KLCodec(small_kl())), ("tiny", untrained_codec(seed=1))):
        codec.save(tmp_path / name)
        for loaded in (load_codec(tmp_path / name), SD35("tiny", codec=tmp_path / name).codec()):
            assert type(loaded) is type(codec)
            assert loaded.fingerprint == codec.fingerprint
            assert torch.equal(loaded.encode(pixels()), codec.encode(pixels()))


def test_the_codec_beside_the_weights_is_found(tmp_path):
    codec = untrained_codec(seed=4)
    SD35("tiny", vocabulary=["a"]).backbone().net.save_pretrained(tmp_path / "transformer")
    codec.save(tmp_path / "vae")
    family = SD35("tiny", vocabulary=["a"], weights=tmp_path)
    assert family.codec().fingerprint == codec.fingerprint
    assert {part.name: part.parameters for part in family.sizes()}["codec"] == codec.num_parameters


def test_the_fingerprint_follows_weights_and_normalisation():
    other_scale = small_kl()
    other_scale.register_to_config(scaling_factor=1.0)
    codecs = [KLCodec(small_kl()), KLCodec(other_scale), untrained_codec(seed=0), untrained_codec(seed=1)]
    assert len({codec.fingerprint for codec in codecs}) == 4
    assert untrained_codec(seed=0).fingerprint == codecs[2].fingerprint


def test_taesds_own_names_load_as_diffusers():
    net = AutoencoderTiny(latent_channels=16, num_encoder_blocks=(1, 3, 3, 3), num_decoder_blocks=(3, 3, 3, 1))
    state = net.state_dict()
    encoder = {
        name.removeprefix("encoder.layers."): value for name, value in state.items() if name.startswith("encoder")
    }
    decoder = {}
    for name, value in state.items():
        if name.startswith("decoder"):
            number, rest = name.removeprefix("decoder.layers.").split(".", 1)
            decoder[f"{int(number) + 1}.{rest}"] = value
    native = TinyCodec.native(encoder, decoder)
    assert native.fingerprint == TinyCodec(net).fingerprint
    with pytest.raises(DataError, match="not the layers of TAESD"):
        TinyCodec.native(encoder, {**decoder, "99.weight": torch.zeros(1)})


def test_missing_folders_and_sizes_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no codec folder"):
        load_codec(tmp_path / "nowhere")
    with pytest.raises(DataError, match="0 encoder and 0 decoder"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "VQModel"}')
    with pytest.raises(DataError, match="VQModel"):
        load_codec(tmp_path)
    with pytest.raises(ConfigError, match="multiples of 8"):
        untrained_codec().encode(torch.zeros(1, 3, 20, 16))


def test_taesd3_reaches_its_known_quality_on_a_real_picture(test_data):
    codec = TinyCodec.load(test_data / "weights" / "taesd3")
    picture = cv2.imread(str(test_data / "images" / "renpy" / "concert1.png"))
    height, width = (round(side * 256 / max(picture.shape)) // 8 * 8 for side in picture.shape[:2])
    small = cv2.resize(picture[:, :, ::-1], (width, height), interpolation=cv2.INTER_AREA)
    assert (codec.channels, codec.stride) == (16, 8)
    # 26.7 dB at 448 pixels, where it takes ten times as long
    assert round_trip_psnr(codec, torch.from_numpy(small).permute(2, 0, 1)[None]) == pytest.approx(25.06, abs=0.1)


def test_the_encoder_starts_at_the_principal_directions():
    pictures = torch.from_numpy(drawn(48)).permute(0, 3, 1, 2).float() / 255
    net = toon_net(seed=0)
    start_at_principal_directions(net, pictures)
    with torch.no_grad():
        latents = net.encoder(2 * pictures - 1)
    correlation = torch.corrcoef(latents.transpose(0, 1).flatten(1))
    assert latents.std((0, 2, 3)).sub(1).abs().max() < 0.01
    assert (correlation - torch.eye(16)).abs().max() < 0.1  # not exact: the directions are found level by level


def test_settling_changes_the_basis_and_not_the_function():
    pictures = torch.from_numpy(drawn(48)).permute(0, 3, 1, 2).float() / 255
    net = toon_net(seed=0)
    start_at_principal_directions(net, pictures)
    with torch.no_grad():
        net.encoder.layers[-1].weight.mul_(0.05)  # small latents, so that the decoder's clamp plays no part
        net.decoder.layers[0].weight.mul_(20)
        before = net.encoder(2 * pictures - 1)
        first = net.decoder.layers[0](before)[..., 1:-1, 1:-1]
        settle_latents(net, pictures)
        after = net.encoder(2 * pictures - 1)
        again = net.decoder.layers[0](after)[..., 1:-1, 1:-1]
    torch.testing.assert_close(first, again, rtol=1e-3, atol=1e-3)
    assert after.mean((0, 2, 3)).abs().max() < 1e-3
    torch.testing.assert_close(after.std((0, 2, 3)), torch.ones(16), rtol=1e-2, atol=1e-2)


def test_training_is_a_function_of_steps_and_seed_and_improves():
    pictures = drawn(48)
    first, record = train_toon_codec(pictures, steps=40, seed=0)
    second, again = train_toon_codec(list(pictures), steps=40, seed=0)
    other, less = train_toon_codec(pictures, steps=10, seed=1)
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert record.psnr == again.psnr > less.psnr + 1
    assert record.steps == 40
    latents = first.encode(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1)
    assert latents.shape == (48, 16, 8, 8)
    assert latents.std((0, 2, 3)).sub(1).abs().max() < 0.1
    assert record.clamped < 0.05


def test_too_few_pictures_cannot_train_a_codec():
    with pytest.raises(ConfigError, match="8 pictures of 64x64"):
        train_toon_codec(drawn(8))
