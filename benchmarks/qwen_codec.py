"""The picture path of Qwen-Image's autoencoder against its video path, both in one run, on random weights.

    python benchmarks/qwen_codec.py [--device cuda] [--size 512] [--repeats 5] [--base-dim 96]

Prints a table of seconds per picture and their ratio. The two are interleaved, and the fastest repeat of each counts.
"""

from __future__ import annotations

import argparse
import time

import torch

from animeflow.model.anima.codec import QwenCodec, qwen_net


def seconds(work, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@torch.no_grad()
def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--device", default="cpu")
    words.add_argument("--size", type=int, default=512, help="side of the picture in pixels")
    words.add_argument("--repeats", type=int, default=5)
    words.add_argument("--base-dim", type=int, default=96, help="width of the network; the released one has 96")
    words.add_argument("--threads", type=int, default=None)
    given = words.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    video = qwen_net(base_dim=given.base_dim).eval().to(device)
    ours = qwen_net(base_dim=given.base_dim)
    ours.load_state_dict(video.state_dict())
    codec = QwenCodec(ours).to(device)
    pixels = torch.rand(1, 3, given.size, given.size, device=device) * 2 - 1
    latents, raw = codec.encode(pixels), video.encode(pixels.unsqueeze(2)).latent_dist.mode()
    mean, std = (values.to(device)[None, :, None, None, None] for values in (codec.mean, codec.std))
    difference = (latents - ((raw - mean) / std)[:, :, 0]).abs().max()
    works = {
        ("encode", "video"): lambda: video.encode(pixels.unsqueeze(2)),
        ("encode", "picture"): lambda: codec.encode(pixels),
        ("decode", "video"): lambda: video.decode(raw),
        ("decode", "picture"): lambda: codec.decode(latents),
    }
    best: dict[tuple[str, str], float] = {}
    for _ in range(given.repeats + 1):  # the first warms up, and is never the fastest for long
        for name, work in works.items():
            best[name] = min(seconds(work, device), best.get(name, float("inf")))
    size = f"{given.size}x{given.size}, base {given.base_dim}"
    print(f"torch {torch.__version__}, {device}, {size}, threads {torch.get_num_threads()}")
    print(f"latents differ by at most {float(difference):.1e}")
    for what in ("encode", "decode"):
        slow, fast = best[what, "video"], best[what, "picture"]
        print(f"{what}: video path {slow:.2f} s, picture path {fast:.2f} s, ratio {slow / fast:.2f}")


if __name__ == "__main__":
    main()
