"""What kohya's scripts write into the header of a LoRA for SD3.5, so that their readers know it. Knows words; imports nothing."""

from __future__ import annotations


def header(flavour: str) -> dict[str, str]:
    """Base and network module, as `sd3_train_network.py` names them."""
    return {"ss_base_model_version": f"5-{flavour}", "ss_network_module": "networks.lora_sd3"}
