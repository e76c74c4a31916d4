"""Eight-bit text rows against others of their kind: size, error and speed on drawn features. `python benchmarks/text_rows.py`.

The features are drawn, not read from an encoder: sizes of channels spread by a factor of e, eight of 4096 a hundred times larger.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from animeflow.data import rows8

TOKENS, WIDTH = 400, 4096


def features(spread: float, outliers: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.exp(spread * torch.randn(WIDTH, generator=generator))
    sizes[torch.randperm(WIDTH, generator=generator)[:outliers]] *= 100
    return (torch.randn(TOKENS, WIDTH, generator=generator) * sizes).bfloat16()


def ours(x: Tensor) -> Tensor:
    return rows8.dequantise(*rows8.quantise(x))


def power_of_two(block: int) -> Callable[[Tensor], Tensor]:
    return lambda x: _scaled(x, block, lambda least: torch.exp2(torch.ceil(torch.log2(least))))


def bfloat16(block: int) -> Callable[[Tensor], Tensor]:
    return lambda x: _scaled(x, block, lambda least: (least * (1 + 2**-8)).bfloat16().float())


def _scaled(x: Tensor, block: int, scale_of: Callable[[Tensor], Tensor]) -> Tensor:
    blocks = x.float().unflatten(-1, (-1, block))
    scale = scale_of(blocks.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127)
    return ((blocks / scale).round().clamp(-127, 127) * scale).flatten(-2).bfloat16()


WAYS = {  # name -> (way, bytes per token)
    "int8, power of two per 16 (ours)": (ours, WIDTH + WIDTH // 16),
    "int8, power of two per 32": (power_of_two(32), WIDTH + WIDTH // 32),
    "int8, bfloat16 scale per 32": (bfloat16(32), WIDTH + WIDTH // 16),
    "int8, bfloat16 scale per 64": (bfloat16(64), WIDTH + WIDTH // 32),
    "int8, bfloat16 scale per 128": (bfloat16(128), WIDTH + WIDTH // 64),
    "float8 e4m3, bfloat16 scale per token": (lambda x: _float8(x), WIDTH + 2),
}


def _float8(x: Tensor) -> Tensor:
    scale = x.float().abs().amax(-1, keepdim=True) / 448
    return ((x.float() / scale).to(torch.float8_e4m3fn).float() * scale).bfloat16()


def cosine(x: Tensor, y: Tensor) -> float:
    """The worst token's."""
    return float(torch.cosine_similarity(x.double(), y.double(), dim=-1).min())


def main() -> None:
    torch.set_num_threads(1)
    print(
        "| way | KiB per 100 tokens | normal | channels differ | and outliers | beside the outliers | twice is once |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, (way, size) in WAYS.items():
        cells = [cosine(x, way(x)) for x in (features(0, 0), features(1, 0), features(1, 8))]
        x = features(1, 8)
        small = x.abs().float().mean(0) < 20
        cells.append(cosine(x[:, small], way(x)[:, small]))
        same = torch.equal(way(x), way(way(x)))
        print(
            f"| {name} | {size * 100 / 1024:.1f} |",
            " | ".join(f"{c:.5f}" for c in cells),
            f"| {'yes' if same else 'no'} |",
        )
    row = {"t5": features(1, 8)[:100]}
    packed = rows8.pack(row)
    for what, run in {"pack": lambda: rows8.pack(row), "unpack": lambda: rows8.unpack(packed)}.items():
        run()
        started = time.process_time()
        for _ in range(50):
            run()
        print(f"{what} 100 tokens: {(time.process_time() - started) / 50 * 1e3:.2f} ms of one core")


if __name__ == "__main__":
    main()
