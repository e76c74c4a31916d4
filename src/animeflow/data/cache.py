"""Shards to a cache of latents and text rows, of which only what is missing is encoded. Knows a codec and a tower by protocol.

An entry is addressed by all that decides it, so an edited caption costs one row, another codec or length policy can never meet
a stale entry, and processes that fill one cache at once need not wait for each other: each takes the uids that are its rank
modulo the world, writes files of its own, and at the end its own part of the index.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..core import files
from ..core.log import progress
from ..model.protocol import Codec, TextTower
from ..text.caption import Caption, CaptionPolicy, count, variants
from .index import FORMAT, LATEST, Row, manifest_path, more_columns, part_path, read_part, write_part
from .latents import PREPROCESSING, encode_latents, latent_address
from .manifest import Rejection
from .masks import FORMAT as MASK_FORMAT
from .masks import encode_masks, mask_address
from .reader import ShardSet
from .store import Store, StoreWriter
from .texts import EMPTY, convert_texts, count_truncated, encode_texts, fitting, row_identity, text_address


@dataclass(frozen=True)
class CacheDiff:
    """What building would encode, counted without encoding it. Captions are counted once however many pictures share them."""

    pictures: int
    latents_missing: int
    latents_present: int
    texts_missing: int
    texts_present: int
    masks_missing: int = 0
    masks_present: int = 0


@dataclass(frozen=True)
class CacheReport:
    """What one process did.

    Attributes:
        hash: name of the index that was written.
        bytes: of the new entries.
        truncated: encoder -> distinct captions that lose tokens to its length policy.
        captions: how many of each kind and language, and languages that were wished but missing.
        rejected: pictures whose latent is not finite; they are in no index.
    """

    hash: str
    pictures: int
    latents_encoded: int
    latents_reused: int
    texts_encoded: int
    texts_reused: int
    seconds: float
    bytes: int
    truncated: dict[str, int] = field(default_factory=dict)
    captions: dict[str, dict[str, int]] = field(default_factory=dict)
    rejected: tuple[Rejection, ...] = ()
    masks_encoded: int = 0
    masks_reused: int = 0

    @property
    def encoded(self) -> int:
        return self.latents_encoded + self.texts_encoded + self.masks_encoded


@dataclass(frozen=True)
class _Wanted:
    """What the pictures of one process need: uid -> latent address, uid -> captions, address -> text, uid -> concept; and uid ->
    mask address of those that have one."""

    latents: dict[int, str]
    captions: dict[int, list[Caption]]
    texts: dict[str, str]
    concepts: dict[int, str]
    masks: dict[int, str]


@dataclass(frozen=True)
class _Filled:
    """What was written: bytes, texts that the tower encoded, and why the latents of some uids were not."""

    bytes: int
    texts: int
    bad: Mapping[int, str]


def build_cache(
    shards: ShardSet,
    codec: Codec,
    tower: TextTower,
    policy: CaptionPolicy,
    *,
    out: Path,
    seed: int,
    variants: int = 4,
    text_dtype: str = "bf16",
    prior: bool = False,
    batch_size: int = 8,
    text_batch_size: int = 512,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
    threads: int = 4,
    segment_bytes: int = 256 * 2**20,
    describe: Mapping[str, Any] | None = None,
) -> CacheReport:
    """Encode what `out` (`cache/<family>`) lacks and write its index.

    Args:
        seed: of the caption variants.
        variants: captions per picture; 0 caches latents and the empty prompt only, for captions that are encoded live.
        text_dtype: of the rows of captions: "bf16" or, in half the space, "int8". Rows that are here in bf16 need no tower.
        prior: encode beside every caption what it says to a model that knows no trigger, for a recipe that keeps what a base says.
        rank, world: this process and how many share the work. All of them have to finish before the cache can be opened.
        text_batch_size: captions given to the tower at once, which puts those of one length together.
        threads: that read and decode pictures ahead of the codec.
        segment_bytes: size of the files that entries are written to.
        describe: the family's own description, for the manifest.
    Raises:
        ConfigError: there is no such `text_dtype`.
        DataError: a shard is broken, or the tower gives numbers that are not finite.
    """
    started, out = time.perf_counter(), Path(out)
    codec, tower = codec.to(device), tower.to(device)
    wanted = _want(shards, codec, tower, policy, variants, seed, rank, world, text_dtype, prior)
    stores = {name: Store(out / name) for name in ("latents", "texts", "masks")}
    todo_latents, todo_masks = _todo(stores["latents"], wanted.latents), _todo(stores["masks"], wanted.masks)
    todo_texts = {a: wanted.texts[a] for a in stores["texts"].missing(wanted.texts)}
    filled = _fill(
        out, shards, codec, tower, stores["texts"], todo_latents, todo_texts, todo_masks,
        text_dtype=text_dtype, batch_size=batch_size, text_batch_size=text_batch_size, device=device,
        threads=threads, segment_bytes=segment_bytes,
    )  # fmt: skip
    lost = {wanted.latents[uid]: reason for uid, reason in filled.bad.items()}
    rejected = [Rejection(u, shards.bucket_of(u), lost[a]) for u, a in sorted(wanted.latents.items()) if a in lost]
    identity = _identity(shards, codec, tower, policy, variants, seed, prior) | row_identity(text_dtype)
    report = CacheReport(
        hash=files.address(**identity),
        pictures=len(wanted.latents) - len(rejected),
        latents_encoded=len(todo_latents) - len(filled.bad),
        latents_reused=len(set(wanted.latents.values())) - len(todo_latents),
        texts_encoded=filled.texts,
        texts_reused=len(wanted.texts) - filled.texts,
        seconds=time.perf_counter() - started,
        bytes=filled.bytes,
        truncated=count_truncated(wanted.texts.values(), tower),
        captions={
            name: dict(counts) for name, counts in count(c for cs in wanted.captions.values() for c in cs).items()
        },
        rejected=tuple(rejected),
        masks_encoded=len(todo_masks),
        masks_reused=len(set(wanted.masks.values())) - len(todo_masks),
    )
    address = partial(text_address, tower=tower, text_dtype=text_dtype)
    _write_index(out, report, identity, wanted, shards, address, rank=rank, world=world, describe=dict(describe or {}))
    return report


def diff(
    shards: ShardSet, codec: Codec, tower: TextTower, policy: CaptionPolicy, *, out: Path, seed: int,
    variants: int = 4, text_dtype: str = "bf16", prior: bool = False,
) -> CacheDiff:  # fmt: skip
    """What `build_cache` would encode with the same arguments. Encodes and writes nothing."""
    wanted = _want(shards, codec, tower, policy, variants, seed, 0, 1, text_dtype, prior)
    counts: list[int] = []
    for name, addresses in (
        ("latents", wanted.latents.values()),
        ("texts", wanted.texts),
        ("masks", wanted.masks.values()),
    ):
        missing = len(Store(Path(out) / name).missing(addresses))
        counts += [missing, len(set(addresses)) - missing]
    return CacheDiff(len(wanted.latents), *counts)


def prune(out: Path, *, keep: Iterable[str] | None = None) -> dict[str, tuple[int, int]]:
    """Delete the entries that no index of `keep` (default: every index here) names, the other indices, and what killed runs
    left half-written.

    Returns per store (entries dropped, bytes freed). Nothing may read or fill the cache meanwhile.
    """
    out = Path(out)
    for path in out.rglob(".*.tmp"):
        path.unlink()
    here = {path.stem.removeprefix("manifest-") for path in out.glob("manifest-*.json")}
    kept = here if keep is None else here & set(keep)
    for path in out.glob("index-*.parquet"):
        if path.name.removeprefix("index-").split(".")[0] not in kept:
            path.unlink()
    used: dict[str, set[str]] = {"latents": set(), "texts": set(), "masks": set()}
    for hash in here - kept:
        manifest_path(out, hash).unlink()
    for hash in kept:
        used["texts"].add(files.read_json(manifest_path(out, hash))["empty"])
    for path in out.glob("index-*.parquet"):
        table, _ = read_part(path)
        used["latents"].update(table["latent"].to_pylist())
        for column in {"captions", "priors"} & set(table.column_names):
            used["texts"].update(table[column].combine_chunks().flatten().unique().to_pylist())
        if "mask" in table.column_names:
            used["masks"].update(table["mask"].drop_null().to_pylist())
    stores = {name: Store(out / name) for name in used}
    return {name: store.prune(used[name]) for name, store in stores.items() if len(store) or name != "masks"}


# -- inside ------------------------------------------------------------------------------------------------------------


def _want(
    shards: ShardSet,
    codec: Codec,
    tower: TextTower,
    policy: CaptionPolicy,
    number: int,
    seed: int,
    rank: int,
    world: int,
    text_dtype: str,
    prior: bool,
) -> _Wanted:
    latents: dict[int, str] = {}
    captions: dict[int, list[Caption]] = {}
    texts = {text_address(EMPTY, tower, text_dtype): EMPTY}
    concepts: dict[int, str] = {}
    masks: dict[int, str] = {}
    fits = fitting(tower, policy.fit)
    for uid in shards.in_file_order():
        if uid % world != rank:  # a uid is a hash already, so this is an even split
            continue
        facts = shards.facts(uid)
        latents[uid], concepts[uid] = latent_address(shards.pixels_of(uid), codec), str(facts.get("source") or "")
        captions[uid] = variants(facts, policy, count=number, seed=seed, uid=uid, fits=fits) if number else []
        said = [caption.text for caption in captions[uid]] + (_priors(captions[uid]) if prior else [])
        texts |= {text_address(text, tower, text_dtype): text for text in said}
        if mask := shards.mask_of(uid):
            masks[uid] = mask_address(mask, codec.stride)
    return _Wanted(latents, captions, texts, concepts, masks)


def _fill(
    out: Path, shards: ShardSet, codec: Codec, tower: TextTower, store: Store, latents: list[int],
    texts: Mapping[str, str], masks: list[int], *, text_dtype: str, batch_size: int, text_batch_size: int,
    device: torch.device | str, threads: int, segment_bytes: int,
) -> _Filled:  # fmt: skip
    """Encode what is missing into the stores at `out`. `store` is the one of texts as it was before."""
    with (
        StoreWriter(out / "latents", segment_bytes=segment_bytes) as writer,
        progress("latents", len(latents)) as advance,
    ):
        written, bad = encode_latents(
            shards, latents, codec, writer, batch_size=batch_size, device=device, threads=threads, advance=advance
        )
    with (
        StoreWriter(out / "texts", segment_bytes=segment_bytes) as writer,
        progress("captions", len(texts)) as advance,
    ):
        packed, size = convert_texts(texts, tower, store, writer, text_dtype=text_dtype)
        advance(len(packed))
        left = {address: text for address, text in texts.items() if address not in packed}
        written += size
        written += encode_texts(left, tower, writer, batch_size=text_batch_size, advance=advance, text_dtype=text_dtype)
    with (
        StoreWriter(out / "masks", segment_bytes=segment_bytes) as writer,
        progress("masks", len(masks)) if masks else nullcontext(lambda _: None) as advance,
    ):
        written += encode_masks(shards, masks, writer, stride=codec.stride, threads=threads, advance=advance)
    return _Filled(written, len(left), bad)


def _priors(captions: Iterable[Caption]) -> list[str]:
    """What captions say to a model that knows no trigger; the same where they hold none."""
    return [caption.text if caption.prior is None else caption.prior for caption in captions]


def _todo(store: Store, latents: Mapping[int, str]) -> list[int]:
    """One picture for every latent that is missing: pictures of equal pixels share it."""
    owners = {address: uid for uid, address in latents.items()}
    return [owners[address] for address in store.missing(owners)]


def _identity(
    shards: ShardSet, codec: Codec, tower: TextTower, policy: CaptionPolicy, number: int, seed: int, prior: bool
) -> dict[str, Any]:
    # What is not there is not named, so that a cache without it is the one that it always was.
    more = ({"masks": MASK_FORMAT} if shards.has_masks else {}) | ({"prior": True} if prior else {})
    return more | {
        "format": FORMAT,
        "shards": shards.samples_hash,
        "codec": codec.fingerprint,
        "tower": tower.fingerprint,
        "preprocessing": PREPROCESSING,
        "policy": policy.facts(),
        "variants": number,
        "seed": seed,
    }


def _write_index(
    out: Path, report: CacheReport, identity: Mapping[str, Any], wanted: _Wanted, shards: ShardSet,
    address: Callable[[str], str], *, rank: int, world: int, describe: Mapping[str, Any],
) -> None:  # fmt: skip
    rejected, more = {rejection.uid for rejection in report.rejected}, more_columns(identity)
    rows = []
    for uid, latent in wanted.latents.items():
        if uid not in rejected:
            texts = tuple(caption.text for caption in wanted.captions[uid])
            addresses = tuple(map(address, texts))
            place = (shards.bucket_of(uid), shards.split_of(uid))
            priors = tuple(map(address, _priors(wanted.captions[uid]))) if "priors" in more else ()
            mask = wanted.masks.get(uid)
            rows.append(Row(uid, *place, latent, addresses, texts, wanted.concepts[uid], mask, priors))
    write_part(part_path(out, report.hash, rank, world), rows, asdict(report), more=more)
    if rank == 0:
        manifest = {
            "format": FORMAT, "hash": report.hash, "world": world, "identity": identity, "family": describe,
            "empty": address(EMPTY),
        }  # fmt: skip
        files.write_json(manifest_path(out, report.hash), manifest)
        files.write_json(out / LATEST, {"hash": report.hash})
