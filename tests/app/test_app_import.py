"""kohya's TOML read as words: the numbers arrive, every key is told of, and what would change the meaning stops."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from animeflow.app.cli import main, words
from animeflow.app.compose import compose
from animeflow.app.kohya.book import BECAME, ERROR, NOTE, WARNING, Book
from animeflow.app.kohya.size import pixels
from animeflow.app.kohya.translate import translate
from animeflow.app.verbs import import_kohya
from animeflow.core.errors import ConfigError, DataError
from animeflow.learn.settings import LoraSettings

DATASET = """
[general]
shuffle_caption = true
caption_extension = ".txt"
keep_tokens = 2
flip_aug = true
color_aug = false

[[datasets]]
resolution = [1024, 1024]
batch_size = 4
enable_bucket = true
min_bucket_reso = 512
max_bucket_reso = 1536

  [[datasets.subsets]]
  image_dir = "{root}/10_eileen girl"
  num_repeats = 10
  class_tokens = "eileen girl"
  caption_dropout_rate = 0.05

  [[datasets.subsets]]
  image_dir = "{root}/it's = a, [pläce] ${{x}}"
  class_tokens = "sylvie"
  caption_dropout_rate = 0.05

  [[datasets.subsets]]
  image_dir = "{root}/girls"
  class_tokens = "girl"
  is_reg = true
"""

FIRST = """
[model]
pretrained_model_name_or_path = "models/sd3.5 medium, fp16.safetensors"
clip_l = "models/clip_l.safetensors"
[network]
network_module = "networks.lora_sd3"
network_dim = 32
network_alpha = 16
network_args = ["context_mod_dim=0", "x_mlp_dim=8", "loraplus_unet_lr_ratio=4"]
network_train_unet_only = true
[training]
optimizer_type = "AdamW8bit"
optimizer_args = ["weight_decay=0.1", "betas=0.9,0.95"]
learning_rate = 1e-4
unet_lr = "4e-4"
lr_scheduler = "constant_with_warmup"
lr_warmup_steps = 100
max_train_steps = 1500
gradient_accumulation_steps = 2
mixed_precision = "fp16"
save_precision = "bf16"
seed = 42
output_name = "eileen: v1"
weighting_scheme = "logit_normal"
logit_mean = 0.5
training_shift = 2.0
gradient_checkpointing = true
cache_latents = true
sample_every_n_steps = 250
min_snr_gamma = 5
netwrk_dropout = 0.1
"""

SECOND = """
pretrained_model_name_or_path = "models/base.safetensors"
vae = "models/vae.safetensors"
qwen3 = "models/qwen.safetensors"
network_module = "networks.lora_{family}"
network_dim = 8
learning_rate = 1e-4
optimizer_type = "Prodigy"
optimizer_args = ["d_coef=2", "safeguard_warmup=True", "decouple=True"]
lr_scheduler = "cosine"
max_train_epochs = 3
train_batch_size = 2
resolution = "768,768"
train_data_dir = "{root}"
timestep_sampling = "shift"
discrete_flow_shift = 3.0
sigmoid_scale = 1.25
save_every_n_epochs = 1
"""


def second(root: Path, **changes: str) -> str:
    """The other family's config; its name is known to the folder of configs only."""
    from animeflow.app.kohya.kin import families

    name = next(kin.name for kin in families() if kin.timesteps == "sampling")
    text = SECOND.format(root=root, family=name)
    for key, value in changes.items():
        lines = [line for line in text.splitlines() if not line.startswith(f"{key} ")]
        text = "\n".join([*lines, f"{key} = {value}"])
    return text


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def composed(book: Book) -> dict:
    return compose([str(word) for word in book.words.values()])


def lines(book: Book, key: str) -> list[tuple[str, str]]:
    return [(line.level, line.text) for line in book.lines if key in line.said]


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Folders with as many (empty) picture files as their names say."""
    root = tmp_path / "data"
    for name, count in (("10_eileen girl", 3), ("2_sylvie", 4), ("notes", 1)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.png").touch()
            (root / name / f"{i}.txt").touch()
    return root


@pytest.fixture
def first(tmp_path) -> Book:
    files = [written(tmp_path, "config.toml", FIRST), written(tmp_path, "data.toml", DATASET.format(root=tmp_path))]
    return translate(files)[0]


def test_the_numbers_arrive(first, tmp_path) -> None:
    config = composed(first)
    learn = LoraSettings(**{key: value for key, value in config["learn"].items() if key in ("rank", "alpha", "ranks")})
    assert (learn.rank, learn.alpha) == (32, 16)
    assert learn.rank_of("transformer_blocks.3.norm1_context.linear") == 0
    assert learn.rank_of("transformer_blocks.3.ff.net.0.proj") == 8
    assert learn.rank_of("transformer_blocks.3.ff_context.net.0.proj") == 32
    load, optim, recipe = config["data"]["loader"], config["optim"], config["recipe"]
    assert (load["batch"], load["micro_batch"], config["train"]["images"]) == (8, 4, 12_000)
    assert (optim["kind"], optim["lr"], optim["weight_decay"], optim["betas"]) == ("adamw8bit", 4e-4, 0.1, [0.9, 0.95])
    assert (optim["lora_plus"], optim["schedule"]) == (4, {"kind": "constant", "warmup_images": 800})
    assert recipe["weight"] == {"space": "x0", "form": "none"}
    assert (recipe["density"]["mean"], recipe["density"]["floor_share"], recipe["shift"]["value"]) == (0.5, 0.0, 2)
    assert (config["train"]["precision"], config["train"]["samples"]["every_images"]) == ("bf16", 2000)
    assert (config["seed"], config["name"], config["export"]["dtype"]) == (42, "eileen_ v1", "bf16")
    assert config["model"]["weights"] == "models/sd3.5 medium, fp16.safetensors"
    bucket = config["data"]["bucket"]
    assert (bucket["kind"], bucket["budget"], bucket["step"], bucket["max_aspect"]) == ("pixels", 1024 * 1024, 64, 3)
    assert (config["text"]["keep_first"], config["text"]["shuffle"], load["caption_dropout"]) == (2, 1.0, 0.05)


def test_folders_become_concepts_whatever_they_are_called(first, tmp_path) -> None:
    config = composed(first)
    roots = {name: node["root"] for name, node in config["catalogue"]["source"]["concepts"].items()}
    assert roots == {
        "eileen": f"{tmp_path}/10_eileen girl",
        "sylvie": f"{tmp_path}/it's = a, [pläce] ${{x}}",
        "girls_prior": f"{tmp_path}/girls",
    }
    assert config["text"]["concepts"] == {
        "eileen": {"trigger": "eileen", "class": "girl"},
        "sylvie": {"trigger": "sylvie"},
        "girls_prior": {"class": "girl", "prior": True},
    }
    assert config["data"]["loader"]["repeats"] == {"eileen": 10}


def test_every_key_has_a_line(first) -> None:
    told = " ".join(line.said for line in first.lines)
    missing = [key for key in first.told if key not in told]
    assert missing == []
    for key in ("flip_aug", "color_aug", "shuffle_caption", "keep_tokens", "num_repeats", "is_reg", "image_dir"):
        assert lines(first, key), key


@pytest.mark.parametrize(
    ("key", "level", "text"),
    [
        ("flip_aug", WARNING, "never mirrored"),
        ("color_aug", NOTE, "off"),
        ("min_snr_gamma", WARNING, "noise"),
        ("netwrk_dropout", WARNING, "did you mean 'network_dropout'?"),
        ("cache_latents", NOTE, "always"),
        ("learning_rate", NOTE, "unet_lr goes before it"),
        ("clip_l", WARNING, "model.text"),
        ("network_alpha", BECAME, "scale 0.5"),
    ],
)
def test_what_each_key_is_told(first, key, level, text) -> None:
    assert [found for found in lines(first, key) if found[0] == level and text in found[1]], lines(first, key)
    assert not first.levels(ERROR)


def test_fp16_is_told(first) -> None:
    assert (WARNING, True) in [(level, "bf16" in text) for level, text in lines(first, "mixed_precision")]


def test_folders_named_with_repeats_are_counted(tmp_path, pictures) -> None:
    book, _ = translate([written(tmp_path, "gui.toml", second(pictures))])
    config = composed(book)
    assert not book.levels(ERROR)
    assert config["data"]["loader"]["repeats"] == {"eileen": 10, "sylvie": 2}
    epoch = 3 * 10 + 4 * 2
    assert (config["train"]["images"], config["train"]["checkpoint_every_images"]) == (3 * epoch, epoch)
    assert config["learn"]["alpha"] == 1  # kohya's default, which is not ours
    assert (config["optim"]["kind"], config["optim"]["d_coef"], config["optim"]["safeguard_warmup"]) == (
        "prodigy",
        2,
        True,
    )
    assert config["optim"]["use_bias_correction"] is False  # of Prodigy itself; our preset has it on
    assert config["optim"]["schedule"]["decay_share"] == 0.75
    recipe = config["recipe"]
    assert (recipe["density"]["law"], recipe["density"]["std"], recipe["shift"]) == (
        "logit_normal",
        1.25,
        {"mode": "fixed", "value": 3},
    )
    assert recipe["weight"]["space"] == "v"
    assert config["data"]["bucket"]["sizes"] == ["768x768"]  # without buckets, one size
    assert {key: config["model"][key] for key in ("weights", "codec", "text")} == {
        "weights": "models/base.safetensors",
        "codec": "models/vae.safetensors",
        "text": "models/qwen.safetensors",
    }


def test_the_decay_has_the_mean_of_the_schedule_it_stands_for() -> None:
    from animeflow.app.kohya.optimizer import SAME_MEAN
    from animeflow.optim.schedule import WSD

    schedule = WSD(decay_share=SAME_MEAN["cosine"])
    mean = sum(schedule.factor(i, 10_000) for i in range(10_000)) / 10_000
    assert mean == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("network_module", '"lycoris.kohya"', "lycoris.kohya is not trained here"),
        ("network_args", '["algo=loha"]', "loha"),
        ("network_args", '["algo=lokr"]', "lokr"),
        ("network_args", '["train_llm_adapter=True"]', "frozen"),
        ("optimizer_type", '"Lion"', "Lion"),
        ("weighting_scheme", '"sigma_sqrt"', "without bound"),
        ("timestep_sampling", '"qinglong"', "no counterpart"),
        ("lr_scheduler", '"adafactor"', "no counterpart"),
        ("base_weights", '["other.safetensors"]', "animeflow lora merge"),
        ("caption_extension", '".json"', "not read"),
        ("train_data_dir", '"nowhere"', "not on this machine"),
        ("resolution", '"big"', "no size"),
        ("network_dim", '"many"', "no number"),
    ],
)
def test_what_would_change_the_meaning_is_an_error(tmp_path, pictures, monkeypatch, key, value, text) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {key: value}
    file = written(tmp_path, "config.toml", second(pictures, **changes))
    book, _ = translate([file])
    assert any(text in line.text for line in book.levels(ERROR)), book.levels(ERROR)
    done = CliRunner().invoke(main, ["import", str(file)])
    assert done.exit_code == 2
    assert not list(tmp_path.glob("*.words"))


def test_modules_that_are_a_plain_lora(tmp_path, pictures) -> None:
    changes = {"network_module": '"lycoris.kohya"', "network_args": '["algo=lora", "dora_wd=True"]'}
    book, _ = translate([written(tmp_path, "config.toml", second(pictures, **changes))])
    assert not book.levels(ERROR) and composed(book)["learn"]["dora"]
    book, _ = translate([written(tmp_path, "config.toml", FIRST.replace("networks.lora_sd3", "networks.lora"))])
    assert not book.levels(ERROR)
    assert (NOTE, "read as networks.lora_sd3, the one for this model") in lines(book, "network_module")


def test_words_that_were_edited_are_not_overwritten(tmp_path, pictures, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "config.toml", second(pictures, output_name='"mine"'))
    call = ["import", "config.toml"]
    assert CliRunner().invoke(main, call).exit_code == 0
    assert CliRunner().invoke(main, call).exit_code == 0, "the same again is no change"
    file = tmp_path / "mine.words"
    file.write_text(text := file.read_text(encoding="utf-8") + "seed=7\n", encoding="utf-8")
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 2 and "--out" in done.output and file.read_text(encoding="utf-8") == text
    assert CliRunner().invoke(main, [*call, "--out", "other.words"]).exit_code == 0


def test_the_data_that_a_config_names_is_read(tmp_path, pictures, monkeypatch) -> None:
    """Beside the TOML as well as from here; a file that is missing is said to be, and no run is promised."""
    data = f'[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "{pictures}/2_sylvie"\ncaption_extension = ".txt"\n'
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
    monkeypatch.chdir(here)
    config = written(beside, "config.toml", FIRST.replace("[training]", '[training]\ndataset_config = "data.toml"'))
    done = CliRunner().invoke(main, ["import", str(config), "--out", "a.words"])
    assert done.exit_code == 0 and "no such file" in done.output and "no pictures yet" in done.output
    assert "train:" not in done.output and "look:" not in done.output
    for number, folder in enumerate((beside, here)):
        file = written(folder, "data.toml", data)
        done = CliRunner().invoke(main, ["import", str(config), "--out", f"{number}.words"])
        assert done.exit_code == 0 and "train:" in done.output, done.output
        assert "catalogue.source.concepts.sylvie" in (here / f"{number}.words").read_text(encoding="utf-8")
        given, _ = translate([config, file])
        assert {line.said: line.text for line in translate([config])[0].lines} == {
            each.said: each.text for each in given.lines
        }
        file.unlink()


def test_the_command_writes_words_that_a_run_reads(tmp_path, pictures, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "config.toml", second(pictures, output_name='"my run"'))
    done = CliRunner().invoke(
        main, ["import", "config.toml", "--base", "my models/base, v1.safetensors"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "network_dim = 8" in done.stdout and "-> learn.rank=8" in done.stdout
    file = tmp_path / "my run.words"
    assert "# network_dim = 8\nlearn.rank=8\n" in file.read_text(encoding="utf-8")
    config = compose(words([f"@{file}"]))
    assert (config["name"], config["model"]["weights"]) == ("my run", "my models/base, v1.safetensors")
    next_command = next(line for line in done.stdout.splitlines() if line.startswith("look:"))
    assert shlex.split(next_command)[1:] == ["animeflow", "plan", "@my run.words"]
    done = CliRunner().invoke(main, ["import", "config.toml", "--out", "other.words"], catch_exceptions=False)
    assert done.exit_code == 0 and (tmp_path / "other.words").is_file()


def test_later_words_on_the_command_line_win(first) -> None:
    told = [str(word) for word in first.words.values()]
    assert compose([*told, "learn.rank=4", "train.images=100"])["learn"]["rank"] == 4


def test_malformed_toml_names_line_and_column(tmp_path) -> None:
    file = written(tmp_path, "bad.toml", 'a = 1\nb = "C:\\models"\n')
    with pytest.raises(DataError) as caught:
        translate([file])
    assert str(caught.value.where).endswith("bad.toml:2:10")  # behind the backslash
    assert "single quotes" in str(caught.value.do)
    for text, kind in (
        ("", ConfigError),
        ("[[datasets]]\nresolution = 512\n", ConfigError),
        ("datasets = 3\n", ConfigError),
    ):
        with pytest.raises(kind):
            translate([written(tmp_path, "odd.toml", text)])
    with pytest.raises(DataError):
        translate([tmp_path / "nothing.toml"])


def test_a_model_that_is_none_of_ours_is_refused(tmp_path) -> None:
    text = 'pretrained_model_name_or_path = "flux1-dev.safetensors"\nnetwork_module = "networks.lora_flux"\n'
    with pytest.raises(ConfigError, match="none that can be trained here"):
        translate([written(tmp_path, "flux.toml", text)])


def test_a_dataset_alone_takes_the_model_from_the_command(tmp_path) -> None:
    file = written(tmp_path, "data.toml", DATASET.format(root=tmp_path))
    with pytest.raises(ConfigError):
        translate([file])
    book, kin = translate([file], base="models/stable-diffusion-3.5-medium")
    assert composed(book)["model"]["weights"] == "models/stable-diffusion-3.5-medium"
    assert kin.loss == "x0"


def test_what_the_gui_writes_by_default_is_no_warning(tmp_path, pictures) -> None:
    """Its config names everything, most of it off."""
    off = {
        "loss_type": '"l2"', "huber_schedule": '"snr"', "huber_c": "0.1", "max_timestep": "1000", "clip_skip": "1",
        "noise_offset_type": '"Original"', "multires_noise_discount": "0.3", "text_encoder_lr": "[]", "lr_scheduler_args": "[]",
        "prior_loss_weight": "1", "dynamo_backend": '"no"', "reg_data_dir": '""', "caption_dropout_rate": "0.0",
        "sample_sampler": '"euler_a"', "network_train_unet_only": "true", "lr_scheduler_num_cycles": "1", "min_snr_gamma": "0",
        "lr_scheduler": '"constant"', "mixed_precision": '"bf16"', "epoch": "3", "keep_tokens": "0", "random_crop": "false",
    }  # fmt: skip
    book, _ = translate([written(tmp_path, "gui.toml", second(pictures, **off))])
    kept = [line for line in book.levels(WARNING) if "not on this machine" not in line.text]
    assert kept == []
    told = " ".join(line.said for line in book.lines)
    assert [key for key in book.told if key not in told] == []
    loud, _ = translate([written(tmp_path, "loud.toml", second(pictures, **{**off, "loss_type": '"huber"'}))])
    assert {line.said.split(" ")[0] for line in loud.levels(WARNING)} >= {"loss_type", "huber_schedule", "huber_c"}


def test_data_sets_go_before_folders_and_a_wrong_kind_is_told(tmp_path, pictures) -> None:
    data = f'[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "{pictures}/2_sylvie"\ncaption_extension = ".txt"\n'
    files = [written(tmp_path, "c.toml", second(pictures)), written(tmp_path, "d.toml", data)]
    book, _ = translate(files)
    assert [key for key in book.words if key.startswith("catalogue.")] == ["catalogue.source.concepts.sylvie"]
    assert lines(book, "train_data_dir")[0][0] == NOTE
    files[1] = written(tmp_path, "d.toml", data + 'num_repeats = "often"\n')
    with pytest.raises(ConfigError, match="often"):
        translate(files)


def test_two_resolutions_of_one_folder_are_scales(tmp_path) -> None:
    data = "".join(
        f'[[datasets]]\nresolution = {size}\nenable_bucket = true\n[[datasets.subsets]]\nimage_dir = "d{size}"\n'
        for size in (512, 1024)
    )
    book, _ = translate([written(tmp_path, "c.toml", FIRST), written(tmp_path, "d.toml", data)])
    config = composed(book)
    assert config["data"]["bucket"]["budget"] == 1024 * 1024
    assert config["data"]["shard"]["scales"] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (1024, (1024, 1024)),
        ([832, 1216], (832, 1216)),
        ("832,1216", (832, 1216)),
        ("512", (512, 512)),
        ("x", None),
        ([1, 2, 3], None),
    ],
)
def test_sizes_are_read_as_kohya_writes_them(value, size) -> None:
    assert pixels(value) == size


@pytest.mark.parametrize(
    "path",
    [
        "plain/path.safetensors", "with space", "a,b=c", "it's", 'say "hi"', "C:\\models\\x", "ends\\", "${name}", "絵/エイリーン",
        "[x]{y}", "#1", "~/models", "true", "12", "null", "a:b", "'quoted'", "back\\\\slash\"", " lead", "@file", "50%", "*",
    ],
)  # fmt: skip
def test_any_path_survives_the_file_of_words(tmp_path, path) -> None:
    """From TOML to a word, to a line of the file, to Hydra and back."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    text = FIRST.replace("models/sd3.5 medium, fp16.safetensors", escaped)
    book, _ = translate([written(tmp_path, "config.toml", text)])
    file = tmp_path / "run.words"
    file.write_text(import_kohya.text(book, [tmp_path / "config.toml"]), encoding="utf-8")
    chosen = [word for word in words([f"@{file}"]) if word.startswith(("experiment=", "model.weights="))]
    assert len(chosen) == 2
    assert compose(["model=sd35_medium", chosen[1]])["model"]["weights"] == path
