"""What kohya's scripts write into the header of a LoRA for Anima, so that their readers know it. Knows words; imports nothing."""

from __future__ import annotations


def header(flavour: str) -> dict[str, str]:
    """Base and network module, as `anima_train_network.py` names them, whatever the flavour."""
    return {"ss_base_model_version": "anima", "ss_network_module": "networks.lora_anima"}
