"""Write a LoRA file in the names of another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import lora_file
from ..show import page


def run(
    overrides: Sequence[str] = (),
    *,
    file: str,
    to: str,
    family: str | None = None,
    out: str | None = None,
    dtype: str | None = None,
) -> None:
    from ...model.tensor_file import dtype_named

    found = lora_file.read(file, family)
    kind = found.dtype if dtype is None else dtype_named(dtype, where="--dtype")
    path = lora_file.place_for(Path(file), to, dialect=to, out=out, was=found.dialect)
    change = f"from {found.dialect} to {to}, {found.dtype} to {kind}".replace("torch.", "")
    files, apart = lora_file.write(
        path, found.state, family=found.family, dialect=to, dtype=kind,
        metadata=lora_file.changed(found.metadata, change, found.state),
    )  # fmt: skip
    page.title(f"{path}: the same LoRA in the names of {to}")
    page.facts(
        {
            "family": found.family,
            "layers": len(found.state),
            "dtype": str(kind).removeprefix("torch."),
            "size": page.size(sum(each.stat().st_size for each in files)),
            "read back": f"every delta W within {apart:.1e} of the original's" + _rounding(str(kind)),
            **lora_file.readers(found.family, to, found.state),
        }
    )


def _rounding(dtype: str) -> str:
    return "" if dtype.endswith("float32") else f" ({dtype.removeprefix('torch.')} rounds)"
