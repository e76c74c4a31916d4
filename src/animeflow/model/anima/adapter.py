"""What of the text adapter learns: nothing, all of it, or a LoRA on its linear layers. Knows peft; knows no optimizer.

The adapter was trained on far more captions than a finetuner has, and it forgets first; so the choice is a setting, never a guess.
Its learning rate is `optim.rates.adapter`.
"""

from __future__ import annotations

import torch
from diffusers import AnimaTextConditioner
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ...core.errors import ConfigError, did_you_mean
from ...core.seed import key

MODES = ("freeze", "train", "lora")
NAME = "animeflow"


def set_mode(adapter: AnimaTextConditioner, mode: str, *, rank: int, alpha: float, seed: int) -> None:
    """Make `adapter` learn as `mode` says.

    Args:
        mode: `freeze`: not at all. `train`: every weight. `lora`: low-rank additions `alpha / rank * B A` (arXiv 2106.09685) to
            every linear layer; they start at zero, and an export has them merged in.
        rank, alpha: of the LoRA.
        seed: of its A.

    Raises:
        ConfigError: an unknown mode, or a rank below 1.
    """
    check_mode(mode, rank)
    adapter.requires_grad_(mode == "train")
    if mode == "lora":
        linear = [name for name, module in adapter.named_modules() if isinstance(module, nn.Linear)]
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(seed, "adapter lora"))
            inject_adapter_in_model(config, adapter, adapter_name=NAME)


def check_mode(mode: str, rank: int) -> None:
    """Raises ConfigError for a mode that does not exist or a rank below 1."""
    if mode not in MODES:
        raise ConfigError(
            f"unknown adapter mode '{mode}'{did_you_mean(mode, MODES)}",
            where="model.adapter",
            do=f"choose one of: {', '.join(MODES)}",
        )
    if rank < 1:
        raise ConfigError(f"rank {rank} is below 1", where="model.adapter_rank", do="16 is usual")


def merged_state(adapter: AnimaTextConditioner) -> dict[str, Tensor]:
    """Weights under the adapter's own names, with a LoRA added to the layers it belongs to."""
    state = {name: tensor for name, tensor in adapter.state_dict().items() if ".lora_" not in name}
    merged = {name.replace(".base_layer.", "."): tensor for name, tensor in state.items()}
    for name, module in adapter.named_modules():
        if isinstance(module, LoraLayer):
            weight = merged[f"{name}.weight"]
            merged[f"{name}.weight"] = weight + module.get_delta_weight(NAME).to(weight.dtype)
    return merged
