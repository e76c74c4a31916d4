"""Masks of pictures: the same crop, lossless in the shard, means of cells in the cache; a set without any is as it always was."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_toys import PLAN, ToyCodec, ToyTower, draw, make_posts, tree
from fault_store import serve
from PIL import Image

from animeflow.catalogue.post import Post, uid_of
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.walk import mask_of
from animeflow.core.errors import ConfigError, DataError
from animeflow.data.assemble import Assembler
from animeflow.data.cache import CacheReport, build_cache, diff, prune
from animeflow.data.index import CacheIndex
from animeflow.data.manifest import Manifest
from animeflow.data.place import place_of
from animeflow.data.reader import ShardSet, stream
from animeflow.data.remote import Remote
from animeflow.data.shard import write_shards
from animeflow.image.decode import decode
from animeflow.image.encode import encode_png
from animeflow.image.mask import cells, cut_mask, decode_mask, encode_mask, read_mask
from animeflow.image.picture import BadPicture
from animeflow.image.resize import fit
from animeflow.text.caption import CaptionPolicy

POLICY = CaptionPolicy(order=("general",))


class Set:
    """A folder of pictures and what is made of it."""

    def __init__(self, folder: Path, count: int = 12) -> None:
        self.folder, self.pictures = folder, folder / "pictures"
        self.posts = make_posts(self.pictures, count)

    def paint(self, number: int, mask: np.ndarray, *, name: str | None = None) -> None:
        path = self.pictures / (name or f"{number}.mask.png")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_mask(mask))

    def see_through(self, number: int, alpha: np.ndarray) -> None:
        """Make a picture transparent; it becomes another file, and so another post."""
        post = self.posts[number]
        path = self.pictures / post.path
        colours = cv2.cvtColor(decode(path.read_bytes()).pixels, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".png", np.dstack([colours, alpha]))
        path.write_bytes(data.tobytes())
        digest = hashlib.sha256(data.tobytes()).hexdigest()
        self.posts[number] = replace(post, uid=uid_of(digest), sha256=digest, bytes=len(data))

    def shard(self, masks: str = "auto", **options) -> Manifest:
        where = {"root": self.pictures, "max_samples": 5}
        return write_shards(self.posts, PLAN, self.folder / "shards", **where, masks=masks, **options)

    @property
    def shards(self) -> ShardSet:
        return ShardSet(self.folder / "shards")

    def cache(self, **options) -> CacheReport:
        where = {"out": self.folder / "cache", "seed": 5, "variants": 2}
        return build_cache(self.shards, ToyCodec(), ToyTower(), POLICY, **where | options)

    @property
    def index(self) -> CacheIndex:
        return CacheIndex(self.folder / "cache")

    def post(self, number: int) -> Post:
        return self.posts[number]


def blob(post: Post, seed: int = 0) -> np.ndarray:
    """A mask of a picture's size: soft, with something on either side."""
    height, width = post.height, post.width
    y, x = np.mgrid[:height, :width]
    far = np.hypot(y - height * 0.4, x - width * (0.4 + 0.05 * seed)) / (0.35 * min(height, width))
    return np.clip(255 * (1.6 - far), 0, 255).astype(np.uint8)


@pytest.fixture
def some(tmp_path: Path) -> Set:
    """Picture 0, 1 and 7 with a mask beside them, 2 transparent, the others with none."""
    made = Set(tmp_path)
    for number in (0, 1):
        made.paint(number, blob(made.post(number), number))
    made.paint(7, blob(made.post(7)), name="masks/7.png")
    made.see_through(2, blob(made.post(2), 2))
    return made


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_a_mask_goes_the_way_of_its_picture(some):
    """One that is the picture itself in grey stays the grey of what the picture became."""
    for number in range(5):
        grey = decode((some.pictures / some.post(number).path).read_bytes()).pixels[:, :, 1]
        some.paint(number, grey)
    some.shard()
    shards = some.shards
    for post in some.posts[:5]:
        pixels = decode(shards.sample(post.uid).png).pixels
        difference = decode_mask(shards.mask(post.uid)).astype(int) - pixels[:, :, 1]
        assert abs(difference).max() <= (
            1 if post.sha256 == some.post(2).sha256 else 0
        )  # white lies under what is transparent


def test_where_masks_come_from(some):
    manifest = some.shard()
    assert manifest.masks == {"sidecar": 3, "alpha": 1, "none": 8, "empty": []}
    shards = some.shards
    with_masks = [number for number, post in enumerate(some.posts) if shards.mask_of(post.uid)]
    assert with_masks == [0, 1, 2, 7]
    for number in with_masks:
        uid = some.post(number).uid
        mask, facts = decode_mask(shards.mask(uid)), shards.facts(uid)
        assert facts["mask"] == {"from": "alpha" if number == 2 else "sidecar", "share": round(mask.mean() / 255, 4)}
        assert f"{mask.shape[0]}x{mask.shape[1]}" == shards.bucket_of(uid)
    assert "mask" not in shards.facts(some.post(3).uid)
    assert {sample.uid for sample in stream(some.folder / "shards")} == set(shards.uids), "for stock webdataset too"


def test_a_sidecar_counts_more_than_transparency_and_white_counts(some):
    post = some.post(2)
    half = np.zeros((post.height, post.width), np.uint8)
    half[:, : post.width // 2] = 255
    some.paint(2, half)
    some.shard()
    mask = decode_mask(some.shards.mask(post.uid))
    assert mask[:, :10].min() == 255 and mask[:, -10:].max() == 0


def test_transparency_is_turned_with_its_picture():
    """By the EXIF orientation: what is solid stays on what it is of."""
    alpha = np.zeros((6, 10), np.uint8)
    alpha[:2, :3] = 255
    layers = np.dstack([np.repeat(alpha[:, :, None], 3, axis=2), alpha])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        Image.fromarray(layers).save(buffer, "PNG", exif=exif)
        picture = decode(buffer.getvalue(), background=(0, 0, 0))
        assert picture.alpha is not None and picture.facts.orientation == orientation
        assert np.array_equal(picture.alpha, picture.pixels[:, :, 0])


def test_a_smaller_mask_is_resized_by_area_and_another_shape_is_refused():
    whole = blob(Post(**{**vars(make_post()), "height": 70, "width": 45}))
    small = cv2.resize(whole, (22, 35), interpolation=cv2.INTER_AREA)  # 45 / 2 is no whole number
    found = read_mask(encode_mask(small), height=70, width=45)
    assert found.shape == (70, 45) and abs(found.astype(int) - whole).mean() < 6
    large = cv2.resize(whole, (90, 140), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(
        read_mask(encode_mask(large), height=70, width=45), cv2.resize(large, (45, 70), interpolation=cv2.INTER_AREA)
    )
    with pytest.raises(BadPicture, match="mask_aspect"):
        read_mask(encode_mask(whole.T.copy()), height=70, width=45)
    with pytest.raises(BadPicture, match="mask_unreadable"):
        read_mask(b"no picture", height=70, width=45)


def make_post() -> Post:
    return Post(
        uid=1, sha256="", path="", width=1, height=1, bytes=1, format="PNG", tags={}, captions={}, rating="general", score=None,
        created_at=None, source="", source_id=None, url=None, origin="unknown", truth=None, split="train",
    )  # fmt: skip


def test_a_transparent_mask_counts_where_it_is_white_and_solid():
    layers = np.zeros((8, 8, 4), np.uint8)
    layers[:, :4] = 255  # solid white
    layers[:, 4:, :3] = 255  # white, and not there
    _, data = cv2.imencode(".png", layers)
    mask = read_mask(data.tobytes(), height=8, width=8)
    assert mask[:, :4].min() == 255 and mask[:, 4:].max() == 0


def test_what_does_not_fit_is_refused_with_its_picture(some):
    some.paint(3, np.zeros((10, 40), np.uint8))
    (some.pictures / "4.mask.png").write_bytes(b"no picture")
    manifest = some.shard()
    assert manifest.reasons == {"mask_aspect": 1, "mask_unreadable": 1}
    assert all(
        f"{number}.mask.png" in r.detail for number, r in zip((3, 4), sorted(manifest.rejected, key=lambda r: r.path))
    )
    assert manifest.written == 10 and manifest.found == 12


def test_a_mask_that_shows_nothing_counts_for_nothing_and_is_named(some):
    post = some.post(3)
    some.paint(3, np.zeros((post.height, post.width), np.uint8))
    some.paint(4, np.full((some.post(4).height, some.post(4).width), 255, np.uint8))
    manifest = some.shard()
    assert manifest.masks["empty"] == ["3.png"] and manifest.masks["sidecar"] == 3
    assert Manifest.read(some.folder / "shards").masks == manifest.masks
    assert some.shards.mask_of(post.uid) is None and some.shards.mask_of(some.post(4).uid) is None


# -- shards ------------------------------------------------------------------------------------------------------------


def test_a_set_without_masks_is_what_it_was_whether_they_are_looked_for_or_not(tmp_path):
    """Not one byte of the samples, the index or the hash of all; off, not of anything."""
    plain, off, auto = (Set(tmp_path / name) for name in ("plain", "off", "auto"))
    write_shards(plain.posts, PLAN, plain.folder / "shards", root=plain.pictures, max_samples=5)
    assert off.shard("off").masks == {}
    assert tree(off.folder / "shards") == tree(plain.folder / "shards")
    assert auto.shard().samples == plain.shards.samples_hash
    for name, data in tree(plain.folder / "shards").items():
        if name.endswith((".tar", "index.parquet")):
            assert tree(auto.folder / "shards")[name] == data
        assert b"mask" not in data
    for made in (plain, auto):
        made.cache()
    assert plain.index.hash == auto.index.hash
    assert not (auto.folder / "cache" / "masks").exists() and not auto.index.has_masks
    (uid, *_) = plain.index.uids
    assert Assembler(auto.index, ToyTower(), seed=1).batch([uid], [0], global_count=1).masks is None


def test_masks_that_lie_there_change_nothing_when_they_are_off(some):
    some.shard("off")
    assert not some.shards.has_masks and some.shards.mask_of(some.post(0).uid) is None


def test_the_same_masks_give_the_same_bytes_and_a_painted_one_writes_its_shard_anew(some):
    some.shard()
    first = tree(some.folder / "shards")
    some.shard()
    assert tree(some.folder / "shards") == first
    some.paint(0, blob(some.post(0), 4))
    some.shard()
    changed = {
        name for name, data in tree(some.folder / "shards").items() if data != first[name] and name.endswith("tar")
    }
    assert changed == {some.shards.shard_of(some.post(0).uid).relative_to(some.folder / "shards").as_posix()}
    (some.pictures / "0.mask.png").unlink()
    some.shard()
    assert some.shards.mask_of(some.post(0).uid) is None


def test_shards_with_masks_keep_to_their_size_and_to_workers(some):
    limit = 60_000
    for number, post in enumerate(some.posts):
        noise = np.random.default_rng(number).integers(0, 255, (post.height, post.width), np.uint8)
        some.paint(number, noise)
    manifest = some.shard(max_bytes=limit)
    assert max(shard["bytes"] for shard in manifest.shards) <= limit
    alone = tree(some.folder / "shards")
    some.folder = some.folder / "again"
    some.shard(max_bytes=limit, workers=2)
    assert tree(some.folder / "shards") == alone


def test_a_broken_mask_is_an_error_with_a_path(some):
    some.shard()
    uid = some.post(0).uid
    mask = some.shards.mask(uid)
    path = some.shards.shard_of(uid)
    data = path.read_bytes()
    at = data.index(mask)
    path.write_bytes(data[:at] + b"\0" + data[at + 1 :])
    with pytest.raises(DataError, match=r"mask\.png") as caught:
        some.shards.mask(uid)
    assert caught.value.where == str(path)


def test_unknown_words_are_refused(some):
    with pytest.raises(ConfigError, match="unknown value"):
        some.shard("on")


# -- cache -------------------------------------------------------------------------------------------------------------


def test_cells_are_means_by_area():
    mask = np.random.default_rng(0).integers(0, 256, (24, 40), np.uint8)
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(mask / 255)[None, None], 8)[0, 0]
    torch.testing.assert_close(torch.from_numpy(cells(mask, 8)), expected.float())
    with pytest.raises(ValueError, match="cannot be cut"):
        cells(mask, 16)


def test_masks_are_encoded_once_and_only_what_changed_again(some):
    some.shard()
    report = some.cache()
    assert (report.masks_encoded, report.masks_reused) == (4, 0)
    assert some.cache().encoded == 0
    some.paint(0, blob(some.post(0), 4))
    some.shard()
    found = diff(some.shards, ToyCodec(), ToyTower(), POLICY, out=some.folder / "cache", seed=5, variants=2)
    assert (found.masks_missing, found.latents_missing, found.texts_missing) == (1, 0, 0)
    report = some.cache()
    assert (report.masks_encoded, report.masks_reused, report.latents_encoded, report.texts_encoded) == (1, 3, 0, 0)
    dropped = prune(some.folder / "cache", keep=[report.hash])
    assert dropped["masks"][0] == 1 and dropped["latents"][0] == 0
    assert some.index.masks is not None and len(some.index.masks) == 4


def test_the_cache_may_be_filled_by_several_processes(some):
    some.shard()
    some.cache()
    alone = {uid: some.index.mask_address(uid) for uid in some.index.uids}
    for rank in range(3):
        some.cache(out=some.folder / "shared", rank=rank, world=3)
    shared = CacheIndex(some.folder / "shared")
    assert {uid: shared.mask_address(uid) for uid in shared.uids} == alone


def test_batches_have_masks_where_one_of_theirs_has(some):
    some.shard()
    some.cache()
    index, shards = some.index, some.shards
    assemble = Assembler(index, ToyTower(), seed=1)
    seen = set()
    for uids in index.buckets(None).values():
        batch = assemble.batch(uids, [0] * len(uids), global_count=len(uids))
        alone = [assemble.batch([uid], [0], global_count=1) for uid in uids]
        assert batch.masks is not None and batch.masks.shape == (len(uids), 1, *batch.latents.shape[2:])
        for uid, mask, single in zip(uids, batch.masks, alone, strict=True):
            if shards.mask_of(uid):
                expected = torch.from_numpy(cells(decode_mask(shards.mask(uid)), 8))
                torch.testing.assert_close(mask[0].float(), expected, atol=0.002, rtol=0.004)
                assert torch.equal(single.masks[0], mask)
                seen.add(uid)
            else:
                assert bool((mask == 1).all()) and single.masks is None
    assert seen == {some.post(number).uid for number in (0, 1, 2, 7)}


def test_a_set_elsewhere_gives_the_same_masks(some):
    some.shard()
    some.cache()
    with serve(some.folder) as store:
        far = place_of(store.url("plainhttp"), Remote(retries=3, wait_s=0.001, longest_wait_s=0.01))
        index, shards = CacheIndex(far / "cache"), ShardSet(far / "shards")
        uid = some.post(0).uid
        assert shards.mask(uid) == some.shards.mask(uid)
        for uids in index.buckets(None).values():
            near = Assembler(some.index, ToyTower(), seed=1).batch(uids, [0] * len(uids), global_count=12)
            batch = Assembler(index, ToyTower(), seed=1).batch(uids, [0] * len(uids), global_count=12)
            assert torch.equal(batch.masks, near.masks)
        index.close()


def test_a_lost_mask_is_noticed(some):
    some.shard()
    some.cache()
    for path in (some.folder / "cache" / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="4 entries that the index names are gone"):
        CacheIndex(some.folder / "cache")
    assert some.cache().masks_encoded == 4


# -- folders -----------------------------------------------------------------------------------------------------------


def test_masks_are_no_pictures(tmp_path):
    for name in ("a.png", "b.png", "a.mask.png", "masks/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode_png(draw(1, 32, 32)))
    found = [str(candidate.path.relative_to(tmp_path)) for candidate in FolderSource(tmp_path)]
    assert found == ["a.png", "b.png"]
    assert mask_of(tmp_path / "a.png") == tmp_path / "a.mask.png"
    assert mask_of(tmp_path / "b.png") == tmp_path / "masks" / "b.png"
    assert mask_of(tmp_path / "c.png") is None


def test_a_crop_is_the_same_for_pixels_and_mask():
    for number, (height, width) in enumerate([(40, 40), (50, 34), (33, 51), (64, 64)]):
        pixels = draw(number, height, width)
        for bucket in PLAN.buckets:
            if bucket.height <= height and bucket.width <= width:
                cut, crop = fit(pixels, bucket)
                mask = cut_mask(pixels[:, :, 0].copy(), crop, height=bucket.height, width=bucket.width)
                assert np.array_equal(mask, cut[:, :, 0])
