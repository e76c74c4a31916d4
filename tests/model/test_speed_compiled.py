"""Compiled blocks: few graphs for many shapes, equal numbers, weights under their names, sharding after it, clear errors."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from speed import FAMILIES, KINDS, batch, network, passes
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from animeflow.core.errors import ConfigError
from animeflow.model.activation import keep_activations
from animeflow.model.compiled import cache_folder, compile_blocks, explained

SIZES = [(8, 12), (10, 10), (12, 8), (6, 14), (4, 16), (8, 8)]  # 24, 25, 24, 21, 16 and 16 tokens


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_kind_of_block_has_one_graph_for_all_buckets(family):
    backbone = network(family)
    compiled = compile_blocks(backbone, backend="eager")
    for size in SIZES:
        for pictures, tokens in ((2, 9), (3, 20)):
            passes(backbone, batch(family, pictures=pictures, size=size, tokens=tokens))
    assert compiled.graphs == KINDS[family]
    compiled.warmed_up()
    passes(backbone, batch(family, pictures=4, size=(14, 6), tokens=33))
    assert compiled.recompiles == 0


def test_a_graph_after_the_warm_up_is_counted():
    backbone = network("anima")
    compiled = compile_blocks(backbone, backend="eager", dynamic_tokens=False)
    passes(backbone, batch("anima", pictures=2, size=(8, 8)))
    compiled.warmed_up()
    passes(backbone, batch("anima", pictures=2, size=(8, 12)))
    assert compiled.recompiles == KINDS["anima"]


@pytest.mark.slow
def test_masked_text_costs_one_graph_more_for_each_kind():
    backbone = network("sd35")
    compiled = compile_blocks(backbone, backend="eager")
    for size in SIZES[:3]:
        for masked in (False, True):
            passes(backbone, batch("sd35", pictures=3, size=size, masked=masked))
    assert compiled.graphs == 2 * KINDS["sd35"]


def test_pictures_drawn_in_a_run_cost_no_graph(family="anima"):
    backbone = network(family)
    compiled = compile_blocks(backbone, backend="eager")
    with torch.no_grad():
        backbone(*batch(family, pictures=2))
    assert compiled.graphs == 0
    eager = compile_blocks(backbone, backend="eager", while_sampling=True)
    with torch.no_grad():
        backbone(*batch(family, pictures=2))
    assert eager.graphs == KINDS[family]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "mixed"), [("sd35", False), ("anima", False), ("anima", True)])
def test_compiled_numbers_are_the_eager_ones(family, mixed):
    inputs = batch(family, pictures=3, masked=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        expected, gradients = passes(network(family), inputs)
        backbone = network(family)
        names = list(backbone.state_dict())
        compile_blocks(backbone, backend="aot_eager")
        found, ours = passes(backbone, inputs)
    tolerance = {"rtol": 0.05, "atol": 0.05} if mixed else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found, expected, **tolerance)
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (ours[name] - gradient).norm() <= (0.05 if mixed else 1e-4) * gradient.norm() + 1e-7, name
    assert list(backbone.state_dict()) == names


@pytest.mark.slow
@pytest.mark.parametrize(("family", "mode"), [("sd35", "selective"), ("anima", "full")])
def test_blocks_that_compute_again_still_share_a_graph(family, mode):
    inputs = batch(family, pictures=2)
    _, gradients = passes(network(family), inputs)
    backbone = network(family)
    keep_activations(backbone, mode)
    compiled = compile_blocks(backbone, backend="aot_eager")
    _, ours = passes(backbone, inputs)
    passes(backbone, batch(family, pictures=3, size=(10, 10), tokens=20))
    assert compiled.graphs == KINDS[family]
    for name, gradient in gradients.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name


@pytest.fixture
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("family", "mode"), [("sd35", "none"), ("anima", "selective")])
def test_compiled_blocks_can_be_sharded(family, mode, mesh):
    _, gradients = passes(network(family), batch(family, pictures=2))
    backbone = network(family)
    keep_activations(backbone, mode)
    compiled = compile_blocks(backbone, backend="aot_eager")
    for block in backbone.blocks():
        fully_shard(block, mesh=mesh)
    fully_shard(backbone, mesh=mesh)
    _, ours = passes(backbone, batch(family, pictures=2))
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (ours[name].full_tensor() - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name
    passes(backbone, batch(family, pictures=3, size=(10, 10), tokens=20))
    assert compiled.graphs == KINDS[family]


def test_a_compiler_that_fails_says_where_its_files_are(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def broken(graph, examples):
        raise OSError("/tmp/cache/abc.so: file too short")

    backbone = network("anima")
    compile_blocks(backbone, backend=broken)
    with pytest.raises(ConfigError, match="file too short") as error:
        backbone(*batch("anima", pictures=2))
    assert str(tmp_path) in str(error.value) and "TORCHINDUCTOR_CACHE_DIR" in str(error.value)
    assert cache_folder() == tmp_path


def test_other_errors_are_not_the_compilers():
    assert explained(ValueError("no")) is None
    backbone = network("anima")
    compile_blocks(backbone, backend="eager")
    with pytest.raises(ConfigError, match="do not fit a network"):
        backbone(*batch("anima", pictures=2, size=(7, 8)))


@pytest.mark.slow
def test_inductor_computes_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    inputs = batch("anima", pictures=2)
    expected, gradients = passes(network("anima"), inputs)
    backbone = network("anima")
    keep_activations(backbone, "budget", budget=0.4)
    compiled = compile_blocks(backbone)
    found, ours = passes(backbone, inputs)
    keep_activations(backbone, "none")
    passes(backbone, batch("anima", pictures=3, size=(10, 10), tokens=20))
    assert compiled.graphs == 1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    for name, gradient in gradients.items():
        assert (ours[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-6, name
