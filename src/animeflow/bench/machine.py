"""What a measurement was taken on: versions, the device and its peaks. Knows torch and nvidia-smi; knows no model."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

# Dense bf16 peak with float32 sums, FLOP/s, from NVIDIA's data sheets (H100 and H200 SXM: 1,979 with sparsity, halved). The first
# pattern that is found in the device's name counts.
PEAKS = (
    (r"GB200", 2500e12),
    (r"B200", 2250e12),
    (r"GH200|H200", 989.4e12),
    (r"H100 NVL", 835e12),
    (r"H100 PCIe", 756e12),
    (r"H100|H800", 989.4e12),
    (r"A100|A800", 312e12),
    (r"L40S", 362e12),
    (r"RTX 5090", 209.5e12),
    (r"RTX 4090", 165.2e12),
)
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "torchao", "triton", "flash-attn", "webdataset")
ASKED = ("driver_version", "clocks.sm", "clocks.max.sm", "power.limit", "temperature.gpu")


def peak_flops(name: str | None) -> float | None:
    """Dense bf16 peak of a device by its name; None for one that is not known."""
    return next((peak for pattern, peak in PEAKS if re.search(pattern, name or "")), None)


def device_name(device: torch.device) -> str | None:
    """Of a GPU; None of a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def facts(device: torch.device) -> dict[str, Any]:
    """Versions, processor and device, as JSON. What does not answer is left out."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            # Of the library that is loaded: one of the system on the library path stands before that of the wheel.
            "cudnn_at_run_time": torch.backends.cudnn.version(),
            **_nvidia_smi(device),
        }
    return found


def gemm_peak(device: torch.device, dtype: torch.dtype, *, size: int | None = None, tries: int = 5) -> dict[str, Any]:
    """Best rate of a square product, in TFLOP/s: what the device gives to a program that does nothing else."""
    size = size or (8192 if device.type == "cuda" else 768)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    repeats = 20 if device.type == "cuda" else 2
    torch.mm(a, b)
    best = float("inf")
    for _ in range(tries):
        _wait(device)
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b)
        _wait(device)
        best = min(best, (time.perf_counter() - start) / repeats)
    return {"tflops": 2 * size**3 / best / 1e12, "size": size, "dtype": str(dtype).removeprefix("torch.")}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    """The processor's name; on Linux `platform` knows only its kind."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(errors="replace"), re.MULTILINE)
        if names:
            return names[0].strip()
    return platform.processor() or platform.machine()


def _nvidia_smi(device: torch.device) -> dict[str, str]:
    """Driver, clocks and limits, where the program is there and answers."""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    command = ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(ASKED, (word.strip() for word in done.stdout.splitlines()[0].split(","))))
