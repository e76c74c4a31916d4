"""Every place where programs leave their mark is read, in every container; what is no mark gives no sign; hostile files cost
no more than their budget."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import sys
import tracemalloc
import types
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from animeflow.image.decode import BadPicture, decode
from animeflow.image.evidence.screen import screen, screened
from animeflow.image.evidence.sign import Sign
from animeflow.sample import png as samples
from animeflow.toonworld import draw, world

A1111 = "1girl, solo\nNegative prompt: lowres\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
COMFY = json.dumps({"3": {"inputs": {"seed": 1}, "class_type": "KSampler"}})
FLOW = json.dumps({"last_node_id": 3, "nodes": [], "links": []})
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def drawn(height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, (height, width, channels), dtype=np.uint8) | 1


def saved(kind: str = "PNG", pixels: np.ndarray | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(drawn() if pixels is None else pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(*chunks: tuple[bytes, bytes], after: bool = False) -> bytes:
    data, extra = saved(), b"".join(chunk(*one) for one in chunks)
    at = len(data) - 12 if after else 33
    return data[:at] + extra + data[at:]


def text(key: str, value: str) -> bytes:
    return png((b"tEXt", key.encode() + b"\0" + value.encode("latin-1")))


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def jpeg(*segments: bytes, late: bool = False) -> bytes:
    data = saved("JPEG")
    at = len(data) - 2 if late else 2
    return data[:at] + b"".join(segments) + data[at:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(k + struct.pack("<I", len(v)) + v + b"\0" * (len(v) & 1) for k, v in chunks)
    data = saved("WEBP", lossless=True)
    return data[:4] + struct.pack("<I", len(data) - 8 + len(body)) + data[8:] + body


def gif(*blocks: bytes) -> bytes:
    data = saved("GIF", drawn()[:, :, 0])
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + b"".join(blocks) + data[at:]


def sub_blocks(data: bytes) -> bytes:
    return b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255)) + b"\0"


def exif(values: dict[int, bytes], *, inner: dict[int, bytes] | None = None, order: str = ">") -> bytes:
    """A TIFF structure: a directory of ASCII values, and EXIF's own of undefined ones."""
    out = bytearray((b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8))

    def directory(entries: list[tuple[int, int, bytes]], at: int) -> bytes:
        head, tail = struct.pack(order + "H", len(entries)), b""
        end = at + 2 + 12 * len(entries) + 4
        for tag, kind, value in entries:
            head += struct.pack(order + "HHII", tag, kind, len(value), end + len(tail))
            tail += value
        return head + bytes(4) + tail

    entries = [(tag, 2, value + b"\0") for tag, value in sorted(values.items())]
    if not inner:
        return bytes(out) + directory(entries, 8)
    size = len(directory([*entries, (0x8769, 4, b"")], 8))
    own = directory([(tag, 7, value) for tag, value in inner.items()], 8 + size)
    first = bytearray(directory([*entries, (0x8769, 4, b"")], 8))
    struct.pack_into(order + "II", first, 2 + 12 * len(entries) + 4, 1, 8 + size)
    return bytes(out + first + own)


def comment(words: str, encoding: str = "utf-16-be", code: bytes = b"UNICODE\0") -> bytes:
    return exif({}, inner={0x9286: code + words.encode(encoding)})


def xmp(inside: str, attributes: str = "") -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def manifest(inside: bytes) -> bytes:
    body = b"jumb" + b"\0\0\0\x1ejumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\x03c2pa\0" + inside
    return struct.pack(">I", len(body) + 4) + body


def app11(store: bytes, size: int) -> list[bytes]:
    """The store cut into segments as the standard says: length and type are repeated in every one."""
    head, rest = store[:8], store[8:]
    parts = [rest[i : i + size] for i in range(0, len(rest), size)]
    return [segment(0xEB, b"JP\x02\x11" + struct.pack(">I", n + 1) + head + part) for n, part in enumerate(parts)]


def hide(plane: np.ndarray, signature: bytes, payload: bytes) -> np.ndarray:
    """Bits down the columns, channels within a pixel: written pixel by pixel, unlike the reader."""
    stream = signature + struct.pack(">I", len(payload) * 8) + payload
    bits = [byte >> (7 - k) & 1 for byte in stream for k in range(8)]
    out, n = plane.copy(), 0
    for x in range(plane.shape[1]):
        for y in range(plane.shape[0]):
            for c in range(plane.shape[2]):
                if n < len(bits):
                    out[y, x, c] = out[y, x, c] & 0xFE | bits[n]
                    n += 1
    assert n == len(bits)
    return out


def words(data: bytes) -> list[str]:
    return [sign.word for sign in screen(data, decode(data))]


TRAINED = f"qdigitalSourceTypexF{IPTC}trainedAlgorithmicMediahmetadata".encode()
ADOBE = b"factionlc2pa.createdmsoftwareAgentmAdobe Firefly"

# real files ------------------------------------------------------------------------------------------------------------

ANSWERS = {
    "automatic1111_cropped.jpg": ["certain ai exif AUTOMATIC1111"],
    "automatic1111_cropped.png": ["certain ai png_text AUTOMATIC1111"],
    "automatic1111_stealth.png": ["certain ai stealth AUTOMATIC1111"],
    "c2pa_not_ai.jpg": [],
    "c2pa_trainedAlgorithmicMedia.jpg": ["certain ai c2pa Adobe Firefly", "declared ai_assisted c2pa Adobe Firefly"],
    "empty_file.png": None,
    "empty_image.jpg": [],
    "empty_image.png": [],
    "fooocus1_cropped.png": ["certain ai png_text Fooocus"],
    "img2img_cropped.png": ["certain ai png_text ComfyUI"],
    "invokeai_dream1.png": ["certain ai png_text InvokeAI"],
    "invokeai_imeta1.png": ["certain ai png_text InvokeAI"],
    "invokeai_sdmeta1.png": ["certain ai png_text InvokeAI"],
    "night_evening_day_morning_cropped.png": ["certain ai png_text ComfyUI"],
    "noisy_latents_3_subjects_cropped.png": ["certain ai png_text ComfyUI"],
    "novelai1_cropped.png": ["certain ai png_text NovelAI"],
    "text_after_idat.png": ["certain ai png_text AUTOMATIC1111"],
    "unclip_2pass_cropped.png": ["certain ai png_text ComfyUI"],
}


def test_real_files_of_generators(test_data):
    folder = test_data / "ai_metadata"
    assert {path.name for path in folder.iterdir()} == ANSWERS.keys()
    for name, answer in ANSWERS.items():
        data = (folder / name).read_bytes()
        if answer is None:
            with pytest.raises(BadPicture):
                decode(data)
        else:
            assert words(data) == answer, name


def test_pictures_of_people_and_of_programs_give_no_sign(test_data):
    paths = [path for path in (test_data / "images").rglob("*") if path.suffix in (".png", ".jpg", ".webp")]
    assert len(paths) == 111
    for path in paths:
        assert words(path.read_bytes()) == [], path.name
    for index in range(6):
        assert words(saved(pixels=draw.draw(world.sample_scene(1, index), 96, 64, layers=False).pixels)) == []


# every row -------------------------------------------------------------------------------------------------------------

PNG_TEXTS = {
    ("parameters", A1111): "AUTOMATIC1111",
    ("parameters", "a cat\nSteps: 9, Sampler: UniPC, Version: f2.0.1v1.10.1"): "Forge",
    ("parameters", "a cat\nSteps: 9, Sampler: UniPC, App: SD.Next, Version: 1"): "SD.Next",
    ("parameters", "a cat\nNegative prompt: dog"): "AUTOMATIC1111",
    ("extras", A1111): "AUTOMATIC1111",
    ("postprocessing", A1111): "AUTOMATIC1111",
    ("prompt", COMFY): "ComfyUI",
    ("workflow", FLOW): "ComfyUI",
    ("fooocus_scheme", "a1111"): "Fooocus",
    ("parameters", json.dumps({"metadata_scheme": "fooocus", "prompt": "a"})): "Fooocus",
    ("invokeai_metadata", "{}"): "InvokeAI",
    ("invokeai_workflow", "{}"): "InvokeAI",
    ("invokeai_graph", "{}"): "InvokeAI",
    ("sd-metadata", '{"model": "x"}'): "InvokeAI",
    ("Dream", '"a cat" -s 20 -S 7 -W512'): "InvokeAI",
    ("Software", "NovelAI"): "NovelAI",
    ("Title", "NovelAI generated image"): "NovelAI",
    ("Source", "NovelAI Diffusion V4 7ABFFA2A"): "NovelAI",
    ("Source", "Stable Diffusion 1D44365E"): "NovelAI",
    ("Comment", json.dumps({"steps": 28, "sampler": "k", "seed": 1, "scale": 5, "uc": "", "signed_hash": "x"})): "NovelAI",
    ("parameters", json.dumps({"sui_image_params": {"prompt": "a"}})): "SwarmUI",
    ("negative_prompt", "bad"): "EasyDiffusion",
    ("Negative Prompt", "bad"): "EasyDiffusion",
    ("Software", "AI generated;txt2img;flux"): "Black Forest Labs",
    ("animeflow", '{"prompt": "a"}'): "animeflow",
    ("parameters", json.dumps({"prompt": "a", "seed": 1, "steps": 2})): "",
}  # fmt: skip


@pytest.mark.parametrize(("pair", "tool"), PNG_TEXTS.items())
def test_texts_of_png_before_and_after_the_pixels_plain_and_packed(pair, tool):
    key, value = pair[0].encode(), pair[1].encode()
    answer = [f"certain ai png_text {tool}".strip()]
    for after in (False, True):
        assert words(png((b"tEXt", key + b"\0" + value), after=after)) == answer
        assert words(png((b"zTXt", key + b"\0\0" + zlib.compress(value)), after=after)) == answer
        assert words(png((b"iTXt", key + b"\0\0\0en\0\0" + value), after=after)) == answer
        assert words(png((b"iTXt", key + b"\0\1\0\0\0" + zlib.compress(value)), after=after)) == answer


def test_what_we_sample_is_known_as_ours(tmp_path):
    path = samples.save(tmp_path / "a.png", drawn(), {"prompt": "a", "seed": 1, "steps": 2, "solver": "euler"})
    assert words(path.read_bytes())[0] in ("certain ai png_text AUTOMATIC1111", "certain ai png_text animeflow")
    assert "certain ai png_text animeflow" in words(path.read_bytes())


def test_weaker_words_are_declared():
    assert words(text("Title", "AI generated image")) == ["declared ai png_text"]
    upscaled = "Postprocess upscale by: 4, Postprocess upscaler: R-ESRGAN 4x+"
    assert words(text("postprocessing", upscaled)) == ["declared ai_assisted png_text AUTOMATIC1111"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Software", "Adobe ImageReady"),
        ("Comment", "My steps: 20, the sampler: none"),
        ("Comment", "Nothing here.\nnegative prompt"),
        ("Title", "A picture"),
        ("parameters", "-quality 90"),
        ("prompt", "draw a cat"),
        ("workflow", "ink, then colour"),
        ("parameters", '{"prompt": 1'),
        ("Source", "my camera"),
        ("Dream", "I had a dream"),
        ("Description", json.dumps({"prompt": "a", "seed": 1, "steps": 2})),
        ("fooocus_scheme", "of colours"),
    ],
)
def test_words_of_people_give_no_sign(key, value):
    assert words(text(key, value)) == []


def test_comfyui_private_chunk():
    assert words(png((b"comf", b"prompt\0" + COMFY.encode()), after=True)) == ["certain ai chunk ComfyUI"]
    assert words(png((b"comf", b"other\0thing"), after=True)) == []


# EXIF in every container -----------------------------------------------------------------------------------------------


def carriers(blob: bytes) -> dict[str, bytes]:
    """The same EXIF in every container."""
    raw = b"\nexif\n" + str(len(blob)).encode().rjust(8) + b"\n" + (b"Exif\0\0" + blob).hex().encode()
    return {
        "jpeg": jpeg(segment(0xE1, b"Exif\0\0" + blob)),
        "jpeg between the scans": jpeg(segment(0xE1, b"Exif\0\0" + blob), late=True),
        "png": png((b"eXIf", blob)),
        "png, as ImageMagick keeps it": png((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))),
        "webp": riff((b"EXIF", blob)),
        "webp with a head": riff((b"EXIF", b"Exif\0\0" + blob)),
        "avif": saved("AVIF", exif=blob),
    }


EXIFS = {
    "user comment, big endian": (comment(A1111), "AUTOMATIC1111"),
    "user comment, little endian": (comment(A1111, "utf-16-le"), "AUTOMATIC1111"),
    "user comment of Japanese": (comment("少女\nSteps: 20, Sampler: Euler a, Seed: 1"), "AUTOMATIC1111"),
    "user comment, ASCII": (comment(A1111, "ascii", b"ASCII\0\0\0"), "AUTOMATIC1111"),
    "user comment without a code": (comment(A1111, "utf-8", b""), "AUTOMATIC1111"),
    "SwarmUI": (comment(json.dumps({"sui_image_params": {}})), "SwarmUI"),
    "EasyDiffusion": (comment(json.dumps({"negative_prompt": "", "num_inference_steps": 9})), "EasyDiffusion"),
    "ComfyUI, Model": (exif({0x0110: b"prompt:" + COMFY.encode()}), "ComfyUI"),
    "ComfyUI, Make": (exif({0x010F: b"workflow:" + FLOW.encode()}, order="<"), "ComfyUI"),
    "ComfyUI, further down": (exif({0x010E: b"workflow:" + FLOW.encode()}), "ComfyUI"),
    "old SwarmUI": (exif({0x0110: b'{"sui_image_params": {}}'}), "SwarmUI"),
    "flux": (exif({0x0131: b"AI generated;img2img;flux"}), "Black Forest Labs"),
    "flux2": (exif({0x0131: b"AI generated;flux2", 0x010F: b"Black Forest Labs"}), "Black Forest Labs"),
    "only their name": (exif({0x010F: b"Black Forest Labs"}), "Black Forest Labs"),
}


@pytest.mark.parametrize("name", EXIFS)
def test_exif_in_every_container(name):
    blob, tool = EXIFS[name]
    for container, data in carriers(blob).items():
        assert words(data) == [f"certain ai exif {tool}"], container


def test_exif_of_cameras_gives_no_sign():
    blob = exif({0x010F: b"Canon", 0x0110: b"EOS 5D", 0x0131: b"Adobe Photoshop", 0x010E: b"prompt: none"})
    for container, data in carriers(blob).items():
        assert words(data) == [], container


def test_a_tiff_is_its_own_exif():
    assert words(saved("TIFF", tiffinfo={305: "AI generated;flux2"})) == ["certain ai exif Black Forest Labs"]
    packet = xmp("", f'Iptc4xmpExt:DigitalSourceType="{IPTC}trainedAlgorithmicMedia"')
    assert words(saved("TIFF", tiffinfo={700: packet})) == ["certain ai xmp"]


def test_comments_of_jpeg_and_gif():
    fooocus = json.dumps({"metadata_scheme": "fooocus", "prompt": "a"}).encode()
    assert words(jpeg(segment(0xFE, fooocus))) == ["certain ai comment Fooocus"]
    assert words(jpeg(segment(0xFE, A1111.encode()), late=True)) == ["certain ai comment AUTOMATIC1111"]
    assert words(gif(b"\x21\xfe" + sub_blocks(A1111.encode()))) == ["certain ai comment AUTOMATIC1111"]
    assert words(jpeg(segment(0xFE, b"CREATOR: gd-jpeg v1.0"))) == []


# XMP, TC260, C2PA ------------------------------------------------------------------------------------------------------


def xmp_carriers(packet: bytes) -> dict[str, bytes]:
    raw = b"\nxmp\n" + str(len(packet)).encode().rjust(8) + b"\n" + packet.hex().encode()
    name = b"http://ns.adobe.com/xap/1.0/\0"
    more = b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32
    half = len(packet) // 2
    parts = [(half, packet[half:]), (0, packet[:half])]  # in the wrong order
    return {
        "jpeg": jpeg(segment(0xE1, name + packet)),
        "jpeg, extended": jpeg(*(segment(0xE1, more + struct.pack(">II", len(packet), at) + p) for at, p in parts)),
        "png": png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)),
        "png, packed": png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet)), after=True),
        "png, as ImageMagick keeps it": png((b"tEXt", b"Raw profile type xmp\0" + raw)),
        "webp": riff((b"XMP ", packet)),
        "gif": gif(b"\x21\xff\x0bXMP DataXMP" + packet + b"\1" + bytes(range(255, -1, -1)) + b"\0"),
        "avif": saved("AVIF", xmp=packet),
    }


AIGC = {"Label": "1", "ContentProducer": "X", "ProduceID": "1", "ReservedCode1": "", "ContentPropagator": ""}
TC260 = 'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"'
XMPS = {
    "attribute": (xmp("", f'Iptc4xmpExt:DigitalSourceType="{IPTC}trainedAlgorithmicMedia"'), "certain ai xmp"),
    "element": (xmp(f"<I:DigitalSourceType>{IPTC}trainedAlgorithmicMedia</I:DigitalSourceType>"), "certain ai xmp"),
    "resource": (xmp(f'<I:DigitalSourceType rdf:resource="{IPTC}trainedAlgorithmicMedia"/>'), "certain ai xmp"),
    "composite": (
        xmp("", f"Iptc4xmpExt:DigitalSourceType='{IPTC}compositeWithTrainedAlgorithmicMedia'"),
        "declared ai_assisted xmp",
    ),
    "algorithm": (xmp(f"<I:DigitalSourceType>{IPTC}algorithmicMedia</I:DigitalSourceType>"), "declared ai xmp"),
    "label 1": (xmp("", f"{TC260} TC260:AIGC='{json.dumps(AIGC)}'"), "certain ai tc260"),
    "label 2": (
        xmp("", f'{TC260} TC260:AIGC="{json.dumps(AIGC | {"Label": "2"}).replace(chr(34), "&quot;")}"'),
        "declared ai tc260",
    ),
    "label 3": (
        xmp(f"<TC260:AIGC {TC260}>{json.dumps(AIGC | {'Label': '3'})}</TC260:AIGC>"),
        "declared ai tc260",
    ),
    "Draw Things": (
        xmp(
            "<exif:UserComment><rdf:Alt><rdf:li xml:lang='x-default'>"
            + json.dumps({"c": 'a "quoted" {cat}', "uc": "", "seed": 1}).replace('"', "&quot;")
            + "</rdf:li></rdf:Alt></exif:UserComment>"
        ),
        "certain ai xmp Draw Things",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", XMPS)
def test_xmp_in_every_container(name):
    packet, word = XMPS[name]
    for container, data in xmp_carriers(packet).items():
        assert words(data) == [word], container


def test_xmp_of_cameras_and_painters_gives_no_sign():
    for value in ("digitalCapture", "digitalArt", "humanEdits", "negativeFilm"):
        inside = f"<I:DigitalSourceType>{IPTC}{value}</I:DigitalSourceType><dc:title>trainedAlgorithmicMedia</dc:title>"
        for container, data in xmp_carriers(xmp(inside)).items():
            assert words(data) == [], (container, value)
    assert (
        words(jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp("<a>AIGC {&quot;Label&quot;:1}</a>")))) == []
    )


def test_labels_in_texts():
    assert words(text("AIGC", json.dumps(AIGC))) == ["certain ai tc260"]
    inside = json.dumps({"AIGC": AIGC | {"Label": "3"}})
    assert words(jpeg(segment(0xE1, b"Exif\0\0" + comment(inside)))) == ["declared ai tc260"]


def c2pa_carriers(store: bytes) -> dict[str, bytes]:
    uuid = bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + bytes(4) + b"manifest\0" + bytes(8) + store
    avif = saved("AVIF")
    return {
        "jpeg": jpeg(*app11(store, 60_000)),
        "jpeg, cut into many": jpeg(*app11(store, 37)),
        "png": png((b"caBX", store)),
        "webp": riff((b"C2PA", store)),
        "avif": avif + struct.pack(">I4s", len(uuid) + 8, b"uuid") + uuid,
        "gif": gif(b"\x21\xff\x0bC2PA_GIF\1\0\0" + sub_blocks(store)),
    }


STORES = {
    "trained": (ADOBE + TRAINED, ["certain ai c2pa Adobe Firefly"]),
    "trained, nobody's": (TRAINED, ["certain ai c2pa"]),
    "by OpenAI": (b"kOpenAI API" + TRAINED, ["certain ai c2pa OpenAI"]),
    "composite": (
        TRAINED.replace(b"/trained", b"/compositeWithTrained"),
        ["declared ai_assisted c2pa"],
    ),
    "an agent alone": (ADOBE, ["declared ai c2pa Adobe Firefly"]),
    "a camera": (
        b"xGoogle LLC, Pixel Camera" + TRAINED.replace(b"trainedAlgorithmicMedia", b"computationalCapture"),
        [],
    ),
    "a gradient": (TRAINED.replace(b"/trainedA", b"/a"), []),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", STORES)
def test_c2pa_in_every_container(name):
    inside, answer = STORES[name]
    for container, data in c2pa_carriers(manifest(inside)).items():
        assert words(data) == answer, container


class Unpacker:
    """As brotli's, for streams of zlib: so the tests need no brotli."""

    def __init__(self) -> None:
        self.stream = zlib.decompressobj()

    def process(self, data: bytes, output_buffer_limit: int) -> bytes:
        try:
            return self.stream.decompress(self.stream.unconsumed_tail + data, output_buffer_limit)
        except zlib.error as error:
            raise RuntimeError from error

    def is_finished(self) -> bool:
        return self.stream.eof

    def can_accept_more_data(self) -> bool:
        return not self.stream.unconsumed_tail


@pytest.fixture(params=["brotli", "zlib"])
def pack(request, monkeypatch):
    """What packs; what unpacks is installed for the test."""
    if request.param == "brotli":
        return pytest.importorskip("brotli", minversion="1.2").compress
    module = types.SimpleNamespace(Decompressor=Unpacker, error=RuntimeError)
    monkeypatch.setitem(sys.modules, "brotli", module)
    return zlib.compress


def brob(packed: bytes, *, kind: bytes = b"jumb") -> bytes:
    return struct.pack(">I", len(packed) + len(kind) + 8) + b"brob" + kind + packed


@pytest.mark.parametrize("kind", [b"jumb", b""])
def test_a_packed_manifest_speaks_in_every_container(pack, kind):
    inside = manifest(ADOBE + TRAINED)[8:]
    store = manifest(b"c2cm" + brob(pack(inside), kind=kind))
    for container, data in c2pa_carriers(store).items():
        assert words(data) == ["certain ai c2pa Adobe Firefly"], container
        assert screened(data, decode(data))[1] == ()
    two = manifest(brob(pack(manifest(b"camera")[8:])) + brob(pack(inside)))
    assert words(png((b"caBX", two))) == ["certain ai c2pa Adobe Firefly"]


def test_without_an_unpacker_a_packed_manifest_is_counted(monkeypatch):
    data = png((b"caBX", manifest(brob(b"anything"))))
    for missing in (
        None,
        types.SimpleNamespace(Decompressor=object, error=RuntimeError),
    ):  # none, and one of before 1.2
        monkeypatch.setitem(sys.modules, "brotli", missing)
        assert screened(data, decode(data)) == ((), ("c2pa_packed",))
    plain = png((b"caBX", manifest(ADOBE + TRAINED)))
    assert screened(plain, decode(plain))[1] == ()


def test_a_packed_bomb_and_broken_boxes_cost_no_more_than_their_budget(pack):
    bomb = pack(b"\0" * (48 << 20))
    broken = [
        b"",
        b"brob",
        b"\0\0\0\1brob",
        b"\0\0\0\1brob" + bytes(8),
        b"\xff\xff\xff\xffbrobjumb",
        brob(b"no stream"),
    ]
    files = [png((b"caBX", manifest(inside))) for inside in (brob(bomb), brob(bomb) * 20, *broken)]
    pictures = [(data, decode(data)) for data in files]
    tracemalloc.start()
    for data, picture in pictures:
        assert screen(data, picture) == ()
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()
    cut = pack(manifest(ADOBE + TRAINED)[8:] + random.Random(1).randbytes(9000))[:-4000]
    assert words(png((b"caBX", manifest(brob(cut))))) == ["certain ai c2pa Adobe Firefly"]


def test_parts_of_a_manifest_may_come_in_any_order():
    parts = app11(manifest(TRAINED), 20)
    random.Random(3).shuffle(parts)
    assert words(jpeg(*parts)) == ["certain ai c2pa"]


# stealth ---------------------------------------------------------------------------------------------------------------

NOVELAI = json.dumps({"Software": "NovelAI", "Comment": "{}", "Description": "a cat"})
SMALL = [(48, 64), (30, 300), (200, 40)]


@pytest.mark.parametrize(("height", "width"), SMALL)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("where", ["alpha", "colours", "colours under alpha", "colours with a profile"])
def test_text_in_the_lowest_bits(height, width, kind, packed, where):
    if where == "colours with a profile" and kind == "PNG" and height < 40:
        width = 200
    rgba = drawn(height, width, 4)
    options: dict[str, object] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    payload = NOVELAI.encode()
    payload = gzip.compress(payload) if packed else payload
    tail = b"comp" if packed else b"info"
    if where == "alpha":
        rgba[:, :, 3] = hide(rgba[:, :, 3:] | 0xFE, b"stealth_png" + tail, payload)[:, :, 0]
    else:
        rgba[:, :, :3] = hide(rgba[:, :, :3], b"stealth_rgb" + tail, payload)
        rgba[:, :, 3] = rgba[:, :, 3] // 2 if where == "colours under alpha" else 255
    if where == "colours with a profile":
        options["icc_profile"] = wide_profile()
        rgba = rgba[:, :, :3]
    assert words(saved(kind, np.ascontiguousarray(rgba), **options)) == ["certain ai stealth NovelAI"]


def wide_profile() -> bytes:
    """sRGB with red and green exchanged: converted pixels are far from those of the file."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    at = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(count)}
    red, green = profile[at[b"rXYZ"] : at[b"rXYZ"] + 8], profile[at[b"gXYZ"] : at[b"gXYZ"] + 8]
    profile[at[b"rXYZ"] : at[b"rXYZ"] + 8], profile[at[b"gXYZ"] : at[b"gXYZ"] + 8] = green, red
    return bytes(profile)


@pytest.mark.parametrize("level", range(5))
def test_the_first_column_is_read_through_every_filter(level):
    """A PNG written with one filter throughout: the reader's first column must be that of the decoder."""
    rgb = drawn(64, 50)
    rgb = hide(rgb, b"stealth_rgbinfo", A1111.encode())
    rgba = np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)])
    assert words(filtered_png(rgba, level)) == ["certain ai stealth AUTOMATIC1111"]


def filtered_png(rgba: np.ndarray, kind: int) -> bytes:
    height, width = rgba.shape[:2]
    padded = np.zeros((height + 1, width + 1, 4), np.int32)
    padded[1:, 1:] = rgba
    left, up, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    p = left + up - corner
    near = np.abs(p - left), np.abs(p - up), np.abs(p - corner)
    paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], up, corner))
    guess = (np.zeros_like(left), left, up, (left + up) // 2, paeth)[kind]
    rows = ((padded[1:, 1:] - guess) & 255).astype(np.uint8).reshape(height, -1)
    body = zlib.compress(b"".join(bytes([kind]) + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    halves = (body[: len(body) // 3], body[len(body) // 3 :])
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*one) for one in [(b"IHDR", head), *((b"IDAT", half) for half in halves), (b"IEND", b"")]
    )


def test_a_signature_is_a_sign_whatever_follows():
    for payload in (b"", b"\xff" * 40, b"plain words"):
        pixels = hide(drawn(), b"stealth_rgbcomp", payload)
        assert words(saved(pixels=pixels)) == ["certain ai stealth"]
    pixels = drawn(1, 44)  # the picture ends before the length does
    bits = np.unpackbits(np.frombuffer(b"stealth_rgbinfo", np.uint8))
    pixels.reshape(-1)[:120] = pixels.reshape(-1)[:120] & 0xFE | bits
    assert words(saved(pixels=pixels)) == ["certain ai stealth"]


# hostile ---------------------------------------------------------------------------------------------------------------


def test_bombs_cost_no_memory():
    bomb = zlib.compress(bytes(64 * 1024 * 1024), 9)
    data = png(*[(b"zTXt", b"parameters\0\0" + bomb)] * 40, (b"tEXt", b"Software\0NovelAI"))
    picture = decode(data)
    tracemalloc.start()
    signs = screen(data, picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [sign.word for sign in signs] == ["certain ai png_text NovelAI"]
    assert peak < 64 * 1024 * 1024


def test_a_hidden_bomb_costs_no_memory():
    payload = gzip.compress(bytes(256 * 1024 * 1024), 9)[:60_000]
    side = 420
    plane = np.full((side, side, 1), 0xFE, np.uint8)
    stream = b"stealth_pngcomp" + struct.pack(">I", 0xFFFFFFFF) + payload
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[: side * side]
    plane.reshape(-1)[: len(bits)] |= bits
    rgba = np.dstack([drawn(side, side), plane[:, :, 0].T])
    data = saved(pixels=rgba)
    picture = decode(data)
    tracemalloc.start()
    assert [sign.word for sign in screen(data, picture)] == ["certain ai stealth"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024 * 1024


def test_entries_that_point_at_the_same_bytes_are_bounded():
    count = 4000
    value = 10 + 12 * count + 4
    head = b"MM\0*" + struct.pack(">IH", 8, count)
    blob = head + struct.pack(">HHII", 0x010E, 2, 1 << 24, value) * count + bytes(4) + b"x" * (1 << 20)
    data = riff((b"EXIF", blob))
    picture = decode(data)
    tracemalloc.start()
    assert screen(data, picture) == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 1024 * 1024


def test_nested_json_and_repeated_words_are_bounded():
    assert words(text("parameters", "[" * 200_000)) == []
    assert words(text("Comment", '{"a":' * 200_000)) == []
    for word in ("DigitalSourceType", "UserComment>{", f"{TC260} AIGC{{", "DigitalSourceType><a><b"):
        packet = (word * (1_000_000 // len(word))).encode()
        assert words(png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))) == []


def test_mutated_files_never_raise(test_data):
    rng = random.Random(11)
    seeds = [p.read_bytes() for p in sorted((test_data / "ai_metadata").iterdir()) if 0 < p.stat().st_size < 30_000]
    seeds += [*carriers(EXIFS["user comment, big endian"][0]).values(), *xmp_carriers(XMPS["label 2"][0]).values()]
    seeds += [*c2pa_carriers(manifest(ADOBE + TRAINED)).values()]
    clean = {data[:4]: decode(data) for data in seeds}  # what the decoder made of a file of the kind
    for _ in range(1200):
        data = bytearray(rng.choice(seeds))
        picture = clean[bytes(data[:4])]
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(4, len(data))
            data[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        if rng.random() < 0.3:
            del data[rng.randrange(8, len(data)) :]
        for sign in screen(bytes(data), picture):
            assert Sign.parse(sign.word).word == sign.word
            assert "\n" not in sign.detail and len(sign.detail) <= 200


def test_a_word_is_parsed_back_and_the_strongest_comes_first():
    data = png(
        (b"tEXt", b"Title\0AI generated image"), (b"caBX", manifest(ADOBE)), (b"comf", b"prompt\0" + COMFY.encode())
    )
    assert words(data) == ["certain ai chunk ComfyUI", "declared ai png_text", "declared ai c2pa Adobe Firefly"]
    for word in words(data):
        assert Sign.parse(word).word == word
