"""Measure `dedup` on real pictures of public repositories that no threshold was set on, and print JSON.

    python benchmarks/dedup_held_out.py SET FOLDER [--sources N] [--look CONFUSIONS]

SET is a key of `SETS`, FOLDER a checkout of its repository (`benchmarks/dedup.md` names them). Versions are labelled from file
names and layers: one body with other eyes, brows, mouth. Copies are made here of N pictures, each in every way of `copies`.
CONFUSIONS is a folder for side-by-side pictures of what came out wrong. Pictures are made smaller, to SIDE at most, to save time.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import random
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFilter, ImageOps

from animeflow.curate import groups
from animeflow.curate.candidates import candidates
from animeflow.curate.known import fingerprints
from animeflow.curate.prints import Prints
from animeflow.curate.verdicts import Verdicts
from animeflow.image.likeness import DUPLICATE, VARIANT

Picture = Image.Image


@dataclass(frozen=True)
class Item:
    """`group`: versions of one drawing share it. `maybe`: pictures that share it are neither right nor wrong together.
    `source`, `kind`: of a copy, the name of what it was made from, and how."""

    name: str
    picture: Picture
    group: str
    maybe: str = ""
    source: str = ""
    kind: str = ""


def opened(file: Path) -> Picture:
    with Image.open(file) as image:
        return image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")


def stacked(*files: Path) -> Picture:
    layers = [opened(file).convert("RGBA") for file in files]
    for layer in layers[1:]:
        layers[0].alpha_composite(layer)
    return layers[0]


def faces(*parts: list[Path]) -> Iterator[tuple[Path, ...]]:
    """The first of every part; then one part changed at a time; then all."""
    first = [part[0] for part in parts]
    yield tuple(first)
    for k, part in enumerate(parts):
        for other in part[1:3]:
            yield (*first[:k], other, *first[k + 1 :])
    yield tuple(part[-1] for part in parts)


def learn_to_code(folder: Path) -> Iterator[Item]:
    """freeCodeCamp/LearnToCodeRPG: layered half figures, painted photographs as backgrounds, things."""
    images = folder / "game" / "images"
    for person in sorted((images / "chara").iterdir()):
        parts = [sorted(person.glob(f"*_{part}_*.png")) for part in ("eyes", "brows", "mouth")]
        bodies = [f for f in sorted(person.glob("*.png")) if re.search(r"_(base|apron|overall)$|^rohit$", f.stem)]
        group = "raj" if person.name in ("rishi", "rohit") else person.name  # one drawing in other clothes
        for body in bodies if all(parts) else []:
            few = itertools.islice(faces(*parts), 3 if len(bodies) > 1 else None)
            for k, layers in enumerate(few):
                yield Item(f"{body.stem}_{k}", stacked(body, *layers), group)
    for file in sorted((images / "chara" / "npc").glob("*.png")):
        yield Item(f"npc_{file.stem}", opened(file), f"npc_{file.stem}")
    for file in sorted((images / "bg").iterdir()):
        if file.stat().st_size > 1000:
            yield Item(file.stem, opened(file), file.stem)
    for file in sorted([*images.glob("others/**/*.png"), *images.glob("*_items/*.png")]):
        thing = re.sub(r"\d$|_(nice|second_hand|simple|student|used)$", "", file.stem.removeprefix("room "))
        yield Item(f"{file.parent.name}_{file.stem}", opened(file), f"{file.parent.name}_{file.stem}", thing)


def nova(folder: Path) -> Iterator[Item]:
    """Lunatic-Works/Nova: four layered figures of large canvas, backgrounds, one CG."""
    for person in sorted((folder / "Assets" / "StandingsUncropped").iterdir()):
        if person.is_dir():
            parts = [sorted(person.glob(f"{part}_*.png")) for part in ("mouth", "eye", "eyebrow")]
            for k, layers in enumerate(faces(*parts)):
                files = [person / "body.png", *layers, person / "hair.png"]
                yield Item(f"{person.name}_{k}", stacked(*files), person.name)
    for place in ("Backgrounds", "CG", "Choices"):
        for file in sorted((folder / "Assets" / "Resources" / place).glob("*.png")):
            yield Item(file.stem, opened(file), file.stem, "pill" if "pill" in file.stem else "")


def webgal(folder: Path) -> Iterator[Item]:
    """OpenWebGAL/WebGAL: the pictures of its demonstration."""
    game = folder / "packages" / "webgal" / "public" / "game"
    for file in sorted([*game.glob("figure/**/*.webp"), *game.glob("background/*")]):
        if file.suffix in (".webp", ".png", ".jpg"):
            name = "_".join(file.relative_to(game).with_suffix("").parts)
            yield Item(name, opened(file), name, "figure" if "figure" in name else "webgal")


def bytes_of_love(folder: Path) -> Iterator[Item]:
    """ufosc/VisualNovel: figures with faces and poses in whole files, backgrounds. A pose that changes is another drawing."""
    game = folder / "BytesOfLove" / "game"
    for file in sorted(p for place in ("images", "backgrounds") for p in (game / place).rglob("*")):
        if file.suffix.lower() in (".png", ".jpg", ".webp") and file.stat().st_size > 1000:
            name = "_".join(file.relative_to(game).with_suffix("").parts) + file.suffix.lower().replace(".", "_")
            person = file.parent.name if file.parent.parent.name == "images" else ""
            yield Item(name, opened(file), name, person or file.parent.name)


SETS = {"learn_to_code": learn_to_code, "nova": nova, "webgal": webgal, "bytes_of_love": bytes_of_love}


def copies(item: Item, behind: Picture, rng: random.Random) -> Iterator[Item]:
    """Everything that happens to a picture on its way."""
    picture = item.picture
    width, height = picture.size
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    made: dict[str, Picture] = {
        "jpeg": encoded(flat, "JPEG", quality=75),
        "webp": encoded(picture, "WEBP", quality=70),
        "resized": picture.resize((round(width * 0.55), round(height * 0.55)), Image.Resampling.LANCZOS),
        "mirrored": ImageOps.mirror(picture),
        "mirrored_small_jpeg": encoded(
            ImageOps.mirror(flat).resize((round(width * 0.7), round(height * 0.7))), "JPEG", quality=80
        ),
    }
    for kind, share in (("crop_90", 0.9), ("crop_70", 0.7)):
        wide, high = round(width * share), round(height * share)
        x, y = rng.randint(0, width - wide), rng.randint(0, height - high)
        made[kind] = picture.crop((x, y, x + wide, y + high))
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema()[0] == 0:
        placed = ImageOps.fit(behind.convert("RGB"), picture.size)
        placed.paste(picture, mask=picture.getchannel("A"))
        made |= {"on_white": flat, "placed": encoded(placed, "JPEG", quality=90)}
        cut = placed.convert("RGBA")  # by a program: a soft edge through which the background shines
        cut.putalpha(picture.getchannel("A").filter(ImageFilter.GaussianBlur(1.2)))
        made["cut_out"] = cut
    for kind, one in made.items():
        yield Item(f"{item.name}~{kind}", one, item.group, item.maybe, item.name, kind)


def encoded(picture: Picture, name: str, **options: int) -> Picture:
    with io.BytesIO() as data:
        picture.save(data, name, **options)
        with Image.open(io.BytesIO(data.getvalue())) as image:
            return image.convert(picture.mode)


def measure(items: list[Item], look: Path | None, workers: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as made:
        files = {}
        for uid, item in enumerate(items):
            files[uid] = str(Path(made) / f"{uid:05d}.png")
            item.picture.save(files[uid], compress_level=1)
        started = time.process_time()
        known = fingerprints(Path(made), files, keep=False)
        prints = Prints.of(known.items())
        pairs = [(int(prints.uids[a]), int(prints.uids[b])) for a, b in candidates(prints)]
        facts = {
            uid: groups.Facts(uid, item.picture.width * item.picture.height, "JPEG" if item.kind else "PNG", 0)
            for uid, item in enumerate(items)
        }
        with Verdicts(None, known, files, workers=workers) as verdicts:
            members = groups.group(facts, prints.twins(), pairs, verdicts.look)
            looked = verdicts.looked
    told = judged(items, members, look)
    return {"pictures": len(items), "pairs": looked, "cpu_s": round(time.process_time() - started)} | told


def judged(items: list[Item], members: list[groups.Member], look: Path | None) -> dict[str, object]:
    head = {m.uid: m.group for m in members if m.kind == DUPLICATE}
    version = {m.uid: m.group for m in members if m.kind == VARIANT}
    relation = {(m.uid, m.kind): m.relation for m in members}
    number = {item.name: uid for uid, item in enumerate(items)}
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    wrong: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def of_versions(uid: int) -> int:
        return version.get(head.get(uid, uid), head.get(uid, uid))

    for uid, item in enumerate(items):
        if item.kind:
            source = number[item.source]
            same = head.get(uid, uid) == head.get(source, source)
            found = "duplicate" if same else "version" if of_versions(uid) == of_versions(source) else "missed"
            by_kind[item.kind][found] += 1
            if found != "duplicate":
                wrong[f"{item.kind}_{found}"].append((uid, source))
    counts = Counter[str]()
    for a, b in itertools.combinations(range(len(items)), 2):
        one, two = items[a], items[b]
        drawing = (one.source or one.name) == (two.source or two.name)
        right, open_ = one.group == two.group, bool(one.maybe) and one.maybe == two.maybe
        if head.get(a, a) == head.get(b, b) and not drawing:
            counts["maybe_duplicate" if open_ else "false_duplicate"] += 1
            wrong["maybe_duplicate" if open_ else "false_duplicate"].append((a, b))
        if one.kind or two.kind:
            continue
        together = of_versions(a) == of_versions(b)
        counts["true_pairs"] += right
        counts["true_found"] += right and together
        counts["found"] += together and (right or not open_)
        counts["maybe_found"] += together and open_ and not right
        if right != together and not open_:
            wrong["version_missed" if right else "version_false"].append((a, b))
        elif open_ and together:
            wrong["maybe_version"].append((a, b))
    if look is not None:
        look.mkdir(parents=True, exist_ok=True)
        for name, pairs in wrong.items():
            beside(items, pairs, relation).save(look / f"{name}.png")
    named = {kind: [f"{items[a].name} = {items[b].name}" for a, b in pairs[:8]] for kind, pairs in wrong.items()}
    return {"copies": {k: dict(v) for k, v in by_kind.items()}, "pairs_of_versions": dict(counts), "wrong": named}


def beside(
    items: list[Item], pairs: list[tuple[int, int]], relation: dict[tuple[int, str], str], most: int = 24
) -> Picture:
    from PIL import ImageDraw

    cell, across = 220, 4
    shown = pairs[:most]
    sheet = Image.new("RGB", (across * (2 * cell + 20), -(-len(shown) // across) * (cell + 30)), "#dde8dd")
    draw = ImageDraw.Draw(sheet)
    for k, pair in enumerate(shown):
        x, y = k % across * (2 * cell + 20), k // across * (cell + 30)
        for n, uid in enumerate(pair):
            one = items[uid].picture.convert("RGBA")
            one.thumbnail((cell, cell))
            sheet.paste(one, (x + n * cell, y), one)
            told = "/".join(relation.get((uid, kind), "-") for kind in (DUPLICATE, VARIANT))
            draw.text((x + n * cell, y + cell), f"{items[uid].name[-34:]}\n{told}", fill="black")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sources", type=int, default=24)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--look", type=Path)
    parser.add_argument("--side", type=int, default=1024)
    asked = parser.parse_args()
    items = list(SETS[asked.set](asked.folder))
    for item in items:
        item.picture.thumbnail((asked.side, asked.side), Image.Resampling.LANCZOS)
    rng = random.Random(0)
    large = [item for item in items if min(item.picture.size) >= 200]
    backgrounds = [item.picture for item in large if item.picture.width > item.picture.height] or [large[0].picture]
    for item in rng.sample(large, min(asked.sources, len(large))):
        items += copies(item, rng.choice(backgrounds), rng)
    print(json.dumps({"set": asked.set} | measure(items, asked.look, asked.workers), indent=1))


if __name__ == "__main__":
    main()
