"""Every kind of file becomes the sRGB picture a person would see, or is refused with the right word."""

from __future__ import annotations

import io
import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from animeflow.core.errors import ConfigError
from animeflow.image.decode import BadPicture, Limits, decode
from animeflow.image.encode import encode_png


def drawn(height: int = 40, width: int = 56) -> np.ndarray:
    """A smooth picture without symmetry, uint8 `[H, W, 3]`."""
    y, x = np.mgrid[0:height, 0:width]
    layers = [x * 255 // (width - 1), y * 255 // (height - 1), (x * 3 + y * 5) % 256 // 2 + 40]
    return np.stack(layers, axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    image = Image.fromarray(pixels)
    return saved(image if mode is None else image.convert(mode), "PNG")


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def with_chunk(data: bytes, kind: bytes, payload: bytes) -> bytes:
    """PNG bytes with one more chunk after IHDR."""
    return data[:33] + chunk(kind, payload) + data[33:]


def swapped_profile() -> bytes:
    """sRGB with the red and green primaries exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {
        bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i
        for i in range(struct.unpack_from(">I", profile, 128)[0])
    }
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    profile[red + 4 : red + 12], profile[green + 4 : green + 12] = (
        profile[green + 4 : green + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)


def reason(data: bytes, **options: object) -> str:
    with pytest.raises(BadPicture) as caught:
        decode(data, **options)
    assert caught.value.detail
    return caught.value.reason


# what is read ----------------------------------------------------------------------------------------------------------


def test_png_round_trip_is_exact():
    pixels = drawn()
    assert np.array_equal(decode(encode_png(pixels)).pixels, pixels)
    assert encode_png(pixels) == encode_png(pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_are_exact(kind):
    picture = decode(saved(Image.fromarray(drawn()), kind))
    assert np.array_equal(picture.pixels, drawn())
    assert (picture.facts.format, picture.facts.height, picture.facts.width) == (kind, 40, 56)


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("AVIF", {})]
)
def test_lossy_formats_are_near(kind, options):
    smooth = cv2.GaussianBlur(drawn(), (9, 9), 3)
    picture = decode(saved(Image.fromarray(smooth), kind, quality=95, **options))
    assert np.abs(picture.pixels.astype(int) - smooth).mean() < 4
    assert picture.pixels.flags.c_contiguous
    assert picture.facts.format == kind


def test_pixels_in_a_profile_with_swapped_primaries_come_back():
    pixels = drawn()
    data = saved(Image.fromarray(pixels[:, :, [1, 0, 2]]), "PNG", icc_profile=swapped_profile())
    picture = decode(data)
    assert np.abs(picture.pixels.astype(int) - pixels).max() <= 2
    assert picture.facts.icc
    assert np.array_equal(decode(data).pixels, picture.pixels)  # the kept transform gives the same


def test_srgb_profile_leaves_every_value_alone():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode(saved(Image.fromarray(drawn()), "PNG", icc_profile=profile)).pixels, drawn())


def test_broken_profile_is_a_note_not_a_failure():
    for data in (
        saved(Image.fromarray(drawn()), "PNG", icc_profile=b"no profile at all"),
        with_chunk(png(drawn()), b"iCCP", b"name\0\0not deflated"),
    ):
        picture = decode(data)
        assert picture.facts.notes == ("icc_broken",)
        assert np.array_equal(picture.pixels, drawn())


def test_profile_of_another_colour_space_is_a_note():
    grey = Image.fromarray(drawn()[:, :, 0])
    picture = decode(saved(grey, "PNG", icc_profile=swapped_profile()))
    assert picture.facts.notes == ("icc_wrong_space",)
    assert np.array_equal(picture.pixels[:, :, 1], drawn()[:, :, 0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_every_orientation_is_undone(orientation, kind):
    image = Image.fromarray(drawn())
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(image, kind, exif=exif, **options)
    picture = decode(data)
    assert np.array_equal(
        picture.pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    )
    assert picture.facts.orientation == orientation or kind == "TIFF"  # there the decoder underneath turns it itself
    assert (picture.facts.height, picture.facts.width) == picture.pixels.shape[:2]


def test_sixteen_bits_are_rounded():
    deep = (np.arange(40 * 56 * 3, dtype=np.uint32).reshape(40, 56, 3) * 9 % 65536).astype(np.uint16)
    data = cv2.imencode(".png", deep[:, :, ::-1])[1].tobytes()
    picture = decode(data)
    assert np.array_equal(picture.pixels, np.floor(deep / 257 + 0.5).astype(np.uint8))
    assert picture.facts.mode.endswith(";16")


def test_sixteen_bit_grey_and_alpha():
    grey = (np.arange(40 * 56, dtype=np.uint32).reshape(40, 56) * 29 % 65536).astype(np.uint16)
    expected = np.floor(grey / 257 + 0.5).astype(np.uint8)
    assert np.array_equal(decode(cv2.imencode(".png", grey)[1].tobytes()).pixels[:, :, 2], expected)
    layers = np.stack([grey, grey, grey, np.full_like(grey, 0)], axis=-1)
    assert (decode(cv2.imencode(".png", layers)[1].tobytes()).pixels == 255).all()


def test_cmyk_jpeg():
    colours = np.zeros((32, 32, 4), np.uint8)
    colours[:, 16:, 1:3] = 255  # magenta and yellow ink: red
    picture = decode(saved(Image.fromarray(colours, "CMYK"), "JPEG", quality=95))
    assert picture.facts.notes == ("cmyk_without_profile",)
    assert np.abs(picture.pixels[:, :8].astype(int) - 255).max() < 8
    assert np.abs(picture.pixels[:, 24:].astype(int) - (255, 0, 0)).max() < 8


def test_alpha_is_laid_over_the_background():
    pixels = np.dstack([drawn(), np.tile(np.linspace(0, 255, 56).astype(np.uint8), (40, 1))])
    for background in ((255, 255, 255), (0, 128, 7)):
        picture = decode(png(pixels), background=background)
        alpha = pixels[:, :, 3:] / 255
        assert np.abs(picture.pixels - (alpha * pixels[:, :, :3] + (1 - alpha) * background)).max() <= 0.5 + 1e-6
        assert picture.facts.transparent


def test_opaque_alpha_changes_nothing():
    picture = decode(png(np.dstack([drawn(), np.full((40, 56), 255, np.uint8)])))
    assert np.array_equal(picture.pixels, drawn())
    assert not picture.facts.transparent


def test_palette_with_transparency():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 20, 30, 40, 50])
    image.putpixel((0, 0), 0)
    image.putpixel((1, 0), 2)
    picture = decode(saved(image, "PNG", transparency=bytes([0, 255, 255])), background=(1, 2, 3))
    assert picture.pixels[0, :3].tolist() == [[1, 2, 3], [30, 40, 50], [200, 10, 20]]


def test_colour_key_of_an_rgb_picture():
    pixels = np.full((4, 4, 3), 90, np.uint8)
    pixels[0, 0] = (1, 2, 3)
    assert decode(saved(Image.fromarray(pixels), "PNG", transparency=(1, 2, 3))).pixels[0, 0].tolist() == [
        255,
        255,
        255,
    ]


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P"])
def test_grey_and_palette_modes(mode):
    image = Image.fromarray(drawn()).convert(mode)
    assert np.array_equal(decode(saved(image, "PNG")).pixels, np.asarray(image.convert("RGB")))


def test_grey_with_alpha():
    layers = np.stack([np.full((4, 4), 100, np.uint8), np.full((4, 4), 0, np.uint8)], axis=-1)
    assert (decode(saved(Image.fromarray(layers, "LA"), "PNG")).pixels == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decode(saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options))
    assert (picture.pixels == (255, 0, 0)).all()
    assert picture.facts.frames == 3


def test_text_chunks_are_never_inflated():
    bomb = with_chunk(png(drawn()), b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
    assert np.array_equal(decode(bomb).pixels, drawn())


# what is refused -------------------------------------------------------------------------------------------------------


def test_empty_and_unknown():
    assert reason(b"") == "empty"
    assert reason(b"1girl, solo, smile, this is a text called picture.png") == "unknown_format"
    assert reason(b"%PDF-1.7 and so on, long enough to look at") == "unknown_format"
    assert reason(b"BMW drivers write texts that begin with BM") == "unknown_format"


FILES = {
    "png": saved(Image.fromarray(drawn()), "PNG"),
    "jpeg": saved(Image.fromarray(drawn()), "JPEG", quality=90),
    "progressive": saved(Image.fromarray(drawn()), "JPEG", quality=90, progressive=True),
    "webp": saved(Image.fromarray(drawn()), "WEBP", quality=90),
    "gif": saved(Image.fromarray(drawn()), "GIF"),
    "bmp": saved(Image.fromarray(drawn()), "BMP"),
    "avif": saved(Image.fromarray(drawn()), "AVIF"),
}


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("name", FILES)
def test_cut_files_are_never_half_decoded(name, share):
    data = FILES[name]
    assert decode(data)
    assert reason(data[: max(20, int(len(data) * share))]) in ("truncated", "unreadable")


@pytest.mark.parametrize("lost", [1, 2, 4, 8, 12, 40])
@pytest.mark.parametrize("name", ["png", "jpeg", "progressive", "webp"])
def test_a_lost_end_is_noticed(name, lost):
    assert reason(FILES[name][:-lost]) == "truncated"


@pytest.mark.parametrize("name", FILES)
def test_random_damage_gives_a_picture_or_a_reason(name):
    generator = np.random.default_rng(3)
    for _ in range(60):
        data = bytearray(FILES[name])
        for at in generator.integers(0, len(data), 4):
            data[at] = generator.integers(256)
        try:
            assert decode(bytes(data), limits=Limits(max_pixels=4_000_000)).pixels.dtype == np.uint8
        except BadPicture as bad:
            assert bad.reason in ("truncated", "unreadable", "unknown_format", "too_large")


def test_flipped_bits_in_a_png_are_noticed():
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 0x10
    assert reason(bytes(data)) == "unreadable"


def test_bombs_are_refused_by_their_header():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert reason(bomb) == "too_large"
    assert reason(bomb[:40]) == "too_large"
    jpeg = bytearray(FILES["jpeg"])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    assert reason(bytes(jpeg)) == "too_large"
    gif = bytearray(FILES["gif"])
    gif[6:10] = struct.pack("<HH", 65_000, 65_000)
    assert reason(bytes(gif)) == "too_large"
    bmp = bytearray(FILES["bmp"])
    bmp[18:26] = struct.pack("<ii", 90_000, -90_000)
    assert reason(bytes(bmp)) == "too_large"
    webp = saved(Image.fromarray(np.dstack([drawn(), drawn()[:, :, :1]])), "WEBP")
    at = webp.index(b"VP8X") + 12
    assert reason(webp[:at] + b"\xff\x3f\x00\xff\x3f\x00" + webp[at + 6 :]) == "too_large"


def test_a_bomb_that_only_the_decoder_can_measure():
    tiff = saved(Image.new("L", (60, 50)), "TIFF")
    at = next(tiff.index(entry) for kind in (3, 4) if (entry := struct.pack("<HHI", 0x0100, kind, 1)) in tiff)
    long = struct.pack("<HHII", 0x0100, 4, 1, 400_000_000)
    assert reason(tiff[:at] + long + tiff[at + 12 :]) == "too_large"


def test_limits_are_options():
    data = png(drawn())
    assert reason(data, limits=Limits(max_pixels=1000)) == "too_large"
    assert reason(data, limits=Limits(max_side=50)) == "too_large"
    assert reason(data, limits=Limits(max_bytes=100)) == "too_large"
    assert reason(with_chunk(data, b"tEXt", b"a\0" + bytes(5000)), limits=Limits(max_text_bytes=4000)) == "too_large"
    profile = with_chunk(data, b"iCCP", b"name\0\0" + zlib.compress(bytes(10_000_000)))
    assert reason(profile) == "too_large"
    frames = [Image.new("L", (8, 8), level * 50) for level in range(5)]
    for kind in ("PNG", "GIF", "WEBP"):
        animation = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert reason(animation, limits=Limits(max_frames=4)) == "too_large"
    with pytest.raises(ConfigError, match="max_pixels"):
        Limits(max_pixels=10**12)


def test_the_reason_crosses_processes():
    bad = pickle.loads(pickle.dumps(BadPicture("truncated", "after 7 bytes")))
    assert (bad.reason, bad.detail, str(bad)) == ("truncated", "after 7 bytes", "truncated: after 7 bytes")


def test_real_pictures_decode(test_data):
    for file in sorted((test_data / "images" / "renpy").iterdir())[:12]:
        picture = decode(file.read_bytes())
        with Image.open(file) as image:
            assert picture.pixels.shape == (image.height, image.width, 3)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(40, 56), (1, 1), (17, 9), (131, 257)])
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(subsampling, progressive, size):
    """Two decoders are behind `decode`, for speed; which one read a file must not be seen in it."""
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = saved(Image.fromarray(pixels), "JPEG", quality=88, subsampling=subsampling, progressive=progressive)
    for file in (data, data + b"\0" * 7, data + b"words after the end"):
        assert np.array_equal(decode(file).pixels, np.asarray(Image.open(io.BytesIO(file))))


def test_a_broken_jpeg_is_refused_or_read_as_pillow_does():
    pixels = np.random.default_rng(4).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    data = saved(Image.fromarray(pixels), "JPEG", quality=80)
    rng, both = np.random.default_rng(5), 0
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(2, len(data) - 2, rng.integers(1, 4)):
            broken[at] = rng.integers(0, 256)
        try:
            wanted = np.asarray(Image.open(io.BytesIO(bytes(broken))).convert("RGB"))
        except (OSError, SyntaxError, ValueError):
            wanted = None
        try:
            found = decode(bytes(broken)).pixels
        except BadPicture:
            continue
        both += 1
        assert wanted is not None and np.array_equal(found, wanted)
    assert both > 50
