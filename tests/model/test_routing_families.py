"""Both families with tokens that pass blocks by: what enters, what comes out, what is left alone, and what is put around blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from contract import stir
from speed import FAMILIES, KINDS, batch, network, passes
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError
from animeflow.model.activation import keep_activations
from animeflow.model.anima import backbone as anima
from animeflow.model.anima.shapes import shape as anima_shape
from animeflow.model.compiled import compile_blocks
from animeflow.model.routing import Route, route_tokens

ROUTE = Route(0.5, first=1, last=-2)  # of four blocks the two in the middle
TOKENS = 24  # of `batch`


def four_blocks(family: str) -> nn.Module:
    if family == "sd35":
        return network(family)
    return stir(anima.Backbone.random(anima_shape("tiny", num_layers=4), seed=0))


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@contextmanager
def seen(backbone: nn.Module) -> Iterator[list[tuple[Tensor, Tensor, tuple]]]:
    """Picture tokens before and after every block, and its other arguments without names."""
    found: list[tuple[Tensor, Tensor, tuple]] = []

    def note(block: nn.Module, args: tuple, kwargs: dict, output: Tensor | tuple[Tensor, Tensor]) -> None:
        before = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        found.append((before.detach(), (output if isinstance(output, Tensor) else output[1]).detach(), args[1:]))

    handles = [block.register_forward_hook(note, with_kwargs=True) for block in backbone.blocks()]
    yield found
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("masked", [False, True])
def test_where_all_tokens_stay_nothing_changes_bit_for_bit(family, masked) -> None:
    """Through the way that routing takes, with positions gathered, forward and backward."""
    backbone, inputs = four_blocks(family), batch(family, pictures=3, masked=masked)
    velocity, gradients = passes(backbone, inputs)
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    route_tokens(backbone, Route(0.0, first=1, last=-2))
    again, ours = passes(backbone, inputs)
    assert torch.equal(again, velocity)
    for name, gradient in gradients.items():  # sums over the batch may come in another order
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6)
    route_tokens(backbone, None)
    again, ours = passes(backbone, inputs)
    assert torch.equal(again, velocity)
    assert all(torch.equal(ours[name], gradient) for name, gradient in gradients.items())


def test_half_of_the_tokens_are_inside_and_the_others_come_out_as_they_went_in(family) -> None:
    backbone, (x, t, cond) = four_blocks(family), batch(family, pictures=3)
    route_tokens(backbone, ROUTE)
    with seen(backbone) as blocks:
        velocity = backbone(x, t, cond)
    assert velocity.shape == x.shape
    assert [before.shape[1] for before, _, _ in blocks] == [TOKENS, TOKENS // 2, TOKENS // 2, TOKENS]
    staying_BK = ROUTE.staying(x, t, tokens=TOKENS)
    entry, inside, outside, out = blocks[0][1], blocks[1][0], blocks[2][1], blocks[3][0]
    for i, rows in enumerate(staying_BK.tolist()):
        others = sorted(set(range(TOKENS)) - set(rows))
        assert torch.equal(out[i, others], entry[i, others])
        assert torch.equal(inside[i], entry[i, rows])
        assert torch.equal(out[i, rows], outside[i])
        assert not torch.allclose(out[i, rows], entry[i, rows], atol=1e-3)


def test_animas_positions_stay_with_their_tokens() -> None:
    """What each block is given beside the tokens: rotations and learned positions of exactly those tokens."""
    backbone, (x, t, cond) = four_blocks("anima"), batch("anima", pictures=3)
    with seen(backbone) as dense:
        backbone(x, t, cond)
    (_, _, _, (cos, sin), positions, _) = dense[0][2]
    route_tokens(backbone, ROUTE)
    with seen(backbone) as blocks:
        backbone(x, t, cond)
    rows_BK = ROUTE.staying(x, t, tokens=TOKENS)
    assert positions is not None and cos.shape[0] == TOKENS
    for number, (_, _, (_, _, _, turns, learned, _)) in enumerate(blocks):
        for i, rows in enumerate(rows_BK):
            kept = rows if number in (1, 2) else slice(None)
            for ours, table in zip((*turns, learned), (cos, sin, positions[0]), strict=True):
                mine = ours[i].squeeze(0) if number in (1, 2) else ours.reshape(table.shape)
                assert torch.equal(mine, table[kept])


def test_gradients_reach_all_weights_that_they_reach_without(family) -> None:
    backbone, inputs = four_blocks(family), batch(family, pictures=2, masked=True)
    _, without = passes(backbone, inputs)
    silent = {name for name, gradient in without.items() if not gradient.abs().sum() > 0}
    route_tokens(backbone, ROUTE)
    _, gradients = passes(backbone, inputs)
    assert gradients.keys() == {name for name, _ in backbone.named_parameters()}
    assert {name for name, gradient in gradients.items() if not gradient.abs().sum() > 0} == silent


def test_outside_training_no_token_passes_by(family) -> None:
    backbone, inputs = four_blocks(family), batch(family, pictures=2)
    velocity = backbone(*inputs)
    route_tokens(backbone, ROUTE)
    assert not torch.allclose(backbone(*inputs), velocity, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(backbone(*inputs), velocity)
    with torch.inference_mode():
        assert torch.equal(backbone(*inputs), velocity)
    backbone.eval()
    assert torch.equal(backbone(*inputs), velocity)


def test_a_row_does_not_depend_on_its_batch_nor_on_padded_text(family) -> None:
    backbone, (x, t, cond) = four_blocks(family), batch(family, pictures=3, masked=True)
    route_tokens(backbone, ROUTE)
    together = backbone(x, t, cond)
    for i in range(3):
        row = Conditioning({name: value[i : i + 1] for name, value in cond.items()})
        torch.testing.assert_close(backbone(x[i : i + 1], t[i : i + 1], row)[0], together[i], rtol=1e-4, atol=1e-5)
    if family == "sd35":
        filled = torch.where(cond["text_mask"][..., None], cond["text"], torch.full_like(cond["text"], 50.0))
        again = backbone(x, t, Conditioning({**cond, "text": filled}))
        torch.testing.assert_close(again, together, rtol=1e-4, atol=1e-5)


def test_under_autocast_it_stays_near_float32(family) -> None:
    backbone, inputs = four_blocks(family), batch(family, pictures=2, masked=True)
    route_tokens(backbone, ROUTE)
    exact = backbone(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = backbone(*inputs)
    assert mixed.dtype == torch.float32
    assert (mixed - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_activations_computed_again_give_the_same_gradients(family, mode) -> None:
    backbone, inputs = four_blocks(family), batch(family, pictures=2)
    route_tokens(backbone, ROUTE)
    velocity, gradients = passes(backbone, inputs)
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    keep_activations(backbone, mode)
    again, ours = passes(backbone, inputs)
    assert torch.equal(again, velocity)
    assert all(torch.equal(ours[name], gradient) for name, gradient in gradients.items())


@pytest.mark.slow
def test_compiled_blocks_need_at_most_one_graph_more_and_none_when_routing_ends(family) -> None:
    torch._dynamo.reset()
    backbone, inputs = four_blocks(family), batch(family, pictures=2)
    route_tokens(backbone, ROUTE)
    velocity, gradients = passes(backbone, inputs)
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    compiled = compile_blocks(backbone, backend="eager")
    again, ours = passes(backbone, inputs)
    torch.testing.assert_close(again, velocity, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-6)
    for size in ((8, 12), (10, 10), (4, 16)):
        passes(backbone, batch(family, pictures=3, size=size, tokens=20))
    assert compiled.graphs <= KINDS[family] + 1
    compiled.warmed_up()
    route_tokens(backbone, None)
    for size in ((8, 12), (14, 6)):
        passes(backbone, batch(family, pictures=2, size=size))
    assert compiled.recompiles == 0


def test_sharded_it_says_the_same_under_the_same_names(family, tmp_path) -> None:
    backbone, inputs = four_blocks(family), batch(family, pictures=2)
    names = list(backbone.state_dict())
    route_tokens(backbone, ROUTE)
    assert list(backbone.state_dict()) == names
    velocity, gradients = passes(backbone, inputs)
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for block in backbone.blocks():
            fully_shard(block, mesh=mesh)
        fully_shard(backbone, mesh=mesh)
        again, ours = passes(backbone, inputs)
        assert torch.equal(again, velocity)
        for name, gradient in gradients.items():
            torch.testing.assert_close(ours[name].full_tensor(), gradient, rtol=1e-5, atol=1e-7)
    finally:
        dist.destroy_process_group()
    assert list(backbone.state_dict()) == names


def test_nothing_in_it_waits_for_the_numbers(family) -> None:
    """On the meta device a tensor that turns into a number or a bool is an error."""
    backbone, (x, t, cond) = four_blocks(family).to("meta"), batch(family, pictures=2, masked=True)
    route_tokens(backbone, ROUTE)
    meta = Conditioning({name: tensor.to("meta") for name, tensor in cond.items()})
    backbone(x.to("meta"), t.to("meta"), meta).sum().backward()


def test_blocks_that_are_not_there_are_refused_at_once(family) -> None:
    with pytest.raises(ConfigError, match="of 4 there is none to pass by"):
        route_tokens(four_blocks(family), Route(0.5))
