"""What every family promises, as tests. A family's test file subclasses `FamilyContract` and gives it a `build`."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch
from counted import really_counted
from torch import nn

from animeflow.core import seed
from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError
from animeflow.model.dialect import Dialect
from animeflow.model.low_rank import LowRank
from animeflow.model.protocol import Codec, Family, TextTower

CAPTIONS = [
    "blue hair, red eyes",
    "",
    "a girl with long pink hair, smiling, on the beach at night",
    "blue hair, red eyes",
]


@torch.no_grad()
def stir(backbone: nn.Module, *, scale: float = 0.05) -> nn.Module:
    """Add noise to every weight: a network that starts at zero velocity would pass any comparison."""
    for name, parameter in sorted(backbone.named_parameters()):
        parameter.add_(scale * seed.normal(tuple(parameter.shape), 0, "stir", name))
    return backbone


def random_lora(family: Family, *, root: int = 0) -> dict[str, LowRank]:
    """An addition to every layer that can have one; ranks and alphas differ from layer to layer."""
    outline, state = family.outline(), {}
    for index, (name, path) in enumerate(family.lora_layers(outline).items()):
        out, *rest = outline.get_submodule(path).weight.shape
        rank = 1 + index % 4
        down = seed.normal((rank, *rest), root, "down", name)
        up = seed.normal((out, rank, *[1] * (len(rest) - 1)), root, "up", name)
        state[name] = LowRank(down, up, alpha=0.3 + index % 7)
    return state


class FamilyContract:
    """Subclass, name it `Test...`, and override `build`; `pixels` is a small picture size (height, width) it accepts."""

    pixels = (64, 96)

    silent: tuple[str, ...] = ()  # parts of names of weights whose result nobody reads

    @classmethod
    def build(cls) -> Family:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def family(cls) -> Family:
        family = cls.build()
        stir(family.backbone())
        family.backbone().requires_grad_(True)
        return family

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls, family: Family) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
        """Latents, t and conditioning of a batch of four."""
        codec, tower = family.codec(), family.text_tower()
        cells = (codec.channels, cls.pixels[0] // codec.stride, cls.pixels[1] // codec.stride)
        x_BChw = torch.stack([seed.normal(cells, 0, "latents", index) for index in range(len(CAPTIONS))])
        t_B = torch.tensor([0.1, 0.5, 0.7123, 0.9814])
        return x_BChw, t_B, tower.collate(tower.encode(CAPTIONS))

    def test_parts_follow_the_protocol_and_are_kept(self, family):
        assert isinstance(family, Family)
        assert isinstance(family.codec(), Codec)
        assert isinstance(family.text_tower(), TextTower)
        for part in (family.backbone, family.codec, family.text_tower):
            assert part() is part()

    def test_the_velocity_has_the_shape_of_the_latents_in_float32(self, family, inputs):
        with torch.no_grad():
            velocity = family.backbone()(*inputs)
        assert velocity.shape == inputs[0].shape
        assert velocity.dtype == torch.float32
        assert velocity.isfinite().all()
        assert velocity.std() > 0

    def test_gradients_reach_every_weight(self, family, inputs):
        backbone = family.backbone()
        backbone.zero_grad()
        backbone(*inputs).square().mean().backward()
        gradients = {name: parameter.grad for name, parameter in backbone.named_parameters()}
        backbone.zero_grad()
        assert [
            name for name, gradient in gradients.items() if gradient is None
        ] == []  # distributed training waits for all
        still = [name for name, gradient in gradients.items() if not gradient.abs().sum() > 0]
        assert [name for name in still if not any(part in name for part in self.silent)] == []

    @pytest.mark.parametrize("autocast", [False, True])
    def test_t_is_never_rounded_to_bf16(self, family, inputs, autocast):
        x_BChw, t_B, cond = inputs
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            exact = family.backbone()(x_BChw, t_B, cond)
            rounded = family.backbone()(x_BChw, t_B.bfloat16().float(), cond)
            again = family.backbone()(x_BChw, t_B, cond)
        assert torch.equal(exact, again)
        moved = (exact - rounded).flatten(1).abs().amax(1)
        assert (moved[t_B.bfloat16().float() != t_B] > 0).all()
        assert (moved[t_B.bfloat16().float() == t_B] == 0).all()

    def test_bf16_autocast_stays_near_float32(self, family, inputs):
        with torch.no_grad():
            exact = family.backbone()(*inputs)
            with torch.autocast("cpu", torch.bfloat16):
                mixed = family.backbone()(*inputs)
        assert mixed.dtype == torch.float32
        assert (mixed - exact).norm() < 0.05 * exact.norm()

    def test_a_row_does_not_depend_on_its_batch(self, family, inputs):
        x_BChw, t_B, _ = inputs
        tower, backbone = family.text_tower(), family.backbone()
        rows = tower.encode(CAPTIONS)
        with torch.no_grad():
            together = backbone(x_BChw, t_B, tower.collate(rows))
            for index, row in enumerate(rows):
                alone = backbone(x_BChw[index : index + 1], t_B[index : index + 1], tower.collate([row]))
                torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)

    def test_a_caption_has_one_row_whatever_else_is_encoded(self, family):
        tower = family.text_tower()
        alone = [tower.encode([caption])[0] for caption in CAPTIONS]
        for together in (tower.encode(CAPTIONS), tower.encode(CAPTIONS[::-1])[::-1]):
            for one, other in zip(alone, together, strict=True):
                assert one.keys() == other.keys()
                for name in one:
                    torch.testing.assert_close(one[name], other[name], rtol=2**-7, atol=1e-6)  # one bf16 step

    def test_a_prompt_without_emphasis_is_its_caption(self, family):
        tower = family.text_tower()
        for row, weighted in zip(tower.encode(CAPTIONS), tower.encode_weighted([[(text, 1.0)] for text in CAPTIONS])):
            assert row.keys() == weighted.keys()
            assert all(torch.equal(row[name], weighted[name]) for name in row)

    def test_emphasis_changes_its_prompt_and_no_other(self, family, inputs):
        x_BChw, t_B, _ = inputs
        tower, backbone = family.text_tower(), family.backbone()
        plain, loud = [[("blue hair", 1.0)], [("red eyes", 1.0)]], [[("blue hair", 1.0)], [("red eyes", 2.0)]]
        with torch.no_grad():
            before, after = (
                backbone(x_BChw[:2], t_B[:2], tower.collate(tower.encode_weighted(prompts)))
                for prompts in (plain, loud)
            )
        torch.testing.assert_close(before[0], after[0], rtol=1e-4, atol=1e-5)
        assert (before[1] - after[1]).abs().max() > 1e-3
        assert after.isfinite().all()

    def test_rows_lie_on_the_cpu_and_own_their_memory(self, family):
        for row in family.text_tower().encode(CAPTIONS):
            for tensor in row.values():
                assert tensor.device.type == "cpu"
                assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()

    def test_collate_keeps_the_order_of_rows(self, family):
        tower = family.text_tower()
        rows = tower.encode(CAPTIONS)
        forward, backward = tower.collate(rows), tower.collate(rows[::-1])
        for name in forward:
            assert forward[name].shape[0] == len(rows)
            assert torch.equal(forward[name], backward[name].flip(0))

    def test_dropping_an_encoder_changes_its_row_only(self, family, inputs):
        x_BChw, t_B, _ = inputs
        tower, backbone = family.text_tower(), family.backbone()
        rows = tower.encode(CAPTIONS)
        with torch.no_grad():
            whole = backbone(x_BChw, t_B, tower.collate(rows))
            for encoder in tower.encoders:
                drop = [frozenset(), frozenset(), frozenset({encoder}), frozenset()]
                dropped = backbone(x_BChw, t_B, tower.collate(rows, drop=drop))
                others = torch.tensor([0, 1, 3])
                torch.testing.assert_close(whole[others], dropped[others], rtol=1e-4, atol=1e-5)
                assert (whole[2] - dropped[2]).abs().max() > 1e-3

    def test_an_unknown_encoder_cannot_be_dropped(self, family):
        rows = family.text_tower().encode(CAPTIONS[:1])
        with pytest.raises(ConfigError):
            family.text_tower().collate(rows, drop=[frozenset({"no such encoder"})])

    def test_truncation_is_counted(self, family):
        tower = family.text_tower()
        assert set(tower.num_tokens("blue hair")) == set(tower.encoders)
        for tokens, kept in tower.num_tokens("blue hair").values():
            assert 0 < tokens == kept
        assert any(kept < tokens for tokens, kept in tower.num_tokens("blue hair, " * 2000).values())

    def test_codec_shapes_range_and_determinism(self, family):
        codec = family.codec()
        height, width = self.pixels
        pixels = 2 * torch.rand(2, 3, height, width, generator=seed.generator(0, "pixels")) - 1
        latents = codec.encode(pixels)
        assert latents.shape == (2, codec.channels, height // codec.stride, width // codec.stride)
        assert latents.dtype == torch.float32
        assert torch.equal(latents, codec.encode(pixels))
        torch.testing.assert_close(latents[:1], codec.encode(pixels[:1]), rtol=1e-4, atol=1e-5)
        decoded = codec.decode(latents)
        assert decoded.shape == pixels.shape
        assert decoded.dtype == torch.float32
        assert decoded.min() >= -1 and decoded.max() <= 1

    def test_the_same_options_give_the_same_family(self, family):
        first, second = self.build(), self.build()
        assert first.describe() == second.describe() == family.describe()
        ours, theirs = first.backbone().state_dict(), second.backbone().state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_describe_is_plain_text_with_the_fingerprints(self, family):
        facts = family.describe()
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in facts.items())
        assert {family.name, family.flavour, family.codec().fingerprint, family.text_tower().fingerprint} <= set(
            facts.values()
        )

    def test_the_closed_form_of_its_arithmetic_is_what_torch_counts(self, family):
        """Forward and both passes; rotations and the like are too few to be in it."""
        height, width = self.pixels
        work = family.work(height=height, width=width, text_tokens=family.text_tokens)
        forward, both = really_counted(self.build(), height, width, tokens=family.text_tokens)
        assert work.forward == pytest.approx(forward, rel=1e-3)
        assert work.train == pytest.approx(both, rel=3e-3)

    def test_its_outline_is_the_backbone_without_numbers(self, family):
        def shapes(module: nn.Module) -> dict[str, tuple[tuple[int, ...], bool]]:
            return {name: (tuple(p.shape), p.requires_grad) for name, p in module.named_parameters()}

        outline = family.outline()
        assert shapes(outline) == shapes(self.build().backbone())
        assert {parameter.device.type for parameter in outline.parameters()} == {"meta"}

    def random_inputs(self, family: Family, *, seed: int = 0) -> tuple[torch.Tensor, Conditioning]:
        height, width = self.pixels
        return family.random_inputs(4, height=height, width=width, tokens=family.text_tokens, seed=seed)

    def test_random_inputs_have_the_form_of_real_ones(self, family, inputs):
        x_BChw, t_B, real = inputs
        latents, text = self.random_inputs(family)
        assert latents.shape == x_BChw.shape
        assert text.keys() >= {name for name in real if real[name].dtype != torch.bool}
        for name in text.keys() & real.keys():
            assert text[name].shape[0] == 4 and text[name].shape[2:] == real[name].shape[2:]
            assert text[name].is_floating_point() == real[name].is_floating_point()
        again, other = (self.random_inputs(family, seed=number) for number in (0, 1))
        assert torch.equal(latents, again[0]) and all(torch.equal(text[name], again[1][name]) for name in text)
        assert not torch.equal(latents, other[0])
        assert not all(torch.equal(text[name], other[1][name]) for name in text)
        with torch.no_grad():
            assert family.backbone()(latents, t_B, text).isfinite().all()

    def test_the_stock_network_says_the_same_and_has_weights_of_its_own(self, family, inputs):
        latents, text = self.random_inputs(family)
        backbone = family.backbone()
        stock = family.stock(backbone)
        with torch.no_grad():
            ours, theirs = (network(latents, inputs[1], text) for network in (backbone, stock))
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
        places = {parameter.data_ptr() for parameter in backbone.parameters()}
        assert not places & {parameter.data_ptr() for parameter in stock.parameters()}
        assert any(parameter.requires_grad for parameter in stock.parameters())

    def test_layers_for_a_lora_are_weights_of_its_files_and_modules_of_the_backbone(self, family):
        backbone, outline = family.backbone(), family.outline()
        layers, state = family.lora_layers(backbone), backbone.export_state()
        assert layers == family.lora_layers(outline)
        for name, path in layers.items():
            assert backbone.get_submodule(path).weight.shape == state[f"{name}.weight"].shape
        assert "default" in family.lora_targets
        for patterns in family.lora_targets.values():
            assert all(any(fnmatchcase(name, pattern) for name in layers) for pattern in patterns)

    def test_every_dialect_gives_back_the_same_additions(self, family):
        """Ranks and alphas differ from layer to layer, and every layer has one."""
        state, dialects = random_lora(family), type(family).dialects()
        assert all(isinstance(dialect, Dialect) and name == dialect.name for name, dialect in dialects.items())
        for dialect in dialects.values():
            tensors = dialect.write(state)
            assert dialect.matches(tensors)
            found = dialect.read(tensors)
            assert found.keys() == state.keys()
            for name, addition in state.items():
                assert found[name].rank == addition.rank
                expected = addition.delta()
                assert (found[name].delta() - expected).norm() <= 1e-6 * expected.norm()

    def test_planned_sizes_are_the_real_ones(self, family):
        trainable = sum(parameter.numel() for parameter in family.backbone().parameters())
        assert sum(part.parameters for part in family.sizes() if part.trainable) == trainable
        assert all(part.parameters > 0 for part in family.sizes())
