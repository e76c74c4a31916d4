"""A run over a base that lies elsewhere: its checkpoints hold what learns and nothing else, and it goes on exactly all the same."""

from __future__ import annotations

import torch
from toy import trainer

from animeflow.train import checkpoint


def state(run) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in run.learner.named_parameters()}


def test_a_checkpoint_holds_only_what_learns(tmp_path) -> None:
    run = trainer(tmp_path, images=24, frozen=["text"], on_base=True)
    run.run()
    saved = checkpoint.load(checkpoint.newest(tmp_path / "checkpoints"), ["learner"])[0]["learner"]
    assert set(saved) == {"conv.weight", "conv.bias"}
    assert all(torch.equal(saved[name], state(run)[name]) for name in saved)


def test_resumed_equals_never_stopped(tmp_path) -> None:
    whole = trainer(tmp_path / "whole", images=48, frozen=["text"], on_base=True)
    whole.run()
    trainer(tmp_path / "cut", images=24, frozen=["text"], on_base=True).run()
    rest = trainer(tmp_path / "cut", images=48, frozen=["text"], on_base=True)
    assert rest.resume()
    rest.run()
    assert all(torch.equal(a, state(rest)[name]) for name, a in state(whole).items())
    before = state(trainer(tmp_path / "new", images=48, frozen=["text"], on_base=True))
    assert not torch.equal(before["conv.weight"], state(whole)["conv.weight"])
    assert torch.equal(before["text.weight"], state(whole)["text.weight"])


def test_a_base_keeps_its_type(tmp_path) -> None:
    run = trainer(tmp_path, images=8, frozen=["text"], on_base=True, base_dtype=torch.bfloat16)
    assert run.learner.text.weight.dtype == torch.bfloat16
    assert run.learner.conv.weight.dtype == torch.float32
