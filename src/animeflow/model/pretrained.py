"""A network of diffusers or transformers from a folder, whole or not at all. Knows both libraries' folders; knows no family.

Left alone, both fill what a folder lacks with random numbers and say so in the log only, and a folder of another kind of network
loads with every weight random.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError

from ..core.errors import DataError
from ..core.files import read_json
from .names import PARTLY, listed
from .weights import weight_files

Net = TypeVar("Net")

# Of a larger network that this one is a part of, or constants that older versions saved: nothing reads them.
SPARE = re.compile(
    r"^lm_head\.|^logit_scale$|^vision_model\.|^visual_projection\.|^decoder\.block\.|(^|\.)(position_ids|inv_freq)$"
)


def load_whole(kind: type[Net], folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Net:
    """The network of class `kind` in `folder`, in `dtype`. Pickled weights are never opened, nothing is downloaded.

    Raises:
        DataError: the folder holds another kind of network, cannot be read, or its tensors are not exactly the network's.
    """
    folder = Path(folder)
    check_kind(folder, kind)
    weight_files(folder)
    diffusers = issubclass(kind, ModelMixin)
    loader: Any = kind
    try:
        with _quiet(diffusers=diffusers):
            network, info = loader.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, and not as a traceback
                **{"torch_dtype" if diffusers else "dtype": dtype},
            )
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"cannot read the weights of {kind.__name__}: {error}",
            where=str(folder),
            do="export or download the folder again; the weights must be safetensors under the names that the library gives them",
        ) from error
    _check_info(info, kind.__name__, folder)
    whole: Net = network
    return whole


def check_kind(folder: Path, kind: type) -> None:
    """Raise `DataError` unless the folder's config.json speaks of a network of class `kind`. No weight is read."""
    file = folder / "config.json"
    if not file.is_file():
        raise DataError(
            f"no config.json here, so nothing tells that this is {kind.__name__}",
            where=str(folder),
            do="give the folder of a part in diffusers' layout",
        )
    config = read_json(file)
    found, wanted = kind_of(config), kind.__name__
    if not issubclass(kind, ModelMixin):
        settings: Any = kind
        wanted = settings.config_class.model_type
        part = config.get(settings.config_class.base_config_key)
        if isinstance(part, Mapping) and part.get("model_type", wanted) == wanted:
            return  # a larger network whose part is meant: transformers takes it out
    if found not in (None, wanted):
        raise DataError(
            f"this is {found}, not {wanted}",
            where=str(folder),
            why="the library would read it all the same, with random numbers for every weight",
            do=f"give a folder with the config and weights of {kind.__name__}",
        )


def kind_of(config: Mapping[str, Any]) -> str | None:
    """What a config.json says it is of: diffusers' class or transformers' type of model."""
    said = config.get("_class_name", config.get("model_type"))
    return str(said) if said is not None else None


def _check_info(info: Mapping[str, Any], name: str, folder: Path) -> None:
    missing = sorted(info.get("missing_keys", ()))
    unknown = sorted(key for key in info.get("unexpected_keys", ()) if not SPARE.search(key))
    shapes = [
        f"'{key}' {tuple(found)} instead of {tuple(wanted)}" for key, found, wanted in info.get("mismatched_keys", ())
    ]
    said = [f"{len(missing)} missing: {listed(missing)}"] if missing else []
    said += [f"{len(unknown)} unknown: {listed(unknown)}"] if unknown else []
    said += [f"{len(shapes)} of another shape: {listed(sorted(shapes), quoted=True)}"] if shapes else []
    said += [str(message) for message in info.get("error_msgs", ())]
    if said:
        raise DataError(
            f"the tensors here are not those of {name} as config.json describes it: {'; '.join(said)}",
            where=str(folder),
            why=PARTLY,
            do="export or download this folder again, config.json and weights together",
        )


@contextlib.contextmanager
def _quiet(*, diffusers: bool) -> Iterator[None]:
    """The library's own table of missing tensors stays out of the log: our error says the same, and stops."""
    if diffusers:
        from diffusers.utils import logging
    else:
        from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
