"""The codec benchmark on small codecs: sane JSON, and a low copy that gives nearly the same latents."""

from __future__ import annotations

import json

import pytest
import torch

from animeflow.app.compose import compose
from animeflow.app.jobs import encode_job
from animeflow.app.verbs import bench
from animeflow.bench import encode
from animeflow.core.errors import ConfigError

WORDS = ["data.cache.batch_size=2", "train.threads=1", "model.codec=null"]


@pytest.mark.parametrize("experiment", ["toonworld_smoke", "anima_toonworld_smoke"])
def test_every_way_gives_nearly_the_latents_of_float32(experiment):
    found = encode.run(encode_job(compose([f"experiment={experiment}", *WORDS])), rounds=2)
    assert json.loads(json.dumps(found)) == found
    ways = {"bf16, channels last", "float32", "autocast"}
    assert found["latents_per_second"].keys() == found["distance_from_float32"].keys() == ways
    assert found["distance_from_float32"]["float32"] == 0
    assert 0 < found["distance_from_float32"]["bf16, channels last"] < 0.03
    assert found["ratio"]["bf16, channels last"] == 1
    rates, ratio = found["latents_per_second"], found["ratio"]["float32"]
    assert ratio == pytest.approx(rates["bf16, channels last"] / rates["float32"])


def test_a_lowered_codec_is_a_copy():
    codec = encode_job(compose(["experiment=toonworld_smoke", *WORDS])).family.codec()
    low = encode.lowered(codec)
    assert {p.dtype for p in low.net.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in codec.net.parameters()} == {torch.float32}
    assert low.fingerprint == codec.fingerprint


def test_the_verb_prints_json_alone(capsys, tmp_path):
    words = ["experiment=toonworld_smoke", *WORDS]
    bench.run(words, kind="encode", rounds=1, out=str(tmp_path / "encode.json"))
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "encode.json").read_text())
    assert printed["bench"] == "encode"


def test_it_has_no_peer():
    with pytest.raises(ConfigError, match="always measures all ways"):
        encode.run(encode_job(compose(["experiment=toonworld_smoke", *WORDS])), against="stock")
