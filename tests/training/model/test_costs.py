"""Small files that would cost much to decode are refused by their structure, in linear time."""

import io
import struct
import zlib

import pytest
from PIL import Image

from tests.training.model.test_images import encoded, png_chunk
from training.base.errors import ImageTooCostly, ImageTooLarge
from training.model import costs, images
from training.model.images import describe_image, open_image, read_image

GREY = Image.new("L", (64, 64), 128)
COLOURS = Image.effect_noise((64, 64), 90).convert("RGB")


def progressive(scans, side=64):
    """A progressive JPEG with scans that hold nothing."""
    content = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    return content[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x10" * scans + content[-2:]


def one_by_one(scans):
    """A JPEG that is not progressive but has a scan for each colour, again and again."""
    content = encoded(COLOURS, "JPEG", subsampling=0)
    scan = b"".join(b"\xff\xda\x00\x08\x01%c%c\x00\x3f\x00" % (c, 0 if c == 1 else 0x11) for c in (1, 2, 3))
    return content[: content.rfind(b"\xff\xda")] + scan * (scans // 3) + b"\xff\xd9"


def with_segments(count, marker=0xE1, body=b"Exif\0\0II"):
    content = encoded(GREY, "JPEG")
    return content[:2] + (b"\xff%c" % marker + struct.pack(">H", 2 + len(body)) + body) * count + content[2:]


def tiff(entries, order="<", big=False):
    """A TIFF of a directory, with the type and the number of values of each tag."""
    start = b"II" if order == "<" else b"MM"
    if big:
        head = start + struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, len(entries))
        return head + b"".join(struct.pack(f"{order}HHQQ", *entry, 0) for entry in entries)
    head = start + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return head + b"".join(struct.pack(f"{order}HHII", *entry, 0) for entry in entries) + bytes(4)


def png(*chunks):
    content = encoded(GREY)
    pixels = content.index(b"IDAT") - 4
    return content[:pixels] + b"".join(chunks) + content[pixels:]


def gif(*blocks):
    content = encoded(GREY.convert("P"), "GIF")
    start = 13 + 3 * (2 << (content[10] & 7))
    return content[:start] + b"".join(blocks) + content[start:]


NUMBERS = (282, 5, 2_400_000)
COSTLY = {
    "scans of a progressive JPEG": (lambda: progressive(6000), "more than 100 scans"),
    "scans of a sequential JPEG": (lambda: one_by_one(3000), "more than 100 scans"),
    "EXIF segments": (lambda: with_segments(100), "more than 16 segments of EXIF data"),
    "segments": (lambda: with_segments(3000, 0xEF, b""), "more than 2,000 segments"),
    "comments": (lambda: with_segments(3000, 0xFE, b"a"), "more than 2,000 segments"),
    "tiles": (lambda: tiff([(256, 4, 1), (324, 4, 2_250_000)]), "more than 65,536 tiles or strips"),
    "strips": (lambda: tiff([(273, 4, 100_000)], ">"), "more than 65,536 tiles or strips"),
    "tiles of a large TIFF": (lambda: tiff([(324, 16, 100_000)], big=True), "more than 65,536 tiles or strips"),
    "numbers": (lambda: tiff([NUMBERS]), "more than 500,000 numbers"),
    "tags": (lambda: tiff([(9, 1, 1)] * 70_000, big=True), "more than 65,536 tags"),
    "EXIF data of a PNG": (lambda: png(png_chunk(b"eXIf", tiff([NUMBERS]))), "more than 500,000 numbers"),
    "EXIF data of a WebP": (lambda: encoded(GREY, "WEBP", exif=b"Exif\0\0" + tiff([NUMBERS])), "more than 500,000"),
    "chunks": (lambda: png(png_chunk(b"prVt", b"") * 110_000), "more than 100,000 chunks"),
    "profiles": (
        lambda: png(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(999_999))) * 11),
        "more than 10 colour profiles",
    ),
    "extensions": (lambda: gif(b"\x21\xf9\x04\0\0\0\0\0" * 60_000), "more than 100,000 blocks"),
    "blocks": (lambda: gif(b"\x21\xfe", b"\x01a" * 110_000, b"\0"), "more than 100,000 blocks"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_more_than_its_pixels_is_refused(name):
    make, message = COSTLY[name]
    content = make()
    with pytest.raises(ImageTooCostly, match=message):
        open_image(content)
    if "EXIF data of" not in name:  # which may lie behind the pixels
        with pytest.raises(ImageTooCostly, match=message):
            describe_image(content)


@pytest.mark.parametrize(
    "content",
    [
        progressive(90),
        encoded(COLOURS, "JPEG", progressive=True),
        with_segments(1900, 0xE2, b"ICC_PROFILE\0\1\1"),
        with_segments(1),
        png(png_chunk(b"tEXt", b"a\0b") * 5000),
        gif(b"\x21\xfe\x01a\0" * 1000),
        encoded(GREY, "TIFF"),
        encoded(COLOURS, "TIFF", compression="tiff_lzw"),
        encoded(GREY.convert("P"), "GIF", save_all=True, append_images=[GREY.convert("P")] * 50),
    ],
    ids=range(9),
)
def test_unusual_files_are_read(content):
    assert open_image(content).size == (64, 64)


@pytest.mark.parametrize(
    "content", [b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\x89PNG\r\n\x1a\n1234", b"GIF89a", b"II*\0", b"MM\0\x2b"]
)
def test_files_that_break_off_are_damaged(content):
    with pytest.raises(Exception, match="cannot identify image file"):
        costs.open_checked(content, ("JPEG", "PNG", "GIF", "TIFF"))


def test_a_jpeg_of_several_scans_is_held_whole():
    """A scan for each colour is decoded like a progressive picture, which cannot be read at half its size."""
    plain = encoded(Image.new("RGB", (800, 600)), "JPEG")
    facts, image = read_image(plain, max_pixels=125_000)
    assert (facts.width, image.width <= 400) == (800, True)
    with Image.open(io.BytesIO(one_by_one(3))) as opened:
        assert "progressive" not in opened.info
    assert costs.open_checked(one_by_one(3), ("JPEG",)).info["progressive"]


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": Image.Exif()}, {"save_all": True}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_of_a_webp_is_known_before_it_is_opened(mode, options, monkeypatch):
    content = encoded(Image.new(mode, (300, 7)), "WEBP", append_images=[Image.new(mode, (300, 7), 5)], **options)
    assert costs.webp_size(content) == (300, 7)
    assert costs.webp_size(encoded(GREY)) is None
    monkeypatch.setattr(images, "open_checked", None)  # which would take memory for it
    with pytest.raises(ImageTooLarge, match="300 x 7 px is more than the limit of 2099"):
        describe_image(content, max_pixels=2099)
