"""The same picture through every layout that people have it in becomes the same post; everything found is counted, once."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.post import Post
from animeflow.catalogue.sources.danbooru import DanbooruSource, booru_api
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.gallery_dl import GalleryDlSource
from animeflow.catalogue.sources.hydrus import HydrusSource
from animeflow.catalogue.sources.imagefolder import ImageFolderSource
from animeflow.catalogue.sources.indexed_tar import IndexedTarSource
from animeflow.catalogue.sources.waifuc import WaifucSource
from animeflow.catalogue.table import Catalogue

PICTURES = {"9000028": "thequestion/sylvie_green_smile.png", "9000007": "renpy/concert1.png",
            "9000042": "sachi/sachi_full_trans_1024.png"}  # fmt: skip
DATE = "2023-02-25T19:54:00+00:00"
CHARACTER, SERIES, META = (
    ["sylvie_(the_question)"], ["the_question_(ren'py)"], ["alpha_transparency", "game_cg", "variant_set"],
)  # fmt: skip


@pytest.fixture
def schemas(test_data: Path) -> Path:
    return test_data / "schemas"


@pytest.fixture
def sylvie(test_data: Path) -> Path:
    return test_data / "images" / PICTURES["9000028"]


def put(source: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(source, place))


def take(tmp_path: Path, source, **options) -> tuple[list[Post], dict]:
    """Posts and refusals; that a second reading adds nothing and changes no byte is checked for every source."""
    folder = tmp_path / "set" / "catalogue"
    report = ingest(Catalogue(folder, root=tmp_path), source, workers=0, **options)
    assert report.found == report.added + report.known + report.rejected.total()
    before = (folder / "catalogue.parquet").read_bytes(), (folder / "rejected.jsonl").read_bytes()
    again = ingest(Catalogue(folder, root=tmp_path), source, workers=0, **options)
    assert (again.found, again.added, again.known) == (report.found, 0, report.added + report.known)
    assert ((folder / "catalogue.parquet").read_bytes(), (folder / "rejected.jsonl").read_bytes()) == before
    return Catalogue(folder, root=tmp_path).posts(), dict(report.rejected)


def known_as(schemas: Path) -> dict[str, list[str]]:
    """The picture's tags as the dump of the site that sorts best says them, read by nothing of ours."""
    post = json.loads((schemas / "api" / "danbooru.post.json").read_text())
    return {key: post[f"tag_string_{key}"].split() for key in ("general", "character", "copyright", "artist", "meta")}


# -- one picture, every layout -------------------------------------------------------------------------------------------

MD5 = "fdf38fc0798f5c02993f83ea69f8291f"
SIDECARS = {site: f"{site}_9000028_{MD5}.png" for site in ("danbooru", "gelbooru", "yandere", "e621")}
SIDECARS |= {"sankaku": f"sankaku_aFlowSy1v1e_{MD5}.png", "pixiv": "900000028_p0.png"}
ANSWERS = {"danbooru": "danbooru.post", "gelbooru": "gelbooru.posts", "yandere": "moebooru.posts",
           "sankaku": "sankaku.v2.posts", "e621": "e621.posts"}  # fmt: skip


def by_api(site: str) -> Callable[[Path, Path, Path], object]:
    def source(tmp: Path, schemas: Path, picture: Path) -> object:
        put(schemas / "api" / f"{ANSWERS[site]}.json", tmp / "posts.json")
        put(picture, tmp / "pictures" / f"{MD5}.png")
        return booru_api(tmp / "posts.json", pictures=tmp / "pictures")

    return source


def by_gallery_dl(site: str) -> Callable[[Path, Path, Path], object]:
    def source(tmp: Path, schemas: Path, picture: Path) -> object:
        name = SIDECARS[site]
        put(schemas / "gallery-dl" / site / f"{name}.json", tmp / "pictures" / f"{name}.json")
        put(picture, tmp / "pictures" / name)
        return GalleryDlSource(tmp / "pictures")

    return source


def by_lines(site: str) -> Callable[[Path, Path, Path], object]:
    def source(tmp: Path, schemas: Path, picture: Path) -> object:
        record = json.loads((schemas / "gallery-dl" / site / f"{SIDECARS[site]}.json").read_text())
        put(picture, tmp / "pictures" / site / SIDECARS[site])
        (tmp / "pictures" / "data.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n")
        return GalleryDlSource(tmp / "pictures")

    return source


def by_hydrus(end: str) -> Callable[[Path, Path, Path], object]:
    def source(tmp: Path, schemas: Path, picture: Path) -> object:
        sidecar = next((schemas / "hydrus").glob(f"*.png.{end}"))
        put(sidecar, tmp / "pictures" / sidecar.name)
        put(picture, tmp / "pictures" / sidecar.stem)
        return HydrusSource(tmp / "pictures")

    return source


def by_waifuc(tmp: Path, schemas: Path, picture: Path) -> object:
    put(schemas / "waifuc" / ".danbooru_9000028_meta.json", tmp / "pictures" / ".danbooru_9000028_meta.json")
    put(picture, tmp / "pictures" / "danbooru_9000028.png")
    return WaifucSource(tmp / "pictures")


def by_kohya(*names: str) -> Callable[[Path, Path, Path], object]:
    def source(tmp: Path, schemas: Path, picture: Path) -> object:
        for name in names:
            put(schemas / "kohya" / name, tmp / "pictures" / name)
        put(picture, tmp / "pictures" / "sylvie_green_smile.png")
        metadata = tmp / "pictures" / names[0] if names[0].startswith("meta") else None
        return FolderSource(tmp / "pictures", metadata=metadata)

    return source


def by_imagefolder(form: str) -> Callable[[Path, Path, Path], object]:
    def source(tmp: Path, schemas: Path, picture: Path) -> object:
        rows = [json.loads(line) for line in (schemas / "hf_imagefolder" / "metadata.jsonl").read_text().splitlines()][
            :1
        ]
        put(picture, tmp / "pictures" / rows[0]["file_name"])
        file = tmp / "pictures" / f"metadata.{form}"
        if form == "jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif form == "csv":
            with open(file, "w", newline="") as out:
                writer = csv.DictWriter(out, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            pq.write_table(pa.Table.from_pylist(rows), file)
        return ImageFolderSource(tmp / "pictures")

    return source


BY_CATEGORY = {  # layouts that know all categories
    "danbooru api": by_api("danbooru"), "e621 api": by_api("e621"),
    "danbooru": by_gallery_dl("danbooru"), "gelbooru": by_gallery_dl("gelbooru"), "e621": by_gallery_dl("e621"),
    "danbooru lines": by_lines("danbooru"), "e621 lines": by_lines("e621"), "gelbooru lines": by_lines("gelbooru"),
    "hydrus txt": by_hydrus("txt"), "hydrus json": by_hydrus("json"), "waifuc": by_waifuc,
}  # fmt: skip
UNSORTED = {  # no categories: every tag is general
    "gelbooru api": by_api("gelbooru"), "moebooru api": by_api("yandere"), "yandere": by_gallery_dl("yandere"),
}  # fmt: skip
SANKAKU = {"sankaku": by_gallery_dl("sankaku"), "sankaku lines": by_lines("sankaku"), "sankaku api": by_api("sankaku")}
GENERAL = {  # only what the picture shows, as trainers' sidecars have it
    "kohya txt": by_kohya("sylvie_green_smile.txt"), "kohya both": by_kohya("sylvie_green_smile.txt", "sylvie_green_smile.caption"),
    "meta_cap": by_kohya("meta_cap.json"), "meta_lat": by_kohya("meta_lat.json"), "meta.jsonl": by_kohya("meta.jsonl"),
    "imagefolder jsonl": by_imagefolder("jsonl"), "imagefolder csv": by_imagefolder("csv"),
    "imagefolder parquet": by_imagefolder("parquet"),
}  # fmt: skip


@pytest.mark.parametrize("layout", [*BY_CATEGORY, *UNSORTED, *SANKAKU, *GENERAL])
def test_the_same_picture_gives_the_same_facts(tmp_path, schemas, sylvie, layout):
    source = (BY_CATEGORY | UNSORTED | SANKAKU | GENERAL)[layout](tmp_path, schemas, sylvie)
    (post,), rejected = take(tmp_path, source)
    truth = known_as(schemas)
    assert rejected == {}
    assert (post.width, post.height, post.bytes, post.format) == (456, 700, 266526, "PNG")
    assert post.origin == "unknown" and post.evidence == () and post.parent is None
    if layout in BY_CATEGORY:
        assert post.tags == truth
    elif layout in UNSORTED:
        assert sorted(post.tags["general"]) == sorted(tag for names in truth.values() for tag in names)
    elif layout in SANKAKU:
        assert post.tags["character"] == truth["character"] and post.tags["copyright"] == truth["copyright"]
        assert set(truth["general"]) <= set(post.tags["general"])
    else:
        assert post.tags == {**{key: [] for key in truth}, "general": truth["general"]}
    if layout not in GENERAL:
        assert post.rating == "general"
    if layout not in GENERAL and not layout.startswith("hydrus"):
        assert post.created_at == DATE
        assert post.source_id == ("aFlowSy1v1e" if layout.startswith("sankaku") else "9000028")
        assert post.score == (20 if layout.startswith("sankaku") else 54)  # sankaku counts stars, not votes
        assert post.url is not None and post.url.startswith("https://") and post.source_id in post.url
    if layout in ("kohya both", "meta_cap", "meta_lat", "meta.jsonl"):
        assert post.captions["en"] == (schemas / "kohya" / "sylvie_green_smile.caption").read_text().strip()


def test_pixiv_gives_its_own_tags_and_no_rating_that_it_does_not_say(tmp_path, schemas, sylvie):
    (post,), _ = take(tmp_path, by_gallery_dl("pixiv")(tmp_path, schemas, sylvie))
    assert post.tags["general"] == ["オリジナル", "女の子", "立ち絵"]
    assert (post.rating, post.score, post.source_id) == ("unknown", None, "900000028")
    assert post.url == "https://www.pixiv.net/artworks/900000028" and post.origin == "unknown"


def test_tags_written_by_write_tags_alone(tmp_path, schemas, sylvie):
    name = SIDECARS["danbooru"]
    put(schemas / "gallery-dl" / "danbooru" / f"{name}.txt", tmp_path / "pictures" / f"{name}.txt")
    put(sylvie, tmp_path / "pictures" / name)
    (post,), rejected = take(tmp_path, GalleryDlSource(tmp_path / "pictures"))
    assert rejected == {} and post.rating == "unknown"
    assert sorted(post.tags["general"]) == sorted(tag for names in known_as(schemas).values() for tag in names)
    assert (post.source_id, post.url) == ("9000028", "https://danbooru.donmai.us/posts/9000028")


def test_a_dump_and_a_download_of_one_site_agree_to_the_last_column(tmp_path, schemas, test_data):
    """Three posts, one of them a child: every fact but the adapter's name is the same."""
    for identity, name in PICTURES.items():
        sidecar = next((schemas / "gallery-dl" / "danbooru").glob(f"danbooru_{identity}_*.json"))
        put(sidecar, tmp_path / "gdl" / sidecar.name)
        put(test_data / "images" / name, tmp_path / "gdl" / sidecar.stem)
        put(test_data / "images" / name, tmp_path / "dump" / "pictures" / sidecar.stem)
    posts = [json.loads(line) for line in (test_data / "images" / "posts.jsonl").read_text().splitlines()]
    wanted = [json.dumps(post) for post in posts if str(post["id"]) in PICTURES]
    (tmp_path / "dump").mkdir(exist_ok=True)
    (tmp_path / "dump" / "posts.jsonl").write_text("\n".join(wanted))
    download, _ = take(tmp_path / "gdl", GalleryDlSource(tmp_path / "gdl"))
    dump, _ = take(
        tmp_path / "dump", DanbooruSource(tmp_path / "dump" / "posts.jsonl", pictures=tmp_path / "dump" / "pictures")
    )

    def facts(posts: list[Post]) -> dict:
        return {post.uid: {k: v for k, v in post.as_dict().items() if k not in ("path", "source")} for post in posts}

    assert len(dump) == 3 and facts(dump) == facts(download)
    assert {post.source_id: post.parent for post in dump} == {"9000028": None, "9000007": None, "9000042": "9000041"}
    assert {post.source for post in dump} == {"danbooru"} and {post.source for post in download} == {
        "gallery-dl/danbooru"
    }


def test_the_folder_of_imagefolder_has_all_three(tmp_path, schemas, test_data):
    put(schemas / "hf_imagefolder" / "metadata.jsonl", tmp_path / "pictures" / "metadata.jsonl")
    for name in PICTURES.values():
        put(test_data / "images" / name, tmp_path / "pictures" / name)
    posts, rejected = take(tmp_path, ImageFolderSource(tmp_path / "pictures", rating="general"))
    assert len(posts) == 3 and rejected == {} and {post.rating for post in posts} == {"general"}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_tars_of_the_real_layout_with_the_rows_of_their_table(tmp_path, schemas, test_data, form):
    for name in ("0001.tar", "0001.json"):
        put(schemas / "deepghs" / name, tmp_path / "tars" / name)
    rows = [json.loads(line) for line in (schemas / "deepghs" / "metadata_rows.jsonl").read_text().splitlines()]
    table = tmp_path / "tars" / f"metadata.{form}"
    if form == "jsonl":
        put(schemas / "deepghs" / "metadata_rows.jsonl", table)
    else:
        pq.write_table(
            pa.Table.from_pylist([{k: v for k, v in row.items() if k != "parent_id"} for row in rows]), table
        )
    posts, rejected = take(tmp_path, IndexedTarSource(tmp_path / "tars", posts=table, verify=True))
    assert rejected == {} and [post.source_id for post in posts] == [str(row["id"]) for row in rows]
    for post, row in zip(posts, rows, strict=True):
        assert post.tags["general"] == row["tag_string_general"].split()
        assert (post.rating, post.score, post.width) == ("general", row["score"], row["image_width"])
        assert post.path == f"tars/0001.tar!{row['id']}.png"
        assert post.url == f"https://danbooru.donmai.us/posts/{row['id']}"


# -- kohya's TOML and the catalogue agree --------------------------------------------------------------------------------


def test_a_kohya_toml_with_metadata_is_read_as_its_captions_are_written(tmp_path, schemas, sylvie):
    from animeflow.app.kohya.book import Book
    from animeflow.app.kohya.pictures import Subset, concepts

    source = by_kohya("meta_cap.json")(tmp_path, schemas, sylvie)
    told = {"image_dir": str(source.root), "metadata_file": str(source.metadata), "class_tokens": "sylvie girl"}
    book = Book({})
    (name,) = concepts(book, [Subset("subset 1", told)])
    assert book.words[f"catalogue.source.concepts.{name}"].value == {
        "root": str(source.root),
        "metadata": str(source.metadata),
    }
    (post,), _ = take(tmp_path, source)
    assert post.tags["general"] == known_as(schemas)["general"]


# -- the words to type ----------------------------------------------------------------------------------------------------


def test_every_layout_has_words_to_type(tmp_path):
    """Each config of `configs/catalogue` that reads people's files builds its source; a file that is not there is told."""
    from animeflow.app.compose import compose
    from animeflow.app.sources import source
    from animeflow.core.errors import ConfigError

    for name in ("posts.json", "meta_cap.json"):
        (tmp_path / name).write_text("{}")
    further = {
        "booru_api": ["posts=posts.json"], "kohya_meta": ["metadata=meta_cap.json"],
        "indexed_tar": ["posts=null"], "hydrus": [], "imagefolder": [], "waifuc": [],
    }  # fmt: skip
    made = {}
    for name, words in further.items():
        told = [f"catalogue.{word.replace('=', f'={tmp_path}/') if '.' in word else word}" for word in words]
        config = compose([f"catalogue={name}", f"catalogue.root={tmp_path}", *told])
        made[name] = source(config)
        assert made[name].root == tmp_path
    assert len({type(each) for each in made.values()}) == 6
    config["catalogue"]["root"] = str(tmp_path / "gone")
    with pytest.raises(ConfigError, match="does not exist"):
        source(config)
