"""A run folder as training leaves one, with numbers that no test has to guess. Drawn pictures stand for samples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from animeflow.core.files import write_json
from animeflow.evaluate import adherence
from animeflow.sample import png
from animeflow.toonworld.describe import prompt
from animeflow.toonworld.draw import draw
from animeflow.toonworld.words import ATTRIBUTES
from animeflow.toonworld.world import HeldOut, sample_prompt_scenes

IMAGES, EVERY = 24_000, 6_000
PRESET = {
    "optim.lr": 2e-4,
    "train.images": 24_000,
    "train.precision": "fp32",
    "data.bucket.kind": "tokens",
    "text.variants": 4,
    "seed": 0,
}


def write_run(folder: Path, *, prompts: int = 4, questions: int = 96) -> dict[str, Any]:
    """Fill `folder` and return the planted record."""
    scenes = sample_prompt_scenes(5, max(prompts, questions))
    write_json(folder / "config.json", PRESET | {"optim.lr": 3e-4, "data.bucket.kind": "explicit"})
    record = write_record(folder)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics()))
    words = [prompt(scene) for scene in scenes]
    write_json(folder / "samples" / "prompts.json", words[:prompts])
    for images in range(0, IMAGES + 1, EVERY):
        (folder / "samples" / str(images)).mkdir(parents=True)
        for k in range(prompts):
            drawn = draw(scenes[k], 96, 96, layers=False).pixels
            faded = (drawn * (images / IMAGES) + 190 * (1 - images / IMAGES)).astype("uint8")
            png.save(folder / "samples" / str(images) / f"{k}.png", faded, {"prompt": words[k], "seed": k})
    report = planted_adherence(scenes[:questions])
    pictures = [{"prompt": word, "seed": k, **each} for k, (word, each) in enumerate(zip(words, report.pictures))]
    write_json(folder / "adherence.json", report.as_dict() | {"pictures": pictures})
    files = [
        {"path": "single_file/toon.safetensors", "bytes": 7_340_032, "sha256": "ab" * 32},
        {"path": "comfyui/vae/toon.safetensors", "bytes": 2048, "sha256": "cd" * 32},
    ]
    places = {"single_file": "`ComfyUI/models/checkpoints`", "comfyui": "copy the tree into `ComfyUI/models`"}
    write_json(folder / "export" / "manifest.json", {"kind": "export", "files": files, "places": places})
    rejected = ["truncated"] * 3 + ["zero_byte"]
    (folder / "rejected.jsonl").write_text(
        "".join(json.dumps({"path": "x.png", "reason": each}) + "\n" for each in rejected)
    )
    return record


def write_record(folder: Path) -> dict[str, Any]:
    record = {
        "name": "toonworld", "date": "2026-05-01T10:00:00Z", "family": "sd35", "flavour": "tiny",
        "base": "random weights", "seed": 0,
        "images_seen": IMAGES, "seconds": 432.0, "hardware": "1 x CPU (x86_64, 2 cores, 2 threads)", "peak_memory_gib": 1.53,
        "device_hours": 0.12, "parameters": 2_345_678, "config_hash": "0123456789abcdef",
        "versions": {"animeflow": "0.1.0", "torch": "2.13.0"},
        "parts": {"codec": "toon 5f3a91"},
        "data": {
            "images": 3500, "counts": {"found": 3604, "catalogue": 3600, "sharded": 3600, "train": 3500},
            "buckets": {"96x96": 1200, "112x80": 1150, "80x112": 1150}, "catalogue_hash": "fedcba9876543210",
            "captions": [
                {"text": "1girl, blue hair, twintails, smile, beach, night", "kind": "tags", "language": "en"},
                {"text": "青い髪の女の子が夜の浜辺で笑っている。", "kind": "sentence", "language": "ja"},
            ],
            "truncation": {"clip_l": {"captions": 14400, "truncated": 12, "limit": 77},
                           "t5": {"captions": 14400, "truncated": 0, "limit": 256}},
        },
        "solvers": [
            {"solver": "euler", "steps": 12, "nfe": 24, "seconds": 1.31, "adherence": 0.812},
            {"solver": "heun", "steps": 12, "nfe": 46, "seconds": 2.48, "adherence": 0.829},
            {"solver": "dopri5", "steps": None, "nfe": 112, "seconds": 5.9, "adherence": 0.833},
        ],
    }  # fmt: skip
    write_json(folder / "record.json", record)
    return record


def metrics() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step, images in enumerate(range(500, IMAGES + 1, 500), 1):
        fall = math.exp(-images / 7000)
        wobble = 0.03 * math.sin(images * 12.9898) + 0.02 * math.sin(images * 78.233)
        line = {
            "images": images,
            "step": step * 16,
            "train/loss": 0.42 + 0.9 * fall + wobble,
            "train/loss_ema": 0.42 + 0.9 * fall,
        }
        line |= {
            f"train/loss_bin_{k}": 0.25 + 0.05 * (k - 3) ** 2 / 9 + (0.3 + 0.1 * k) * fall + wobble / 3
            for k in range(10)
        }
        line |= {
            "optim/lr": 3e-4 * min(1.0, images / 1000, (IMAGES - images) / 4800 + 0.02),
            "train/grad_norm": 0.4 + 2.2 * fall + abs(wobble) * 4,
        }
        line |= {"time/images_per_second": 55 + 40 * wobble, "time/data_wait_share": 0.02 + abs(wobble) / 8}
        lines.append(line)
    for images in range(0, IMAGES + 1, EVERY):
        fall = math.exp(-images / 7000)
        line = {"images": images, "step": images // 32, "val/loss": 0.45 + 0.92 * fall}
        line |= {f"val/loss_t{t:.3f}": 0.3 + t * 0.2 + (0.4 + t) * fall for t in (0.154, 0.5, 0.75, 0.9, 0.98)}
        line |= {f"adherence/{name}": 0.2 + (0.5 + 0.04 * (k % 9)) * (1 - fall) for k, name in enumerate(ATTRIBUTES)}
        line["adherence/mean"] = sum(line[f"adherence/{name}"] for name in ATTRIBUTES) / len(ATTRIBUTES)
        lines.append(line)
    return lines


def planted_adherence(scenes: list[Any]) -> adherence.AdherenceReport:
    """As if a model got attribute number k right in all but (k + 1) of every 12 pictures."""

    def reader(share: int) -> list[dict[str, tuple[str, float]]]:
        readings = []
        for i, scene in enumerate(scenes):
            known = adherence.truth(scene)
            wrong = {
                name: ATTRIBUTES[name][(ATTRIBUTES[name].index(value) + 1) % len(ATTRIBUTES[name])]
                for name, value in known.items()
            }
            readings.append(
                {
                    name: (value if (i * 7 + k) % 12 >= min(11, share + k // 2) else wrong[name], 0.9)
                    for k, (name, value) in enumerate(known.items())
                }
            )
        return readings

    rule = HeldOut()
    return adherence.AdherenceReport(
        images_seen=IMAGES,
        model=adherence.score(reader(0), scenes, held_out=rule),
        unconditional=adherence.score(reader(9), scenes, held_out=rule),
        chance=adherence.chance(scenes),
        light={"night": adherence.Light(24, 61.2, 66.0, 9.4), "overexposed": adherence.Light(22, 221.5, 214.1, 7.9)},
        oracle=dict.fromkeys(ATTRIBUTES, 0.993),
        pictures=adherence.details(reader(0), scenes),
    )
