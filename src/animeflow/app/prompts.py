"""What a run samples, and how: prompts and size of the config, else scenes that training never saw. Knows config and toonworld."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigError
from ..image.bucket import Bucket
from ..toonworld.describe import prompt
from ..toonworld.world import Scene, sample_prompt_scenes
from .tag_database import read_prompts

if TYPE_CHECKING:
    from ..model.protocol import SamplingDefaults

OPTIONS = (
    *("solver", "steps", "schedule", "cfg", "shift", "eta", "s_noise", "negative", "prompt_weights"),
    *("rtol", "atol", "max_nfe"),
)


def held_out_scenes(config: Mapping[str, Any], count: int) -> list[Scene]:
    """Scenes whose combination of colour and background, or colour and style, is in no training picture; figures as in training."""
    weights = {int(number): weight for number, weight in config["toonworld"]["count_weights"].items()}
    return sample_prompt_scenes(config["evaluate"]["seed"], count, count_weights=weights)


def example_prompts(config: Mapping[str, Any], count: int) -> list[str]:
    """`typed_prompts`, read as tags where `sample.language` says so."""
    typed = typed_prompts(config, count)
    readings = read_prompts(config, typed)
    return typed if readings is None else [reading.text for reading in readings]


def typed_prompts(config: Mapping[str, Any], count: int) -> list[str]:
    """`sample.prompts`, or held-out toonworld prompts where the run is about drawn pictures, or nothing."""
    given = config["sample"]["prompts"]
    if isinstance(given, str):
        return [given]
    if given is not None:
        if not isinstance(given, list | tuple) or not all(isinstance(prompt, str) for prompt in given):
            raise ConfigError(
                f"{given} is neither a prompt nor a list of them",
                where="sample.prompts",
                do="for example: 'sample.prompts=[\"1girl, blue hair, smile\"]'; a number needs quotes of its own",
            )
        return list(given)  # all of them: `count` is about drawn scenes
    if config["catalogue"]["source"]["kind"] == "toonworld":
        return [prompt(scene) for scene in held_out_scenes(config, count)]
    return []


def has_emphasis(config: Mapping[str, Any]) -> bool:
    """Whether the prompts of this run are to be read for `(smile:1.3)`: those that a person wrote, unless told otherwise."""
    return config["sample"]["prompts"] is not None and bool(config["sample"].get("prompt_weights"))


def sample_size(config: Mapping[str, Any], buckets: Mapping[str, Sequence[int]] | None = None) -> tuple[int, int]:
    """`(height, width)` of the config, else the bucket with the most pictures. Raises ConfigError when there is neither."""
    node = config["sample"]
    if node["height"] and node["width"]:
        return node["height"], node["width"]
    if buckets:
        bucket = Bucket.parse(max(sorted(buckets), key=lambda name: len(buckets[name])))
        return bucket.height, bucket.width
    raise ConfigError("no size to sample at", where="sample.height", do="set sample.height and sample.width")


def sampling_options(node: Mapping[str, Any], defaults: SamplingDefaults) -> dict[str, Any]:
    """Settings of `sample` as `SamplingSettings` has them; a run that was saved before a setting existed has its default."""
    from ..flow.solver import ADAPTIVE

    options = {key: node[key] for key in OPTIONS if key in node}
    if (node["solver"] or defaults.solver) in ADAPTIVE:
        options["steps"] = None  # they choose their own steps, so `sample.steps` is for the others
    return options


def positive(node: Mapping[str, Any], defaults: SamplingDefaults) -> str:
    """Text to put before every prompt; null is what the family's model card advises."""
    text = node.get("positive", "")
    return defaults.positive if text is None else text
