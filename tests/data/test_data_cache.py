"""The cache encodes what is missing and nothing else, and can never give an entry of another codec, tower or caption."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_toys import PLAN, ToyCodec, ToyTower, make_posts, tree
from kill_driver import fill

from animeflow.catalogue.post import Post
from animeflow.core.errors import ConfigError, DataError
from animeflow.data.cache import CacheReport, build_cache, diff, prune
from animeflow.data.index import CacheIndex
from animeflow.data.latents import latent_address, to_model
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.data.texts import text_address
from animeflow.image.decode import decode
from animeflow.text.caption import CaptionPolicy, variants

DRIVER = Path(__file__).with_name("kill_driver.py")
POLICY = CaptionPolicy(kinds={"tags": 1.0, "sentence": 1.0}, order=("general",), rating_words={}, size_tags=False)


class Set:
    """Twenty pictures, their shards and a cache in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "cache"
        self.posts = make_posts(folder / "pictures", 20)

    def shards(self, posts: list[Post] | None = None) -> ShardSet:
        write_shards(posts or self.posts, PLAN, self.folder / "shards", root=self.folder / "pictures", max_samples=8)
        return ShardSet(self.folder / "shards")

    def build(self, codec: ToyCodec | None = None, tower: ToyTower | None = None, **options) -> CacheReport:
        options = {"policy": POLICY, "seed": 5, "variants": 3, "batch_size": 4} | options
        shards = options.pop("shards", None) or self.shards()
        return build_cache(
            shards, codec or ToyCodec(), tower or ToyTower(), options.pop("policy"), out=self.out, **options
        )


@pytest.fixture
def data(tmp_path: Path) -> Set:
    return Set(tmp_path)


def captions_of(data: Set, shards: ShardSet) -> dict[int, list[str]]:
    return {u: [c.text for c in variants(shards.facts(u), POLICY, count=3, seed=5, uid=u)] for u in shards.uids}


def test_latents_and_rows_are_those_of_codec_and_tower_unpadded_in_bfloat16(data: Set):
    report, shards, codec, tower = data.build(), data.shards(), ToyCodec(), ToyTower()
    index = CacheIndex(data.out)
    captions = captions_of(data, shards)
    assert index.hash == report.hash and index.uids == shards.uids and index.captions(shards.uids) == captions
    for uid in shards.uids:
        pixels = decode(shards.sample(uid).png).pixels
        found = index.latents.get(index.latent_address(uid))[""]
        assert torch.equal(found, codec.encode(to_model(pixels)[None])[0].bfloat16())
        for address, caption in zip(index.caption_addresses(uid), captions[uid]):
            row, (wanted,) = index.texts.get(address), tower.encode([caption])
            assert len(row["words"]) == len(caption.split()[:9]), "a row has its caption's own length"
            assert row["words"].dtype == torch.bfloat16 and torch.equal(row["words"], wanted["words"].bfloat16())
            assert row["ids"].dtype == torch.int64 and torch.equal(row["ids"], wanted["ids"])
    assert torch.equal(index.texts.get(index.empty)["sum"], torch.zeros(4).bfloat16())
    assert sum(map(len, index.buckets("train").values())) == 18 and sum(map(len, index.buckets("val").values())) == 2
    assert sum(map(len, index.buckets(None).values())) == 20


def test_equal_captions_are_encoded_once_with_the_empty_prompt(data: Set):
    tower = ToyTower()
    report = data.build(tower=tower)
    distinct = {text for texts in captions_of(data, data.shards()).values() for text in texts} | {""}
    assert sorted(tower.encoded) == sorted(distinct) and report.texts_encoded == len(distinct)
    assert sum(report.captions["kinds"].values()) == 60


def test_building_twice_encodes_nothing_and_leaves_the_same_index(data: Set):
    first = data.build()
    before = tree(data.out)
    codec, tower = ToyCodec(), ToyTower()
    second = data.build(codec, tower)
    assert (second.encoded, second.hash, codec.encoded, tower.encoded) == (0, first.hash, 0, [])
    reused = (second.latents_reused, second.texts_reused)
    assert reused == (first.latents_encoded, first.texts_encoded) and first.encoded == sum(reused)
    after = tree(data.out)
    assert {n: v for n, v in after.items() if "index-" not in n} == {
        n: v for n, v in before.items() if "index-" not in n
    }


def test_one_edited_caption_is_one_row_and_no_latent(data: Set):
    plain = {"policy": CaptionPolicy(kinds={"sentence": 1.0}), "variants": 1}
    data.build(**plain)
    data.posts[3] = replace(data.posts[3], captions={"en": "She has been described anew."})
    codec, tower = ToyCodec(), ToyTower()
    assert diff(data.shards(), codec, tower, plain["policy"], out=data.out, seed=5, variants=1).texts_missing == 1
    report = data.build(codec, tower, **plain)
    assert tower.encoded == ["She has been described anew."] and codec.encoded == 0
    assert (report.latents_encoded, report.texts_encoded, report.latents_reused) == (0, 1, 20)
    index = CacheIndex(data.out)
    assert index.captions([data.posts[3].uid]) == {data.posts[3].uid: ["She has been described anew."]}


def test_one_more_picture_is_one_latent(data: Set):
    data.build()
    codec = ToyCodec()
    data.posts += make_posts(data.folder / "pictures", 1, first=20)
    assert data.build(codec).latents_encoded == codec.encoded == 1
    assert len(CacheIndex(data.out)) == 21


@pytest.mark.parametrize("change", ["codec", "tower", "length policy"])
def test_another_fingerprint_encodes_everything_of_its_kind_and_reuses_nothing(data: Set, change: str):
    data.build()
    codec = ToyCodec("codec-2" if change == "codec" else "codec-1")
    tower = {"tower": ToyTower("tower-2"), "length policy": ToyTower(limit=3)}.get(change, ToyTower())
    report = data.build(codec, tower)
    if change == "codec":
        assert (report.latents_encoded, report.latents_reused, report.texts_encoded) == (20, 0, 0)
    else:
        assert (report.texts_reused, report.latents_encoded) == (0, 0) and report.texts_encoded > 20
    index, shards = CacheIndex(data.out), data.shards()
    assert index.manifest["identity"]["codec"] == codec.fingerprint
    for uid in shards.uids:
        assert index.latent_address(uid) == latent_address(shards.pixels_of(uid), codec)
        texts = index.captions([uid])[uid]
        assert index.caption_addresses(uid) == [text_address(text, tower) for text in texts]
    if change == "length policy":
        assert max(len(index.texts.get(a)["words"]) for u in shards.uids for a in index.caption_addresses(u)) == 3


def test_a_cache_of_another_codec_or_tower_is_refused(data: Set):
    data.build()
    index = CacheIndex(data.out)
    index.require(codec="codec-1", tower="tower-1-9")
    for wrong in ({"codec": "codec-2"}, {"tower": "tower-1-3"}):
        with pytest.raises(ConfigError, match=f"another {next(iter(wrong))}"):
            index.require(**wrong)


def test_pictures_of_equal_pixels_share_a_latent(data: Set):
    from animeflow.catalogue.post import uid_of
    from animeflow.core.files import sha256

    copy = (data.folder / "pictures/0.png").read_bytes()
    chunk = b"\0\0\0\x05tEXta\0b c"
    copy = (
        copy[:33] + chunk + __import__("zlib").crc32(chunk[4:]).to_bytes(4, "big") + copy[33:]
    )  # other bytes, same pixels
    (data.folder / "pictures/copy.png").write_bytes(copy)
    digest = sha256(copy)
    data.posts.append(replace(data.posts[0], sha256=digest, uid=uid_of(digest), path="copy.png", bytes=len(copy)))
    report = data.build()
    assert (report.pictures, report.latents_encoded) == (21, 20)


def test_two_processes_fill_one_cache_without_waiting_for_each_other(data: Set):
    data.shards()
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\nfrom test_data_cache import Set, ShardSet\n"
        f"data = Set.__new__(Set); data.out = Path({str(data.out)!r})\n"
        f"shards = ShardSet(Path({str(data.folder / 'shards')!r}))\n"
        "print(data.build(shards=shards, rank=int(sys.argv[1]), world=2).latents_encoded)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(rank)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    counts = [int(process.communicate()[0]) for process in processes]
    assert sum(counts) == 20 and min(counts) > 0
    index, codec = CacheIndex(data.out), ToyCodec()
    assert index.uids == sorted(post.uid for post in data.posts)
    alone = data.build(codec)
    assert (alone.encoded, codec.encoded, alone.hash) == (0, 0, index.hash), (
        "one process finds all that two have written"
    )


def test_kill_9_at_any_file_operation_then_resume_gives_the_same_entries(data: Set):
    data.shards()
    command = [sys.executable, str(DRIVER), "cache", str(data.folder / "shards"), str(data.out), "0"]
    kills = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert kills >= 5
    fill(data.folder / "shards", data.folder / "whole")
    killed, whole = CacheIndex(data.out), CacheIndex(data.folder / "whole")
    assert killed.uids == whole.uids and killed.hash == whole.hash
    for name in ("latents", "texts"):
        ours, theirs = getattr(killed, name), getattr(whole, name)
        assert len(ours) == len(theirs)
        for uid in whole.uids:
            for address in [whole.latent_address(uid)] if name == "latents" else whole.caption_addresses(uid):
                assert all(torch.equal(ours.get(address)[n], t) for n, t in theirs.get(address).items())
    assert prune(data.out) == {"latents": (0, 0), "texts": (0, 0)}
    assert not list(data.out.rglob("*.tmp")), "prune also takes what killed runs left half-written"


def test_a_part_that_is_not_finished_is_named(data: Set):
    report = data.build(rank=0, world=2)
    with pytest.raises(DataError, match=rf"1 of 2 processes.*index-{report.hash}.1-of-2.parquet"):
        CacheIndex(data.out)
    data.build(rank=1, world=2)
    assert len(CacheIndex(data.out)) == 20


def test_a_latent_that_is_not_finite_leaves_its_picture_out_and_names_it(data: Set):
    report = data.build(ToyCodec(poison=True), batch_size=100)
    index = CacheIndex(data.out)
    assert len(report.rejected) == 3 and {r.reason for r in report.rejected} == {"latent_not_finite"}  # one per bucket
    assert len(index) == 17 == report.pictures and not {r.uid for r in report.rejected} & set(index.uids)


def test_features_that_are_not_finite_stop_with_the_caption(data: Set):
    class Broken(ToyTower):
        def encode(self, captions):
            return [{**row, "sum": row["sum"] / 0} for row in super().encode(captions)]

    with pytest.raises(DataError, match=r"'sum' features that are not finite"):
        data.build(tower=Broken())


def test_truncated_captions_are_counted_per_encoder(data: Set):
    report = data.build(tower=ToyTower(limit=5))
    texts = {text for texts in captions_of(data, data.shards()).values() for text in texts}
    assert report.truncated == {"words": sum(len(text.split()) > 5 for text in texts), "sum": 0}
    assert report.truncated["words"] > 0


def test_prune_drops_what_no_index_names_and_the_rest_still_opens(data: Set):
    old = data.build().hash
    new = data.build(ToyCodec("codec-2")).hash
    assert prune(data.out) == {"latents": (0, 0), "texts": (0, 0)}
    dropped = prune(data.out, keep=[new])
    assert dropped["latents"][0] == 20 and dropped["texts"] == (0, 0)
    assert len(CacheIndex(data.out)) == 20
    with pytest.raises(DataError, match=f"known here: {new}"):
        CacheIndex(data.out, hash=old)
    assert data.build(ToyCodec("codec-2")).encoded == 0


def test_entries_that_are_gone_are_found_at_opening_and_encoded_again(data: Set):
    data.build(segment_bytes=500)
    lost = min((data.out / "latents").glob("*.safetensors"))
    lost.unlink()
    with pytest.raises(DataError, match="are gone"):
        CacheIndex(data.out)
    codec = ToyCodec()
    assert 0 < data.build(codec).latents_encoded == codec.encoded < 20
    assert len(CacheIndex(data.out)) == 20


def test_diff_counts_without_writing(data: Set):
    found = diff(data.shards(), ToyCodec(), ToyTower(), POLICY, out=data.out, seed=5, variants=3)
    assert (found.pictures, found.latents_missing, found.latents_present, found.texts_present) == (20, 20, 0, 0)
    assert not data.out.exists()
    report = data.build()
    assert report.texts_encoded == found.texts_missing
    again = diff(data.shards(), ToyCodec(), ToyTower(), POLICY, out=data.out, seed=5, variants=3)
    assert (again.latents_missing, again.texts_missing) == (0, 0)


def test_the_variants_of_a_picture_differ(data: Set):
    data.build()
    texts = CacheIndex(data.out).captions(data.shards().uids)
    assert Counter(len(set(row)) for row in texts.values()).most_common(1)[0][0] > 1


def test_there_is_nothing_to_open_before_anything_is_built(data: Set):
    with pytest.raises(DataError, match="no finished cache"):
        CacheIndex(data.out)
