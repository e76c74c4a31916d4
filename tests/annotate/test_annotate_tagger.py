"""Taggers: what a folder says of itself is what its network gets and gives; people's tags stay; scores are kept, once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from animeflow.annotate.merge import MergePolicy, merged
from animeflow.annotate.scoring import read_scores, score_all, scores_file
from animeflow.annotate.tagger import Label, Wanted, read_labels, read_wanted, version_of
from animeflow.core.errors import ConfigError, DataError
from animeflow.image.encode import encode_png
from animeflow.image.square import square, unsquare

RED, BLUE = np.full((40, 60, 3), (255, 0, 0), np.uint8), np.full((50, 30, 3), (0, 0, 255), np.uint8)


def mean_of_channels(folder: Path, *, channels_last: bool, batch: int | None = None, logit: bool = False) -> Path:
    """An ONNX tagger whose scores are the means of the three channels as it gets them, over 255 where they come last."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    folder.mkdir(parents=True, exist_ok=True)
    shape = [batch or "N", 32, 32, 3] if channels_last else [batch or "N", 3, 32, 32]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2] if channels_last else [2, 3])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / 255 if channels_last else 1.0])
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Neg" if logit else "Identity", ["scaled"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "mean", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch or "N", 3])], [axes, scale],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    (folder / "selected_tags.csv").write_text(
        "tag_id,name,category,count\n1,Red Thing,0,9\n2,green,4,8\n3,explicit,9,7\n"
    )
    return folder


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("channels_last", [True, False])
def test_channels_scale_and_labels_are_those_that_the_graph_wants(
    tmp_path: Path, channels_last: bool, batch: int | None
):
    from animeflow.annotate.onnx_tagger import OnnxTagger

    tagger = OnnxTagger(mean_of_channels(tmp_path / "t", channels_last=channels_last, batch=batch))
    found = tagger.scores([square(RED, 32, fill=0)[8:24], BLUE])  # 16 x 32 of nothing but red, in a white square
    assert [label.word for label in tagger.labels] == ["general:red_thing", "character:green", "rating:explicit"]
    order = [2, 1, 0] if channels_last else [0, 1, 2]  # those whose channels come last want BGR
    wanted = [[square(p, 32)[..., c].mean() / 255 for c in order] for p in (square(RED, 32, fill=0)[8:24], BLUE)]
    assert np.allclose(found, wanted, atol=1e-5)


def test_a_folder_that_says_otherwise_is_believed(tmp_path: Path):
    from animeflow.annotate.onnx_tagger import OnnxTagger

    folder = mean_of_channels(tmp_path, channels_last=False, logit=True)
    with pytest.raises(DataError, match="output"):
        OnnxTagger(folder).scores([RED])
    (folder / "tagger.json").write_text(json.dumps({"output": "logit", "channels": "bgr", "mean": [0.5, 0.5, 0.5]}))
    found = OnnxTagger(folder).scores([np.full((8, 8, 3), (255, 0, 0), np.uint8)])
    assert np.allclose(found, 1 / (1 + np.exp([[-0.5, -0.5, 0.5]])), atol=1e-5)
    (folder / "tagger.json").write_text('{"chanels": "bgr"}')
    with pytest.raises(ConfigError, match="did you mean 'channels'"):
        read_wanted(folder, Wanted())


def test_labels_of_another_model_no_labels_and_no_model_are_told(tmp_path: Path):
    from animeflow.annotate.onnx_tagger import OnnxTagger
    from animeflow.app.verbs.annotate import open_tagger

    folder = mean_of_channels(tmp_path / "t", channels_last=True)
    (folder / "selected_tags.csv").write_text("tag_id,name,category,count\n1,a,0,9\n")
    with pytest.raises(ConfigError, match="belongs to this model"):
        OnnxTagger(folder).scores([RED])
    (folder / "selected_tags.csv").unlink()
    with pytest.raises(ConfigError, match=r"labels\.csv"):
        OnnxTagger(folder)
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ConfigError, match="cannot be read"):
        OnnxTagger(folder)
    for path in (None, tmp_path / "nothing", tmp_path):
        with pytest.raises(ConfigError):
            open_tagger(path, None)


def test_a_classifier_of_transformers_is_a_tagger(tmp_path: Path):
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    from animeflow.annotate.torch_tagger import TorchTagger

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label={0: "long_hair", 1: "character:hatsune_miku"}, num_labels=2,
    )  # fmt: skip
    model = ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    tagger = TorchTagger(tmp_path)
    assert tagger.labels == [Label("long_hair", "general"), Label("hatsune_miku", "character")]
    x = torch.from_numpy((square(RED, 32) / 255.0 - 0.5) / 0.5).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        wanted = torch.sigmoid(model(pixel_values=x).logits).numpy()
    assert np.allclose(tagger.scores([RED]), wanted, atol=1e-5)


# -- merging: the rule table -------------------------------------------------------------------------------------------

HUMAN = {"general": ["long_hair", "smile"], "character": []}
ONE = {"general:long_hair": 0.9, "general:hat": 0.5, "general:tree": 0.4, "character:miku": 0.95, "general:loli": 0.99}
TWO = {"general:hat": 0.6, "general:sky": 0.8, "character:miku": 0.5, "rating:explicit": 1.0}


@pytest.mark.parametrize(
    ("policy", "general", "character"),
    [
        ({}, [], []),
        ({"use": ["one"]}, [], ["miku"]),  # a person wrote general tags: they are complete
        ({"use": ["two"]}, [], []),
        ({"use": ["one"], "fill": "add"}, ["hat", "tree"], ["miku"]),
        ({"use": ["one", "two"], "fill": "add"}, ["sky", "hat", "tree"], ["miku"]),
        ({"use": ["one", "two"], "fill": "add", "agree": 2}, ["hat"], []),
        ({"use": ["one"], "fill": "add", "thresholds": {"general": 0.45}}, ["hat"], []),
        ({"use": ["one"], "fill": "add", "categories": ["character"]}, [], ["miku"]),
    ],
)
def test_two_taggers_and_a_person(policy: dict, general: list[str], character: list[str]):
    policy = {name: tuple(value) if isinstance(value, list) else value for name, value in policy.items()}
    tags, machine = merged(HUMAN, {"one": ONE, "two": TWO}, MergePolicy(**policy))
    assert tags["general"] == [*HUMAN["general"], *general] and tags["character"] == character
    assert machine == {k: v for k, v in (("general", general), ("character", character)) if v}


def test_nothing_that_a_person_wrote_is_lost_moved_or_doubled_whatever_taggers_say():
    rng, names = random.Random(0), [f"t{i}" for i in range(12)]
    for _ in range(300):
        human = {c: rng.sample(names, rng.randint(0, 4)) for c in ("general", "character")}
        told = {t: {f"{rng.choice(['general', 'character'])}:{n}": rng.random() for n in names} for t in "ab"}
        policy = MergePolicy(use=("a", "b"), fill=rng.choice(["missing", "add"]), agree=rng.choice([1, 2]))
        tags, _ = merged(human, told, policy)
        for category, written in human.items():
            assert tags[category][: len(written)] == written
            assert len(set(tags[category])) == len(tags[category])
            assert not (set(tags[category][len(written) :]) & {n for ns in human.values() for n in ns})


# -- keeping scores ----------------------------------------------------------------------------------------------------


def test_every_picture_is_asked_about_once_until_the_tool_is_another(tmp_path: Path):
    files = []
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(encode_png(np.full((8, 8, 3), i, np.uint8)))
        files.append((i, tmp_path / f"{i}.png"))
    (tmp_path / "4.png").write_bytes(b"no picture")
    asked: list[int] = []

    def say(pictures):
        asked.extend(int(pixels[0, 0, 0]) for pixels in pictures)
        return [{"a": float(pixels[0, 0, 0]) / 10} for pixels in pictures]

    catalogue = tmp_path / "catalogue"
    first = score_all(catalogue, files[:3], say, tool="t", version="1", batch=2)
    again = score_all(catalogue, files, say, tool="t", version="1", batch=2)
    assert (first.asked, again.asked, again.known, again.refused) == (3, 1, 3, {"unknown_format": 1})
    assert asked == [0, 1, 2, 3]
    assert read_scores(catalogue, "t") == {i: {"a": pytest.approx(i / 10)} for i in range(4)}
    told = read_scores(catalogue, "t")
    assert len(told) == 4 and 4 not in told and told.get(9, {}) == {} and list(told) == [0, 1, 2, 3]
    score_all(catalogue, files[:1], say, tool="t", version="2")
    assert list(read_scores(catalogue, "t")) == [0] and asked[-1] == 0
    with pytest.raises(ConfigError, match="no name of a tool"):
        scores_file(catalogue, "../t")


@pytest.mark.parametrize("size", [(40, 60), (61, 17), (32, 32), (200, 90)])
def test_what_is_said_of_a_square_goes_back_to_its_picture(size: tuple[int, int]):
    y = np.linspace(0, 255, size[0])[:, None] * np.ones(size[1])
    picture = np.repeat(y[..., None], 3, axis=-1).astype(np.uint8)
    back = unsquare(square(picture, 64)[..., 0].copy(), height=size[0], width=size[1])
    assert back.shape == size and np.abs(back.astype(int) - picture[..., 0]).mean() < 6


def test_labels_read_danbooru_numbers_and_refuse_others(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("name,category\nlong hair,general\nmiku,4\n")
    assert read_labels(tmp_path) == [Label("long_hair", "general"), Label("miku", "character")]
    (tmp_path / "labels.csv").write_text("name,category\nlong hair,genral\n")
    with pytest.raises(ConfigError, match="did you mean 'general'"):
        read_labels(tmp_path)


@pytest.mark.parametrize("name", ["tagger.json", "selected_tags.csv", "model.onnx"])
def test_whatever_decides_what_a_tagger_says_is_in_its_version(tmp_path: Path, name: str):
    (tmp_path / "model.onnx").write_bytes(b"a network")
    (tmp_path / "selected_tags.csv").write_text("tag_id,name,category\n1,smile,0\n")
    (tmp_path / "readme.md").write_text("about it")
    before = version_of(tmp_path / "model.onnx")
    (tmp_path / "readme.md").write_text("more about it")
    assert version_of(tmp_path / "model.onnx") == before
    (tmp_path / name).write_text('{"output": "logit"}')
    assert version_of(tmp_path / "model.onnx") != before
