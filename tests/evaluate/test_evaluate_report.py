"""The page holds every figure of the run, loads nothing, executes nothing, and says so where a part is missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from run_on_disk import PRESET, write_run

from animeflow.core.errors import DataError
from animeflow.core.files import read_json, write_json
from animeflow.evaluate.html import Markup, element, join
from animeflow.evaluate.numerals import duration, percent, plain, size
from animeflow.evaluate.report import write_report
from animeflow.evaluate.run_folder import read_run


class Page(HTMLParser):
    """Text, tags and attributes of a page; fails on tags that are not closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.feed(source)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in ("meta", "img", "br", "hr"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "toon"
    folder.mkdir()
    write_run(folder)
    return folder


@pytest.fixture(scope="module")
def source(run):
    return write_report(run, preset=PRESET).read_text()


def test_every_planted_figure_is_on_the_page(run, source):
    page, found = Page(source), read_json(run / "adherence.json")
    expected = [
        "24,000 images",
        "7 min 12 s",
        "2.35 M",
        "1.5 GiB",
        "3,604",
        "96x96",
        "1,200",
        "truncated",
        "14,400",
        "7.0 MiB",
        "2.13.0",
    ]
    expected += [
        percent(found["mean"]),
        percent(found["chance_mean"]),
        "euler",
        "83.3 %",
        "0123456789abcdef",
        "fedcba9876543210",
    ]
    expected += [percent(value) for value in found["attributes"].values()] + [
        percent(value) for value in found["chance"].values()
    ]
    expected += [
        "青い髪の女の子が夜の浜辺で笑っている。",
        "copy the tree into ComfyUI/models",
        "ComfyUI/models/checkpoints",
        "61.2",
        "66.0",
    ]
    assert not [words for words in expected if words not in page.text]


def test_changed_settings_stand_before_unchanged_ones(source):
    text = Page(source).text
    section = text[text.index("What this run was told") :]
    order = [
        section.index(key) for key in ("data.bucket.kind", "optim.lr", "4 settings as in the preset", "train.images")
    ]
    assert order == sorted(order)
    assert "0.0003" in section
    assert "0.0002" in section


def test_the_page_loads_and_runs_nothing(source):
    page = Page(source)
    assert not re.search(r"(?:https?:)?//(?!\*)[\w.]", re.sub(r"base64,[\w+/=]+|sha256-[\w+/=]+", "", source))
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert all(value.startswith("data:image/webp;base64,") for _, key, value in page.attributes if key == "src")
    assert not [key for _, key, _ in page.attributes if key.startswith("on") or key == "style"]
    links = [value for _, key, value in page.attributes if key == "href"]
    assert all(value.startswith(("#", "samples/")) for value in links)


def test_a_reading_stands_only_beside_the_picture_that_was_read(tmp_path):
    write_run(tmp_path, prompts=2)
    assert Page(write_report(tmp_path).read_text()).text.count(" of 11") == 2
    found = read_json(tmp_path / "adherence.json")
    other = [row | {"seed": row["seed"] + 100} for row in found["pictures"]]
    for changed in ({"pictures": other}, {"images_seen": 1}):
        write_json(tmp_path / "adherence.json", found | changed)
        assert " of 11" not in Page(write_report(tmp_path).read_text()).text


def test_links_lead_to_files_and_sections(run, source):
    attributes = Page(source).attributes
    links = [value for _, key, value in attributes if key == "href"]
    ids = [value for _, key, value in attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert all((value[1:] in ids) if value.startswith("#") else (run / value).is_file() for value in links)


def test_every_chart_speaks(source):
    charts = re.findall(r"<svg[^>]*role=.img.*?</svg>", source, flags=re.S)
    assert len(charts) >= 8
    for chart in charts:
        name = re.search(r'aria-labelledby="([\w-]+)-title \1-desc"', chart)
        assert name
        assert re.search(
            rf'<title id="{name[1]}-title">[^<]+</title><desc id="{name[1]}-desc">[^<]{{20,}}</desc>', chart
        )


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_tags_and_captions_stay_text(tmp_path):
    write_run(tmp_path, prompts=1)
    record = read_json(tmp_path / "record.json")
    record |= {"name": EVIL, "hardware": EVIL, "versions": {EVIL: EVIL}}
    record["data"] |= {"captions": [{"text": EVIL, "kind": EVIL}], "buckets": {EVIL: 3}}
    write_json(tmp_path / "record.json", record)
    write_json(tmp_path / "samples" / "prompts.json", [EVIL])
    (tmp_path / "rejected.jsonl").write_text(json.dumps({"reason": EVIL}) + "\n")
    write_json(tmp_path / "export" / "manifest.json", {"files": [{"path": EVIL, "bytes": 1}]})
    source = write_report(tmp_path, config={"text.tag": EVIL}, preset={"text.tag": "a"}).read_text()
    page = Page(source)
    assert "script" not in page.tags
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert page.text.count(EVIL) >= 8
    assert next(value for _, key, value in page.attributes if key == "alt").startswith(EVIL)


def test_an_empty_run_says_what_is_missing_and_invents_nothing(tmp_path):
    page = Page(write_report(tmp_path).read_text())
    body = page.text[page.text.index("Run report") :]
    assert body.lower().count("not recorded") >= 5
    assert "This run has recorded no result yet" in body
    assert "svg" not in page.tags
    assert not re.search(r"\d+(\.\d+)? %", body)


@pytest.mark.parametrize(
    "part", ["metrics.jsonl", "record.json", "config.json", "adherence.json", "rejected.jsonl", "samples", "export"]
)
def test_any_part_may_be_missing(tmp_path, part):
    import shutil

    write_run(tmp_path, prompts=1, questions=12)
    path = tmp_path / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    Page(write_report(tmp_path, preset=PRESET).read_text())


def test_broken_parts_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"images": 10, "train/loss": 0.5}\n{"images": 20, "train/loss": null}\n{"images": 30, "tra'
    )
    (tmp_path / "adherence.json").write_text("{")
    (tmp_path / "samples" / "10").mkdir(parents=True)
    (tmp_path / "samples" / "10" / "0.png").write_bytes(b"no picture")
    page = Page(write_report(tmp_path).read_text())
    assert "unreadable" in page.text
    assert read_run(tmp_path).points("train/loss") == [(10.0, 0.5), (20.0, None)]


def test_a_price_is_shown_only_when_given(tmp_path):
    write_run(tmp_path, prompts=1, questions=12)
    assert "Price" not in Page(write_report(tmp_path).read_text()).text
    priced = write_report(tmp_path, extra={"price": {"low": 1.5, "high": 2.25, "currency": "USD", "dated": "2026-05"}})
    assert "1.50 to 2.25 USD (2026-05)" in Page(priced.read_text()).text


def test_the_page_may_lie_elsewhere(run, tmp_path):
    path = write_report(run, out=tmp_path / "page.html")
    links = [value for _, key, value in Page(path.read_text()).attributes if key == "href" and value.endswith(".png")]
    assert links
    assert all((tmp_path / value).is_file() for value in links)


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such run"):
        write_report(tmp_path / "absent")


def test_text_is_escaped_and_markup_is_kept():
    assert element("p", "a < b", Markup("<b>c</b>"), title='"x"') == '<p title="&quot;x&quot;">a &lt; b<b>c</b></p>'
    assert join(["<", None, 3, [Markup("<i></i>")]]) == "&lt;3<i></i>"


def test_numbers_are_written_for_people():
    assert [plain(v) for v in (None, 0, 24000, 0.03124, 1.2367, 3e-4, 2.5e-5)] == [
        "not recorded",
        "0",
        "24,000",
        "0.0312",
        "1.24",
        "3e-4",
        "2.5e-5",
    ]
    assert [duration(v) for v in (41.96, 432, 11_100, 200_000)] == ["42.0 s", "7 min 12 s", "3 h 05 min", "2 d 7 h"]
    assert [size(v) for v in (812, 3.4 * 2**20)] == ["812 B", "3.4 MiB"]
