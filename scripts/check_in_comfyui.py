"""Load files of ours in an installed ComfyUI and say which keys it left out. Knows ComfyUI's loaders; knows nothing of animeflow.

    python scripts/check_in_comfyui.py --comfyui ~/ComfyUI runs/NAME/export/comfyui/*/*.safetensors
    python scripts/check_in_comfyui.py --comfyui ~/ComfyUI --base MODEL.safetensors my_lora.safetensors

Run it with ComfyUI's own Python: torch and what ComfyUI needs must be there, animeflow need not. Nothing is downloaded, no server
starts, and ComfyUI is told `--cpu`. Models, text encoders and autoencoders are loaded as its nodes load them, so their memory is
needed; of the `--base` of a LoRA only the header is read. Exit code 0: all keys are used and fit; 1: some are not, or ComfyUI
refused a file, as it does with text encoders of other sizes than the released; 2: wrong call.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

DOWN = (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight")
ENCODERS = (
    "text_model.encoder.layers.0.",
    "encoder.block.0.",
    "model.layers.0.self_attn.q_proj.",
    "layers.0.self_attn.",
)
ITS_OWN = ("logit_scale",)  # numbers that ComfyUI keeps and no released file of a text encoder has


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--comfyui", type=Path, required=True, help="ComfyUI's own folder, which has `comfy` and `nodes.py`"
    )
    parser.add_argument("--base", type=Path, help="the model that LoRAs are for, one .safetensors file")
    parser.add_argument("files", type=Path, nargs="+", help=".safetensors files")
    options = parser.parse_args(argv)
    missing = [str(path) for path in [*options.files, options.base] if path is not None and not path.is_file()]
    if not (options.comfyui / "comfy" / "sd.py").is_file() or missing:
        print(f"not found: {missing or options.comfyui / 'comfy' / 'sd.py'}", file=sys.stderr)
        return 2
    comfy = opened(options.comfyui.resolve())
    faults, encoders = 0, {}
    for path in options.files:
        state, metadata = comfy.utils.load_torch_file(str(path), return_metadata=True)
        if any(name.endswith(DOWN) for name in state):
            if options.base is None:
                print(f"{path}: a LoRA needs --base", file=sys.stderr)
                return 2
            faults += said(str(path), lora, comfy, state, options.base)
        elif any(name.startswith(ENCODERS) for name in state):
            encoders[path] = state
        elif (
            comfy.detection.model_config_from_unet(state, comfy.detection.unet_prefix_from_state_dict(state))
            is not None
        ):
            faults += said(str(path), model, comfy, state, metadata)
        else:
            faults += said(str(path), autoencoder, comfy, state)
    if encoders:  # those of one model belong together: alone, ComfyUI takes a CLIP for that of another one
        faults += said(" + ".join(map(str, encoders)), text_encoders, comfy, list(encoders.values()))
    return 1 if faults else 0


def opened(folder: Path) -> Any:
    """ComfyUI's modules from its folder, its own command line being `--cpu`."""
    sys.argv[1:] = ["--cpu"]
    sys.path.insert(0, str(folder))
    import comfy.options

    comfy.options.enable_args_parsing(True)
    import comfy.lora
    import comfy.lora_convert
    import comfy.model_detection
    import comfy.sd
    import comfy.utils

    logging.getLogger().setLevel(logging.ERROR)  # what it would warn of is counted here
    return SimpleNamespace(
        sd=comfy.sd,
        lora=comfy.lora,
        convert=comfy.lora_convert.convert_lora,
        detection=comfy.model_detection,
        utils=comfy.utils,
    )


def said(what: str, load: Callable[..., tuple[str, list[str]]], *given: Any) -> int:
    """Load, print what came of it, and count the faults. What ComfyUI raises is one: it refuses wrong sizes so."""
    try:
        kind, faults = load(*given)
    except Exception as error:
        kind, faults = "refused", [line.strip() for line in str(error).splitlines()[:5]]
    print(f"{what}: {kind}: {'every key is used' if not faults else f'{len(faults)} faults'}")
    for fault in faults[:20]:
        print(f"    {fault}")
    return len(faults)


class Loading:
    """Every `load_state_dict` while it is open: the keys that a network lacked, or did not know."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.networks: list[str] = []

    def __enter__(self) -> Loading:
        from torch import nn

        self._before = before = nn.Module.load_state_dict

        def watched(network: Any, *args: Any, **options: Any) -> Any:
            result = before(network, *args, **options)
            self.networks.append(type(network).__name__)
            lacking = [key for key in result.missing_keys if not key.endswith(ITS_OWN)]
            self.faults += [f"{type(network).__name__} lacks {key}" for key in lacking]
            self.faults += [f"{type(network).__name__} does not know {key}" for key in result.unexpected_keys]
            return result

        nn.Module.load_state_dict = watched  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        from torch import nn

        nn.Module.load_state_dict = self._before  # type: ignore[method-assign]


def model(comfy: Any, state: dict[str, Any], metadata: Any) -> tuple[str, list[str]]:
    """A checkpoint with its parts, or a diffusion model alone."""
    parts = {prefix: any(key.startswith(prefix) for key in state) for prefix in ("first_stage_model.", "vae.")}
    texts = any(key.startswith(("text_encoders.", "cond_stage_model.", "conditioner.")) for key in state)
    with Loading() as loading:
        if any(parts.values()) or texts:
            found = comfy.sd.load_state_dict_guess_config(
                state, output_vae=any(parts.values()), output_clip=texts, metadata=metadata
            )[0]
            loading.faults += [f"nothing takes {key}" for key in state]
        else:
            found = comfy.sd.load_diffusion_model_state_dict(state)
    return f"{type(found.model).__name__} ({', '.join(loading.networks)})", loading.faults


def autoencoder(comfy: Any, state: dict[str, Any]) -> tuple[str, list[str]]:
    with Loading() as loading:
        found = comfy.sd.VAE(sd=state)
    if found.first_stage_model is None:
        return "unknown", ["ComfyUI does not know what this is"]
    return type(found.first_stage_model).__name__, loading.faults


def text_encoders(comfy: Any, states: list[dict[str, Any]]) -> tuple[str, list[str]]:
    several = len(states) > 1
    kind = comfy.sd.CLIPType.SD3 if several else comfy.sd.CLIPType.STABLE_DIFFUSION
    with Loading() as loading:
        found = comfy.sd.load_text_encoder_state_dicts(states, clip_type=kind)
    return type(found.cond_stage_model).__name__, loading.faults


def lora(comfy: Any, state: dict[str, Any], base: Path) -> tuple[str, list[str]]:
    """Keys that ComfyUI maps to no layer of the base, and additions that do not have the shape of their layer."""
    import torch
    from safetensors import safe_open

    with safe_open(base, framework="pt") as file:
        shapes = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118
    prefix = comfy.detection.unet_prefix_from_state_dict(shapes)
    config = comfy.detection.model_config_from_unet(shapes, prefix)
    if config is None:
        return "LoRA", [f"ComfyUI does not know what the base {base} is"]
    network = config.get_model(shapes, prefix, device="meta")
    weights = network.state_dict()
    state = comfy.convert(state)
    additions = comfy.lora.load_lora(state, comfy.lora.model_lora_keys_unet(network, {}), log_missing=False)
    used = {key for addition in additions.values() for key in getattr(addition, "loaded_keys", ())}
    faults = [f"no layer takes {key}" for key in state if key not in used]
    for target, addition in additions.items():
        name, rows = target if isinstance(target, str) else target[0], None if isinstance(target, str) else target[1]
        shape = tuple(weights[name].shape)
        shape = shape if rows is None else (*shape[: rows[0]], rows[2], *shape[rows[0] + 1 :])
        up, down = addition.weights[0], addition.weights[1]
        delta = (up.shape[0], down[0].numel())
        if delta != (shape[0], weights[name][0].numel()):
            faults.append(f"{name} is {shape}, its addition {delta}")
    return f"LoRA for {type(network).__name__}, {len(additions)} layers", faults


if __name__ == "__main__":
    sys.exit(main())
