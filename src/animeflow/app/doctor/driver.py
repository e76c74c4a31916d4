"""Torch's build beside the machine's NVIDIA driver. `judge` decides from facts, so every mismatch can be tried without a GPU."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .finding import Finding, error, ok, warning

# The oldest Linux driver of each CUDA generation (NVIDIA's release notes): within one, newer minor versions run, too.
OLDEST = {11: "450", 12: "525", 13: "580"}
NAME = "torch and driver"


@dataclass(frozen=True)
class Build:
    """What torch says of itself.

    Attributes:
        version: `2.13.0+cu130`.
        cuda: version of CUDA that it was built with, as `13.0`; None of a build for the CPU.
        hip: the same of ROCm.
        available: whether it sees a GPU.
        reason: in its own words, why not.
    """

    version: str
    cuda: str | None = None
    hip: str | None = None
    available: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Driver:
    """What the machine says.

    Attributes:
        card: an NVIDIA card is plugged in, as far as the system tells.
        version: of the driver, as `580.65.06`; None where there is none.
        cuda: the newest CUDA that the driver runs, as (13, 0).
        trouble: what nvidia-smi says when it fails.
        hidden: CUDA_VISIBLE_DEVICES, where it hides every GPU.
        system: `Linux`, `Windows`.
    """

    card: bool = False
    version: str | None = None
    cuda: tuple[int, int] | None = None
    trouble: str = ""
    hidden: str | None = None
    system: str = "Linux"

    @property
    def there(self) -> bool:
        return self.version is not None or self.cuda is not None

    def __str__(self) -> str:
        version = f"NVIDIA driver {self.version}" if self.version else "an NVIDIA driver"
        return f"{version} (up to CUDA {self.cuda[0]}.{self.cuda[1]})" if self.cuda else version


def judge(build: Build, driver: Driver) -> list[Finding]:
    """Whether this torch and this driver fit each other."""
    if build.hip is not None:
        return [
            warning(
                NAME, f"torch {build.version} is built for ROCm {build.hip}", do="expect to be the first",
                why="no run on such a GPU has been tried",
            )
        ]  # fmt: skip
    if driver.trouble and driver.card:
        return [_trouble(driver)]
    return [_cpu_build(build, driver) if build.cuda is None else _cuda_build(build, build.cuda, driver)]


def _trouble(driver: Driver) -> Finding:
    if "mismatch" in driver.trouble:
        return error(
            NAME, f"the driver was updated under the running system: {driver.trouble}", do="restart the machine"
        )
    return error(
        NAME, f"the NVIDIA driver does not answer: {driver.trouble}", do="nvidia-smi", why="no GPU can be used"
    )


def _cpu_build(build: Build, driver: Driver) -> Finding:
    what = f"torch {build.version} is built for the CPU only"
    if driver.there:
        return error(
            NAME, f"{what}, and there is {driver}", do=_reinstall(build, driver), why="the GPU would stand idle"
        )
    if driver.card:
        return error(NAME, f"{what}, and the NVIDIA card has no driver", do=_install_driver(13))
    return ok(NAME, f"{what}, and there is no NVIDIA GPU here")


def _cuda_build(build: Build, cuda: str, driver: Driver) -> Finding:
    what = f"torch {build.version} for CUDA {cuda}"
    built = _pair(cuda)
    if not driver.there:
        if driver.card:
            return error(NAME, f"{what}, and the NVIDIA card has no driver", do=_install_driver(built[0]))
        return warning(
            NAME, f"{what}, and no NVIDIA driver is found: the CPU is used",
            do="nothing on a machine without a GPU; in a container, start it with its GPUs (docker run --gpus all)",
        )  # fmt: skip
    if driver.cuda is not None and driver.cuda[0] < built[0]:
        return error(
            NAME,
            f"{what}, and {driver} is too old for it",
            why="torch sees no GPU with it",
            do=_install_driver(built[0]),
        )
    if not build.available:
        if driver.hidden is not None:
            return warning(
                NAME, f"CUDA_VISIBLE_DEVICES='{driver.hidden}' hides every GPU", do="unset CUDA_VISIBLE_DEVICES"
            )
        reason = f": {build.reason}" if build.reason else ""
        return error(NAME, f"{what} does not get at the GPU{reason}", do="nvidia-smi", why=f"there is {driver}")
    return ok(NAME, f"{what}, {driver}")


def _reinstall(build: Build, driver: Driver) -> str:
    version = build.version.partition("+")[0]
    if driver.system == "Windows":
        return f"install torch {version} anew with the command that PyTorch's page 'Get started' shows for CUDA"
    command = f"pip install --force-reinstall 'torch=={version}'"
    return command if driver.cuda is None or driver.cuda[0] >= 13 else f"{_install_driver(13)}, then: {command}"


def _install_driver(cuda: int) -> str:
    return f"install NVIDIA driver {OLDEST.get(cuda, OLDEST[13])} or newer and restart"


def _pair(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(re.match(r"\d*", minor)[0] or 0)  # type: ignore[index]  # matches anything


def parse_smi(text: str) -> tuple[str | None, tuple[int, int] | None]:
    """Driver and newest CUDA from the head of what nvidia-smi prints."""
    version = re.search(r"Driver Version:\s*([\d.]+)", text)
    cuda = re.search(r"CUDA(?: UMD)? Version:\s*(\d+)\.(\d+)", text)
    return version[1] if version else None, (int(cuda[1]), int(cuda[2])) if cuda else None


def build() -> Build:
    """Ask torch."""
    import torch

    reason, available = "", torch.cuda.is_available()
    if not available and torch.version.cuda:
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as refusal:
            reason = " ".join(str(refusal).split())[:200]
    return Build(torch.__version__, torch.version.cuda, torch.version.hip, available, reason)


def driver() -> Driver:
    """Ask nvidia-smi, then the library itself, which is there in containers without the program."""
    text, trouble = _smi()
    version, cuda = parse_smi(text)
    library = _library_cuda()
    loaded = Path("/proc/driver/nvidia/version")
    if version is None and loaded.is_file():
        said = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", loaded.read_text(errors="replace"))
        version = said[1] if said else None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible if visible is not None and visible.strip() in ("", "-1", "NoDevFiles") else None
    return Driver(
        card=_card() or version is not None,
        version=version,
        cuda=cuda or library,
        trouble=trouble,
        hidden=hidden,
        system=platform.system(),
    )


def _smi() -> tuple[str, str]:
    """What nvidia-smi prints, and its complaint when it fails."""
    try:
        done = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return "", ""
    except (OSError, subprocess.SubprocessError) as failure:
        return "", str(failure)
    if done.returncode == 0:
        return done.stdout, ""
    return "", " ".join((done.stdout + done.stderr).split())[:200] or f"exit code {done.returncode}"


def _library_cuda() -> tuple[int, int] | None:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            library, number = ctypes.CDLL(name), ctypes.c_int(0)
        except OSError:
            continue
        if library.cuDriverGetVersion(ctypes.byref(number)) == 0 and number.value:
            return number.value // 1000, number.value % 1000 // 10
    return None


def _card() -> bool:
    """An NVIDIA display or compute card on the PCI bus."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False
