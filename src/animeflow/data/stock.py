"""How others read tensors from disk, for comparison. Knows plain webdataset and safetensors; nothing trains through it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

MEMBER, FACTS = "latent", "json"


def write_tars(folder: Path, entries: Iterable[tuple[str, Tensor]], *, tar_bytes: int = 256 * 2**20) -> list[str]:
    """Tars of raw bytes and a small JSON per entry, as trainers that stream latents write them."""
    import webdataset

    folder.mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(f"file:{folder}/%05d.tar", maxsize=tar_bytes, verbose=False) as writer:
        for name, tensor in entries:
            data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            writer.write({"__key__": name, MEMBER: data, FACTS: b'{"caption": "1girl, solo", "bucket": "1024x1024"}'})
    return sorted(str(path) for path in folder.glob("*.tar"))


def stream_tars(tars: list[str]) -> Iterator[np.ndarray]:
    """The bytes of every entry in file order, by stock webdataset."""
    os.environ.setdefault("WDS_SECURE", "1")  # webdataset would run `pipe:` names in a shell
    import webdataset

    for item in webdataset.WebDataset(tars, shardshuffle=False):
        yield np.frombuffer(item[MEMBER], dtype=np.uint8)


def read_by_name(names: Mapping[Path, list[str]]) -> Iterator[np.ndarray]:
    """The bytes of named tensors, file by file, by the safetensors library, which maps files into memory."""
    for path, wanted in names.items():
        with safe_open(str(path), framework="pt") as file:
            for name in wanted:
                yield file.get_tensor(name).view(-1).view(torch.uint8).numpy()
