"""A head on a frozen encoder's vectors finds a planted artefact; vectors are made once; doubt asks for fewer labels than chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from animeflow.annotate import embeddings
from animeflow.annotate.active import Curve, learn
from animeflow.annotate.detector import LEAST, auc
from animeflow.annotate.embeddings import embed_all, vectors, vectors_of
from animeflow.annotate.encoder import Encoder, open_encoder
from animeflow.annotate.head import Head, HeadBudget, fit, train_head, write_scores
from animeflow.annotate.scoring import read_scores, version_of_scores
from animeflow.core.errors import ConfigError, DataError
from animeflow.image.encode import encode_png
from animeflow.toonworld.dataset import World

WORLD = World(seed=11, sizes=((80, 80), (96, 80)))
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def picture(uid: int) -> np.ndarray:
    """Odd ones with the grid that upsampling leaves."""
    pixels = WORLD.drawing(uid).pixels
    grid = 5 * (1 - 2 * (np.indices(pixels.shape[:2]).sum(0) % 2))[..., None]
    return np.clip(pixels + grid, 0, 255).astype(np.uint8) if uid % 2 else pixels


def saved(kind: str, folder: Path) -> Path:
    """A small network with random weights, as transformers saves it."""
    from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel

    torch.manual_seed(0)
    text = {**TINY, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sight = {"image_size": 32, "patch_size": 8}
    if kind == "clip":
        model = CLIPModel(CLIPConfig(vision_config={**TINY, **sight}, text_config=text))
    elif kind == "dino":
        model = Dinov2Model(Dinov2Config(**{k: TINY[k] for k in list(TINY)[:3]}, mlp_ratio=1, **sight))
    else:
        shape = {"embedding_size": 12, "hidden_sizes": [16, 24], "depths": [1, 1], "layer_type": "basic"}
        model = ResNetModel(ResNetConfig(**shape))
    model.save_pretrained(folder)
    if kind == "resnet":
        (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 48}, "image_mean": [0.5] * 3}))
    return folder


@pytest.mark.parametrize(("kind", "side", "width"), [("clip", 32, 16), ("dino", 32, 16), ("resnet", 48, 24)])
def test_networks_of_several_kinds_make_vectors_of_the_whole_and_of_pieces(kind, side, width, tmp_path: Path):
    pictures = [picture(0), picture(1)[:20], np.zeros((200, 40, 3), np.uint8)]
    whole = open_encoder(saved(kind, tmp_path), None, pieces=0)
    assert whole.encode(pictures).shape == (3, width)
    both = open_encoder(tmp_path, "mine", pieces=3)
    found = both.encode(pictures)
    assert found.shape == (3, 3 * width) and np.allclose(found[:, :width], whole.encode(pictures), atol=1e-5)
    assert np.allclose(found[1:2], both.encode(pictures[1:2]), atol=1e-5)  # whatever stands beside it
    assert not np.allclose(found[2, width : 2 * width], 0) and np.allclose(found[2, 2 * width :], 0, atol=1e-5)
    assert both._eye.side == side and both.name == "mine" and both.version != whole.version


def test_an_onnx_file_is_an_encoder_too(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("GlobalAveragePool", ["x"], ["y"])
    seen = helper.make_tensor_value_info("x", kind, ["n", 3, 16, 16])
    said = helper.make_tensor_value_info("y", kind, ["n", 3, 1, 1])
    graph = helper.make_graph([node], "mean", [seen], [said])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    encoder = open_encoder(tmp_path, None, pieces=1)
    found = encoder.encode([np.full((40, 40, 3), (255, 51, 0), np.uint8)])
    assert np.allclose(found, [[1, 0.2, 0, 1, 0.2, 0, 0, 0, 0]], atol=1e-6)


def test_what_is_no_encoder_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="neither"):
        open_encoder(tmp_path, None, pieces=1)
    with pytest.raises(ConfigError, match="no folder"):
        open_encoder(tmp_path / "nothing", None, pieces=1)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="no encoder could be read"):
        open_encoder(tmp_path, None, pieces=1)
    with pytest.raises(ConfigError, match="pieces=-1"):
        Encoder(Means(), "x", pieces=-1)


class Means:
    """The mean of each channel, and how often it was asked."""

    side, version = 16, "1"

    def __init__(self) -> None:
        self.asked = 0

    def see(self, pictures):
        self.asked += len(pictures)
        return np.stack([np.float32(each).mean((0, 1)) for each in pictures])


def test_a_picture_is_looked_at_once_and_another_version_looks_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(embeddings, "COMMIT", 4)
    files = []
    for uid in range(10):
        files.append((uid, tmp_path / f"{uid}.png"))
        files[-1][1].write_bytes(encode_png(np.full((20, 20, 3), 10 * uid, np.uint8)))
    files.append((10, tmp_path / "gone.png"))
    eye = Means()
    encoder = Encoder(eye, "means", pieces=0)
    found = embed_all(tmp_path, reversed(files), encoder, batch=3)
    assert (found.asked, found.known, found.refused) == (10, 0, {"missing_file": 1})
    told = {
        int(uid): vector for uids, some in vectors(tmp_path, "means") for uid, vector in zip(uids, some, strict=True)
    }
    assert {uid: vector.tolist() for uid, vector in told.items()} == {uid: [10 * uid] * 3 for uid in range(10)}
    assert sorted(vectors_of(tmp_path, "means", [3, 99, 4])) == [3, 4]
    again = embed_all(tmp_path, files, encoder)
    assert (again.asked, again.known, eye.asked) == (0, 10, 10)
    other = Encoder(eye, "means", pieces=1)
    assert embed_all(tmp_path, files, other).asked == 10 and len(vectors_of(tmp_path, "means", [3])[3]) == 9
    with pytest.raises(ConfigError, match="no name"):
        embed_all(tmp_path, files, Encoder(eye, "../means", pieces=0))


class Filters:
    """One layer with random weights without a mean, and how strongly it answers on the whole."""

    side, version = 48, "1"

    def __init__(self) -> None:
        weight = torch.randn(24, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        self.weight = weight - weight.mean((2, 3), keepdim=True)

    def see(self, pictures):
        planes = (torch.from_numpy(np.ascontiguousarray(each)).permute(2, 0, 1)[None].float() for each in pictures)
        answers = [torch.nn.functional.conv2d(plane, self.weight).abs().mean((0, 2, 3)) for plane in planes]
        return (torch.stack(answers) + 0.5).log().numpy()


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_planted_artefact_is_found_through_a_network_that_never_learned_anything(hidden: int, tmp_path: Path):
    encoder = Encoder(Filters(), "net", pieces=2)
    seen = {uid: encoder.encode([picture(uid)])[0] for uid in range(88)}
    budget = HeadBudget(hidden=hidden)
    head, quality = train_head({uid: bool(uid % 2) for uid in range(500)}, seen, budget=budget)
    assert quality.positives == quality.negatives == 11 and quality.auc >= 0.95
    fresh = encoder.encode([picture(uid) for uid in range(1000, 1040)])
    scores = head.scores(fresh)
    assert auc(scores[1::2].tolist(), scores[::2].tolist()) >= 0.95
    version = head.save(tmp_path / "head", quality, encoder=encoder.version)
    assert np.array_equal(Head.load(tmp_path / "head").scores(fresh), scores)
    groups = [(np.arange(30), fresh[:30]), (np.arange(30, 40), fresh[30:])]
    assert write_scores(tmp_path, iter(groups), head, tool="detector-net", version=version) == 40
    told = read_scores(tmp_path, "detector-net")
    assert [told[uid]["ai"] for uid in range(40)] == pytest.approx(scores.tolist(), abs=1e-6)
    assert version_of_scores(tmp_path, "detector-net") == version
    write_scores(tmp_path, iter(groups[:1]), head, tool="detector-net", version="another")
    assert len(read_scores(tmp_path, "detector-net")) == 30


def test_a_head_learns_the_same_every_time_and_from_no_few_labels():
    rng = np.random.default_rng(0)
    x, made = rng.normal(size=(60, 5)).astype(np.float32), np.arange(60) % 3 == 0
    x[:, 4] = 7  # a number that never moves is no danger
    for hidden in (0, 4):
        one, two = (fit(x, made, budget=HeadBudget(hidden=hidden)).scores(x) for _ in range(2))
        assert np.array_equal(one, two) and np.isfinite(one).all()
    with pytest.raises(DataError, match=f"both have to be {LEAST}"):
        train_head({uid: bool(uid % 2) for uid in range(60)}, dict(enumerate(x[:38])), budget=HeadBudget())
    with pytest.raises(DataError, match="no head"):
        Head.load(Path("nothing"))
    with pytest.raises(ConfigError, match="no budget"):
        HeadBudget(test_share=1)


def test_labels_needed_are_counted_from_where_it_stays_good():
    curve = Curve((10, 20, 30, 40), (0.9, 0.99, 0.94, 0.96))
    assert curve.needed(0.95) == 40 and curve.needed(0.9) == 10 and curve.needed(0.97) is None


def test_doubt_asks_for_fewer_labels_than_chance_where_few_are_machine_made():
    """Two clouds that touch, one of them rare."""
    rng = np.random.default_rng(3)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        made = rng.random(count) < 0.05
        x = rng.normal(size=(count, 16)).astype(np.float32)
        x[:, 0] += 4 * made
        return x, made

    (pool, said), (test, truth) = drawn(800), drawn(1500)
    rounds, budget = (30, 60, 90, 130, 180, 260, 400, 600), HeadBudget(steps=60)
    curves = {by: learn(pool, said, test, truth, by=by, rounds=rounds, budget=budget) for by in ("doubt", "random")}
    assert curves["doubt"].auc[0] == curves["random"].auc[0]  # the first labels are the same
    assert curves["doubt"].needed(0.95) <= curves["random"].needed(0.95) / 2
    again = learn(pool, said, test, truth, by="doubt", rounds=rounds, budget=budget)
    assert again == curves["doubt"]
    with pytest.raises(ConfigError, match="by='loss'"):
        learn(pool, said, test, truth, by="loss", rounds=rounds, budget=budget)
