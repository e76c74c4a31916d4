"""Anima's whole path on real pictures with the real tokenizers of Qwen and T5, beside SD3.5's over the same shards.

Text encoder, autoencoder and backbone are small ones with random weights. Every step is the verb that a user types.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model, T5TokenizerFast

from animeflow.app.compose import compose
from animeflow.app.weights import exported_family, trained_family
from animeflow.app.wiring import family
from animeflow.core import files
from animeflow.data.index import CacheIndex
from animeflow.data.reader import ShardSet
from animeflow.image.decode import decode
from animeflow.model.anima.codec import untrained_qwen_codec
from animeflow.model.anima.text_tower import AnimaTextTower
from animeflow.sample.png import read_recipe

CAPTION = "1girl, solo, long hair, blue eyes, school uniform"  # 13 tokens of Qwen, 14 of T5 with its end
LAYOUTS = ("diffusers", "comfyui", "single_file", "diffusion_only")
FOLDERS = ("renpy", "thequestion")  # of the pictures, 30 of them


@pytest.fixture(scope="module")
def text(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 of the real vocabulary with the real tokenizers, as a diffusers pipeline keeps them."""
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151936, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32,
    )  # fmt: skip
    qwen = Qwen2Tokenizer.from_pretrained(test_data / "tokenizers" / "qwen")
    t5 = T5TokenizerFast.from_pretrained(test_data / "tokenizers" / "t5")
    AnimaTextTower(Qwen3Model(config), qwen, t5).save(folder)
    return folder


@pytest.fixture(scope="module")
def words(
    test_data: Path, text: Path, animeflow: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ...]:
    """The words of a command line whose set, run and exports are there."""
    folder = tmp_path_factory.mktemp("anima")
    untrained_qwen_codec().save(folder / "vae")
    for name in FOLDERS:
        shutil.copytree(test_data / "images" / name, folder / "pictures" / name)
    shared = (f"set={folder}/set", f"catalogue.root={folder}/pictures", "catalogue.workers=0", "data.shard.workers=0",
              "data.cache.variants=1", "train.threads=1")  # fmt: skip
    words = (
        "experiment=anima_pictures_tiny", *shared, f"run={folder}/run", f"model.codec={folder}/vae", f"model.text={text}",
        "model.vocabulary_size=32128", "train.images=32", "train.samples.every_images=0",
        "train.validate.every_images=0", "train.validate.images=2", f"export.layouts=[{','.join(LAYOUTS)}]",
        "export.dtype=fp32", "sample.steps=2", "sample.prompts=['1girl, (smile:1.4), @artist']",
    )  # fmt: skip
    for verb in ("catalogue", "shard"):
        animeflow(verb, *words)
    animeflow("cache", "experiment=pictures_tiny", *shared, f"model.codec={test_data}/weights/taesd3")
    for verb in ("cache", "train", "export", "sample", "report"):
        animeflow(verb, *words)
    return words


def test_the_caches_of_two_families_lie_side_by_side_over_the_same_shards(words: tuple[str, ...]) -> None:
    config = compose(words)
    shards = ShardSet(Path(config["set"]) / "shards")
    ours, other = (CacheIndex(Path(config["set"]) / "cache" / name) for name in ("anima", "sd35"))
    assert ours.uids == other.uids == shards.uids and len(shards.uids) > 10
    assert ours.manifest["identity"]["shards"] == other.manifest["identity"]["shards"]
    assert ours.manifest["identity"] != other.manifest["identity"]


def test_cached_rows_are_ragged_and_come_before_the_adapter(words: tuple[str, ...]) -> None:
    config = compose(words)
    fam, index = family(config), CacheIndex(Path(config["set"]) / "cache" / "anima")
    lengths = set()
    for uid in index.uids[:8]:
        for caption, address in zip(index.captions([uid])[uid], index.caption_addresses(uid), strict=True):
            row, tower = index.texts.get(address), fam.text_tower()
            assert row.keys() == {"qwen", "t5_ids"}
            assert row["qwen"].shape == (len(tower.tokenizer(caption)["input_ids"]), 64)
            assert row["t5_ids"].tolist() == tower.t5_tokenizer(caption)["input_ids"]
            torch.testing.assert_close(
                row["qwen"].float(), tower.encode([caption])[0]["qwen"].float(), rtol=2**-6, atol=1e-2
            )
            lengths.add(len(row["qwen"]))
    assert len(lengths) > 1
    empty = index.texts.get(index.empty)
    assert empty["qwen"].shape == (0, 64) and empty["t5_ids"].tolist() == [1]


def test_the_real_tokenizers_count_as_known(words: tuple[str, ...]) -> None:
    tower = family(compose(words)).text_tower()
    assert tower.num_tokens(CAPTION) == {"qwen": (13, 13), "t5": (14, 14)}
    assert tower.tokenizer("")["input_ids"] == [] and tower.tokenizer.pad_token_id == 151643
    row = tower.encode(["初音ミク (vocaloid)"])[0]
    assert 2 in row["t5_ids"].tolist()  # T5 knows no Japanese: it asks with an unknown token, and Qwen's states answer
    assert len(row["qwen"]) > 4


def test_every_layout_gives_back_the_weights_and_their_picture(
    words: tuple[str, ...], animeflow: Callable[..., str], tmp_path: Path
) -> None:
    config = compose(words)
    trained, export = trained_family(config)[0].backbone().export_state(), Path(config["run"]) / "export"
    (first,) = sorted((Path(config["run"]) / "pictures").glob("000_*.png"))
    drawn = decode(first.read_bytes()).pixels
    for layout in LAYOUTS:
        read = exported_family(config, str(export / layout)).backbone().export_state()
        assert read.keys() == trained.keys() and all(torch.equal(read[name], trained[name]) for name in read), layout
    for layout in ("diffusers", "comfyui"):
        animeflow("sample", *words, f"sample.source={export / layout}", f"sample.out={tmp_path / layout}")
        again = decode((tmp_path / layout / first.name).read_bytes()).pixels
        assert np.abs(again.astype(int) - drawn).max() <= 1, layout


def test_an_export_is_the_beginning_of_another_run(words: tuple[str, ...]) -> None:
    config = compose(words)
    export, trained = Path(config["run"]) / "export", trained_family(config)[0].backbone().export_state()
    for layout in LAYOUTS:
        begun = family(compose([*words, f"model.weights={export / layout}", "model.adapter=freeze"])).backbone()
        assert all(torch.equal(tensor, trained[name]) for name, tensor in begun.export_state().items()), layout


def test_another_adapter_mode_or_no_rate_for_it_is_told(words: tuple[str, ...], animeflow: Callable[..., str]) -> None:
    said = animeflow("sample", *words, "model.adapter=lora", code=2)
    assert "these weights are of another network" in said and "lora_A" in said
    assert "its learning rate is not set" in animeflow("train", *words, "optim.rates=null", code=2)


def test_comfyuis_three_files_lie_where_it_looks_and_are_read_back(words: tuple[str, ...], test_data: Path) -> None:
    config = compose(words)
    tree = Path(config["run"]) / "export" / "comfyui"
    found = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.safetensors"))
    assert found == [
        "diffusion_models/anima_pictures.safetensors",
        "text_encoders/qwen_3_06b_base.safetensors",
        "vae/qwen_image_vae.safetensors",
    ]
    with safe_open(tree / found[0], framework="pt") as file:
        assert {"net.blocks.0.mlp.layer1.weight", "net.llm_adapter.blocks.0.cross_attn.q_proj.weight"} <= set(
            file.keys()
        )
        assert all(name.startswith("net.") for name in file.keys())  # noqa: SIM118
    assert files.read_json(tree.parent / "manifest.json")["layouts"] == list(LAYOUTS)


def test_the_card_says_how_the_adapter_learned_and_how_to_sample(words: tuple[str, ...]) -> None:
    run = Path(compose(words)["run"])
    record, card = files.read_json(run / "export" / "record.json"), (run / "export" / "README.md").read_text()
    assert record["model_settings"] == {"adapter": "train", "empty prompt": "masked"}
    assert record["sampling"] == {
        "solver": "euler", "schedule": "linear", "steps": 2, "shift": 3.0, "cfg": 4.5, "negative": "",
    }  # fmt: skip
    assert "adapter: train" in card and "| schedule | linear |" in card and "Settings: not recorded" not in card


def test_pictures_say_which_weights_drew_them(words: tuple[str, ...]) -> None:
    run = Path(compose(words)["run"])
    of_run = read_recipe(run / "pictures" / "000_0.png")
    assert of_run["weights"] == {"run": "anima_pictures", "images_seen": 32, "kind": "ema"}
    shown = sorted((run / "samples").glob("*/0.png"))
    assert shown and all(
        read_recipe(path)["weights"] == {"images_seen": int(path.parent.name), "kind": "ema"} for path in shown
    )
    assert not any("random" in str(read_recipe(path)) for path in (run / "pictures" / "000_0.png", *shown))


@pytest.mark.parametrize("below", ["", "diffusers"])
def test_the_path_of_an_export_is_all_that_sampling_needs(
    below: str, words: tuple[str, ...], animeflow: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, place = compose(words), Path(compose(words)["run"])
    monkeypatch.chdir(tmp_path)
    animeflow("sample", f"sample.source={place / 'export' / below}", *(w for w in words if w.startswith("sample.")))
    (ours,) = (tmp_path / "runs" / config["name"] / "pictures").glob("000_*.png")
    recipe = read_recipe(ours)
    assert recipe["weights"] == {"run": "anima_pictures", "images_seen": 32, "kind": "ema", "source": "diffusers"}
    drawn = decode((place / "pictures" / ours.name).read_bytes()).pixels
    assert np.abs(decode(ours.read_bytes()).pixels.astype(int) - drawn).max() <= 1


def test_a_layout_without_the_text_encoders_tokenizers_says_so(
    words: tuple[str, ...], animeflow: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, text = Path(compose(words)["run"]), next(word for word in words if word.startswith("model.text="))
    monkeypatch.chdir(tmp_path)
    source = f"sample.source={place / 'export' / 'comfyui'}"  # brings the codec; its text encoder has no tokenizers
    said = animeflow("sample", source, "sample.prompts=1girl", code=2)
    assert "no text encoder" in said and "model.text=" in said
    animeflow("sample", source, "sample.prompts=1girl", "sample.steps=1", text)


def test_a_runs_own_model_settings_are_known_by_its_name(
    words: tuple[str, ...], animeflow: Callable[..., str], tmp_path: Path
) -> None:
    run = next(word for word in words if word.startswith("run="))
    animeflow("sample", run, "model.adapter=freeze", "sample.steps=1", f"sample.out={tmp_path}")
    assert read_recipe(tmp_path / "000_0.png")["model"]["adapter"] == "freeze"
    said = animeflow("sample", run, "model.adaptr=freeze", code=2)
    assert "did you mean 'model.adapter'" in said


def test_the_report_shows_the_run(words: tuple[str, ...]) -> None:
    page = (Path(compose(words)["run"]) / "report.html").read_text()
    assert "anima" in page and "StableDiffusion" not in page
