"""The whole path on 111 real pictures, with the tokenizers and the 16-channel autoencoder that SD3's users have.

Only the text encoders and the backbone are small ones with random weights. Every step is the verb that a user types.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from animeflow.app.compose import compose
from animeflow.app.verbs import cache
from animeflow.app.weights import exported_family, trained_family
from animeflow.app.wiring import bucket_plan, family
from animeflow.catalogue.table import Catalogue
from animeflow.core import files
from animeflow.data.index import CacheIndex
from animeflow.data.manifest import Manifest
from animeflow.data.reader import ShardSet
from animeflow.image.decode import decode
from animeflow.image.resize import fit
from animeflow.model.codec import load_codec
from animeflow.sample.png import read_recipe

CLIP_WIDTH, T5_WIDTH = 64, 128  # two CLIPs side by side are as wide as T5, and as sd35/tiny wants its text
PICTURES = 111


@dataclass(frozen=True)
class Journey:
    """What the verbs left behind, and the words that made them."""

    folder: Path
    words: tuple[str, ...]
    printed: dict[str, str]

    @property
    def config(self) -> dict[str, Any]:
        return compose(self.words)

    @property
    def set(self) -> Path:
        return self.folder / "set"

    @property
    def run(self) -> Path:
        return self.folder / "run"


@pytest.fixture(scope="module")
def journey(test_data: Path, animeflow: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Journey:
    folder = tmp_path_factory.mktemp("real")
    save_text_encoders(folder / "text", test_data / "tokenizers")
    shutil.copy(test_data / "images" / "posts.jsonl", folder / "posts.jsonl")
    words = (
        "experiment=pictures_tiny", "catalogue=danbooru", f"set={folder}/set", f"run={folder}/run",
        f"catalogue.root={test_data}/images", f"catalogue.posts={folder}/posts.jsonl", "catalogue.workers=0",
        "data.shard.workers=0", f"model.codec={test_data}/weights/taesd3", f"model.text={folder}/text",
        "data.cache.variants=2", "train.threads=1", "train.images=48", "train.log_every_images=16",
        "train.checkpoint_every_images=32", "train.samples.every_images=0", "train.validate.images=4",
        "train.validate.every_images=48", "export.layouts=[diffusers,single_file]", "export.dtype=fp32", "sample.steps=3",
    )  # fmt: skip
    printed = {verb: animeflow(verb, *words) for verb in ("catalogue", "shard", "cache", "train", "export", "sample")}
    return Journey(folder, words, printed)


def save_text_encoders(folder: Path, tokenizers: Path) -> None:
    """Random CLIP-L, CLIP-G and T5 of the real vocabularies with the real tokenizers, as a diffusers pipeline keeps them."""
    torch.manual_seed(0)
    for suffix in ("", "_2"):
        clip = CLIPTextConfig(
            vocab_size=49408, hidden_size=CLIP_WIDTH, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            projection_dim=CLIP_WIDTH, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
        )  # fmt: skip
        CLIPTextModelWithProjection(clip).save_pretrained(folder / f"text_encoder{suffix}")
        tokenizer = CLIPTokenizer.from_pretrained(tokenizers / "clip", model_max_length=77)
        tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
    t5 = T5Config(vocab_size=32128, d_model=T5_WIDTH, d_kv=32, d_ff=128, num_layers=2, num_heads=4)
    T5EncoderModel(t5).save_pretrained(folder / "text_encoder_3")
    T5TokenizerFast.from_pretrained(tokenizers / "t5").save_pretrained(folder / "tokenizer_3")


def pixels_at(path: Path, height: int, width: int) -> torch.Tensor:
    """`[1, 3, H, W]` in [-1, 1], over white, resized as the published figures were: Lanczos to multiples of 8."""
    picture = Image.fromarray(decode(path.read_bytes()).pixels).resize((width, height), Image.Resampling.LANCZOS)
    return as_tensor(np.asarray(picture))


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


# -- catalogue and shards ----------------------------------------------------------------------------------------------


def test_every_file_is_catalogued_or_refused_with_a_reason(journey: Journey, test_data: Path) -> None:
    catalogue = Catalogue(journey.set / "catalogue")
    found = {str(path) for path in (test_data / "images").rglob("*") if path.is_file()}
    taken = {str(catalogue.root / post.path) for post in catalogue.posts()}
    refused = {rejection.path: rejection for rejection in catalogue.rejections}
    assert len(taken) == PICTURES == len(catalogue)
    assert taken | refused.keys() == found and not taken & refused.keys()
    assert all(rejection.reason and rejection.detail for rejection in refused.values())
    assert f"{len(found)} found = {PICTURES} added + 0 known + {len(refused)} rejected" in journey.printed["catalogue"]
    summary = catalogue.summary()
    assert summary["format"] == {"JPEG": 14, "PNG": 92, "WEBP": 5}
    assert summary["split"]["val"] > 0
    eileen = next(post for post in catalogue.posts() if post.source_id == "9000001")
    assert (eileen.width, eileen.height, eileen.rating) == (320, 720, "general")
    assert eileen.tags["character"] == ["eileen_(ren'py)"] and eileen.tags["copyright"] == ["ren'py"]


def test_shards_hold_every_picture_once_or_say_why_not(journey: Journey) -> None:
    manifest = Manifest.read(journey.set / "shards")
    posts = {post.uid: post for post in Catalogue(journey.set / "catalogue").posts()}
    keys = []
    for path in sorted((journey.set / "shards").rglob("*.tar")):
        with tarfile.open(path) as tar:
            keys += [name for name in tar.getnames() if name.endswith(".png")]
    written = [int(name.removesuffix(".png"), 16) for name in keys]
    refused = [rejection.uid for rejection in manifest.rejected]
    assert sorted(written + refused) == sorted(posts)
    assert manifest.found == PICTURES == len(written) + len(refused)
    assert set(manifest.reasons) == {"too_small", "too_cropped"}
    for rejection in manifest.rejected:  # icons and bars of a user interface, and a panorama, in this set
        post = posts[rejection.uid]
        if rejection.reason == "too_small":
            assert min(post.width, post.height) < 128, rejection.path
        else:
            assert max(post.width, post.height) > 4 * min(post.width, post.height), rejection.path
    assert f"{PICTURES} in = {len(written)} written + {len(refused)} rejected" in journey.printed["shard"]


def test_a_shard_keeps_the_pixels_of_one_resize_and_one_crop(journey: Journey, test_data: Path) -> None:
    shards, plan = ShardSet(journey.set / "shards"), bucket_plan(journey.config)
    catalogue = Catalogue(journey.set / "catalogue")
    small = [post for post in catalogue.posts() if post.width * post.height < 400_000 and post.uid in set(shards.uids)]
    for post in small[::6]:
        picture = decode((catalogue.root / post.path).read_bytes())
        expected, _ = fit(picture.pixels, plan.assign(post.height, post.width))
        assert np.array_equal(decode(shards.sample(post.uid).png).pixels, expected), post.path


# -- cache -------------------------------------------------------------------------------------------------------------


def test_cached_rows_are_what_codec_and_text_tower_give(journey: Journey) -> None:
    index, shards = CacheIndex(journey.set / "cache" / "sd35"), ShardSet(journey.set / "shards")
    fam = family(journey.config)
    assert index.uids == shards.uids
    uid = index.uids[7]
    latent = index.latents.get(index.latent_address(uid))
    (z_Chw,) = latent.values()
    pixels = as_tensor(decode(shards.sample(uid).png).pixels)
    assert z_Chw.dtype == torch.bfloat16 and z_Chw.shape == (16, pixels.shape[2] // 8, pixels.shape[3] // 8)
    torch.testing.assert_close(z_Chw.float(), fam.codec().encode(pixels)[0], rtol=2**-8, atol=1e-3)
    texts = index.captions([uid])[uid]
    for text, address in [*zip(texts, index.caption_addresses(uid)), ("", index.empty)]:
        row = index.texts.get(address)
        assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in row.items()} == {
            "clip_l": (torch.bfloat16, (77, CLIP_WIDTH)), "clip_g": (torch.bfloat16, (77, CLIP_WIDTH)),
            "pooled_l": (torch.bfloat16, (CLIP_WIDTH,)), "pooled_g": (torch.bfloat16, (CLIP_WIDTH,)),
            "t5": (torch.bfloat16, (77, T5_WIDTH)),
        }  # fmt: skip
        for name, tensor in fam.text_tower().encode([text])[0].items():
            torch.testing.assert_close(row[name].float(), tensor.float(), rtol=2**-6, atol=1e-2)


def test_captions_are_read_by_the_real_tokenizers(journey: Journey) -> None:
    tower = family(journey.config).text_tower()
    caption = "1girl, solo, long hair, blue eyes, school uniform"
    assert {name: tokens for name, (tokens, _) in tower.num_tokens(caption).items()} == {
        "clip_l": 15, "clip_g": 15, "t5": 14,
    }  # fmt: skip
    assert tower.clip_l.tokenizer("")["input_ids"] == [49406, 49407]
    uids = CacheIndex(journey.set / "cache" / "sd35").captions(ShardSet(journey.set / "shards").uids)
    assert all(len(texts) == 2 and all("_" not in text.split(", ")[0] for text in texts) for texts in uids.values())


def test_a_second_time_nothing_is_encoded_and_no_byte_changes(journey: Journey, animeflow: Callable[..., str]) -> None:
    def content() -> dict[str, str]:
        kept = [path for path in sorted(journey.set.rglob("*")) if path.is_file() and "index-" not in path.name]
        return {str(path): files.sha256_file(path) for path in kept}

    before, index = content(), CacheIndex(journey.set / "cache" / "sd35")
    assert f"0 added + {PICTURES} known" in animeflow("catalogue", *journey.words)
    animeflow("shard", *journey.words)
    said = animeflow("cache", *journey.words)
    assert "0 latents encoded" in said and "0 captions encoded" in said
    again = CacheIndex(journey.set / "cache" / "sd35")
    assert content() == before and again.hash == index.hash  # the index also holds what its last building cost
    assert [again.caption_addresses(uid) for uid in again.uids] == [index.caption_addresses(uid) for uid in index.uids]


def test_an_edited_caption_is_encoded_again_and_no_other(
    journey: Journey, animeflow: Callable[..., str], tmp_path: Path
) -> None:
    posts = [json.loads(line) for line in (journey.folder / "posts.jsonl").read_text().splitlines()]
    edited = next(post for post in posts if post["id"] == 9000001)
    for key in ("tag_string", "tag_string_general"):
        edited[key] += " holding_umbrella"
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    shutil.copytree(journey.set, tmp_path / "set")
    words = (*journey.words, f"set={tmp_path}/set", f"catalogue.posts={tmp_path}/posts.jsonl")
    before = CacheIndex(tmp_path / "set" / "cache" / "sd35")
    old = before.captions(before.uids)
    assert f"0 added + {PICTURES} known (1 with new facts)" in animeflow("catalogue", *words)
    animeflow("shard", *words)
    assert "made from other shards" in animeflow("train", *words, f"run={tmp_path}/run", code=2)
    report = cache.encode(compose(words))
    after = CacheIndex(tmp_path / "set" / "cache" / "sd35")
    new = after.captions(after.uids)
    changed = [uid for uid in after.uids if new[uid] != old[uid]]
    uid = next(post.uid for post in Catalogue(tmp_path / "set" / "catalogue").posts() if post.source_id == "9000001")
    assert changed == [uid] and any("umbrella" in text for text in new[uid])
    fresh = set(new[uid]) - {text for texts in old.values() for text in texts}
    assert (report.latents_encoded, report.texts_encoded) == (0, len(fresh)) and fresh


# -- training, export, sampling ----------------------------------------------------------------------------------------


def test_a_short_run_stays_finite_and_leaves_checkpoint_and_record(journey: Journey) -> None:
    rows = [json.loads(line) for line in (journey.run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 3 and all(1 < loss < 4 for loss in losses)  # noise - data of unit scale: about 2 at the start
    numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert all(map(math.isfinite, numbers)) and any("val/loss" in row for row in rows)
    fam, images = trained_family(journey.config)
    assert images == 48 and all(bool(torch.isfinite(p).all()) for p in fam.backbone().parameters())
    record = files.read_json(journey.run / "record.json")
    assert record["images_seen"] == 48 and record["parts"]["codec"] == fam.codec().fingerprint
    shards = Manifest.read(journey.set / "shards")
    assert sum(record["data"]["origins"].values()) == shards.written < shards.found, "it tells of pictures left out"
    reasons = shards.reasons
    assert {reason: record["data"]["rejected"][reason] for reason in reasons} == reasons


def test_exports_give_back_the_weights_and_their_pictures(
    journey: Journey, animeflow: Callable[..., str], tmp_path: Path
) -> None:
    trained = trained_family(journey.config)[0].backbone().export_state()
    export = journey.run / "export"
    for source in (export / "diffusers", export / "single_file" / "pictures.safetensors"):
        read = exported_family(journey.config, str(source)).backbone().export_state()
        assert read.keys() == trained.keys() and all(torch.equal(read[name], trained[name]) for name in trained), source
        out = tmp_path / source.stem
        animeflow("sample", *journey.words, f"sample.source={source}", f"sample.out={out}")
        for name in ("000_0.png", "001_0.png"):
            ours, theirs = (decode((folder / name).read_bytes()).pixels for folder in (journey.run / "pictures", out))
            assert np.abs(ours.astype(int) - theirs).max() <= 1
    named = load_file(export / "single_file" / "pictures.safetensors")
    assert all(name.startswith("model.diffusion_model.") for name in named)


def test_a_sampled_picture_carries_its_recipe(journey: Journey) -> None:
    recipe = read_recipe(journey.run / "pictures" / "000_0.png")
    wanted = {"prompt": "1girl, solo, smile", "seed": 0, "steps": 3, "solver": "euler", "nfe": 3}
    assert recipe.items() >= wanted.items()
    assert recipe["model"]["codec"] == load_codec(journey.config["model"]["codec"]).fingerprint
    with Image.open(io.BytesIO((journey.run / "pictures" / "000_0.png").read_bytes())) as picture:
        assert picture.size == (recipe["width"], recipe["height"])
        assert picture.text["parameters"].startswith("1girl, solo, smile\n")


def test_a_plan_counts_what_will_be_trained(journey: Journey, animeflow: Callable[..., str]) -> None:
    printed = animeflow("plan", *journey.words)
    assert "4,309,184 (trained)" in printed and "catalogue, shards" in printed


# -- the autoencoder ---------------------------------------------------------------------------------------------------

# Round trips in fp32, long side 448, dB: the figures known for these files, from another implementation.
PSNR = [
    ("renpy/concert1.png", 280, 448, 26.78),
    ("thequestion/sylvie_green_smile.png", 448, 288, 27.20),
    pytest.param("sachi/sachi_full_trans_1024.png", 448, 312, 31.92, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name, height, width, decibel", PSNR)
def test_taesd3_reaches_its_known_psnr(test_data: Path, name: str, height: int, width: int, decibel: float) -> None:
    codec = load_codec(test_data / "weights" / "taesd3")
    x = pixels_at(test_data / "images" / name, height, width)
    error = (codec.decode(codec.encode(x)) - x).square().mean()
    assert 10 * math.log10(4 / float(error)) == pytest.approx(decibel, abs=0.1)


def test_native_and_diffusers_files_are_one_codec(test_data: Path, tmp_path: Path) -> None:
    native = load_codec(test_data / "weights" / "taesd3")
    native.save(tmp_path)
    saved = load_codec(tmp_path)
    assert saved.fingerprint == native.fingerprint and (saved.channels, saved.stride) == (16, 8)


def test_certify_says_what_is_known_of_them_and_no_more(journey: Journey, animeflow: Callable[..., str]) -> None:
    """No file of them names a generator and no post says who drew it: all of them are of unknown origin, and so it is printed."""
    told = animeflow("certify", *journey.words, code=1)
    assert f"0 of {PICTURES} pictures are known to be synthetic, and {PICTURES} are of unknown origin" in told
    assert f"{PICTURES} of {PICTURES} pictures are of unknown origin" in told
    assert not (journey.set / "catalogue" / "statement.json").exists()
    facts = json.loads(animeflow("certify", *journey.words, "curate.require.origin=false", "--json"))
    assert facts["pictures"] == PICTURES and facts["origins"] == {"unknown": PICTURES}
    assert facts["evidence"] == {} and facts["generators"] == {} and facts["reviewed"] == 0
    assert facts["sources"] == {"danbooru": PICTURES} and facts["ratings"] == {"general": PICTURES}
    assert files.read_json(journey.set / "catalogue" / "statement.json")["pictures"] == PICTURES
    for verb, code in (("certify", 1), ("shard", 2)):
        told = animeflow(verb, *journey.words, "curate.require.origin=true", code=code)
        assert f"{PICTURES} of {PICTURES} pictures are of unknown origin" in told
