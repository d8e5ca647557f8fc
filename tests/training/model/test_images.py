import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from training.base.errors import ImageError, ImageTooLarge
from training.model import images
from training.model.images import describe_image, open_image, read_image
from training.model.preprocessing import Preprocessing


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


ORIENTATION = 0x0112
RED = Image.new("RGB", (40, 30), (200, 30, 10))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "BMP"), ("P", "GIF"), ("1", "PNG"), ("LA", "PNG"), ("RGB", "WEBP")],
)
def test_modes_become_rgb(mode, kind):
    image = open_image(encoded(RED.convert(mode if mode != "LA" else "L").convert(mode), kind))
    assert (image.mode, image.size) == ("RGB", (40, 30))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("draft", [None, 30])
def test_ordinary_pictures_are_what_pillow_decodes_to_the_last_bit(kind, draft):
    content = encoded(Image.effect_noise((300, 200), 90).convert("RGB"), kind)
    with Image.open(io.BytesIO(content)) as expected:
        if draft:
            expected.draft("RGB", (45, 45))
        np.testing.assert_array_equal(open_image(content, draft=draft), expected.convert("RGB"))


CORNERS = Image.effect_noise((40, 30), 90).convert("RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_in_every_format(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encoded(CORNERS, kind, exif=exif)
    facts, image = read_image(content)
    assert facts == describe_image(content)
    assert image.size == (facts.width, facts.height) == ((30, 40) if orientation >= 5 else (40, 30))
    with Image.open(io.BytesIO(content)) as upright:
        np.testing.assert_array_equal(image, ImageOps.exif_transpose(upright).convert("RGB"))


def exif_data(kind, value):
    """EXIF data whose orientation has a type of one's choice."""
    entry = struct.pack("<HHI", ORIENTATION, kind, len(value)) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


MEANINGLESS_EXIF = {
    "ASCII": exif_data(2, b"6\0"),
    "UNDEFINED": exif_data(7, b"\6"),
    "UNDEFINED of four": exif_data(7, b"abcd"),
    "no value": exif_data(3, b""),
    "garbage": b"Exif\0\0no TIFF",
    "empty": b"Exif\0\0",
}


@pytest.mark.parametrize("exif", MEANINGLESS_EXIF.values(), ids=MEANINGLESS_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_that_means_nothing_leaves_the_picture_as_it_is(exif, kind):
    facts, image = read_image(encoded(RED, kind, exif=exif))
    assert (facts.width, facts.height) == image.size == (40, 30)


def test_several_pictures_in_one_file_of_a_phone_are_a_jpeg():
    content = encoded(RED, "MPO", save_all=True, append_images=[RED])
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "MPO"
    facts, image = read_image(content)
    assert (facts.format, facts.suffix, image.size) == ("JPEG", ".jpeg", (40, 30))


def test_draft_reduces_large_jpegs_only_as_far_as_asked():
    content = encoded(Image.new("RGB", (2000, 1000)), "JPEG")
    facts, reduced = read_image(content, draft=224)
    assert 224 <= min(reduced.size) < 1000
    assert (facts.width, facts.height) == (2000, 1000)


@pytest.mark.parametrize("draft", [None, 32, 400])
@pytest.mark.parametrize("size", [(800, 600), (801, 599), (600, 800), (2400, 200)])
def test_a_jpeg_beyond_the_limit_is_decoded_within_it(size, draft):
    facts, image = read_image(encoded(Image.new("RGB", size), "JPEG"), max_pixels=125_000, draft=draft)
    assert (facts.width, facts.height) == size
    assert image.width * image.height <= 125_000
    assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)


@pytest.mark.parametrize(
    ("kind", "size", "options"),
    [("JPEG", (800, 640), {}), ("JPEG", (800, 600), {"progressive": True}), ("PNG", (800, 600), {})],
)
def test_what_cannot_be_decoded_within_the_limit_is_refused_by_all(kind, size, options):
    content = encoded(Image.new("RGB", size), kind, **options)
    for examine in (read_image, open_image, describe_image):
        with pytest.raises(ImageTooLarge, match="limit of 125000 pixels"):
            examine(content, max_pixels=125_000)


def test_photos_of_108_megapixels_are_opened():
    """As some phones take them."""
    facts, image = read_image(encoded(Image.new("L", (12000, 9000)), "JPEG"), draft=224)
    assert (facts.width, facts.height) == (12000, 9000)
    assert image.size == (1500, 1125)


def png_with(*chunks):
    """A PNG with more chunks, ahead of its pixels."""
    plain = encoded(RED)
    return plain[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + plain[33:]


TEXT = bytes(range(32, 127)) * 30_000


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"zTXt", b"x\0\0" + zlib.compress(TEXT))],
        [(b"iTXt", b"x\0\1\0\0\0" + zlib.compress(TEXT))],
        [(b"tEXt", b"%d\0" % number + TEXT) for number in range(25)],
        [(b"iCCP", b"x\0\0" + zlib.compress(TEXT))],
        [(b"iCCP", b"x\0\0" + zlib.compress(TEXT)), (b"zTXt", b"x\0\0" + zlib.compress(TEXT))],
    ],
    ids=["compressed", "international", "71 MB of plain text", "profile", "profile and text"],
)
def test_png_with_long_text_opens(chunks):
    content = png_with(*chunks)
    np.testing.assert_array_equal(open_image(content), RED)
    assert describe_image(content) == ("PNG", 40, 30)


def test_png_with_long_text_behind_its_pixels_opens():
    plain = encoded(RED)
    text = png_chunk(b"zTXt", b"x\0\0" + zlib.compress(TEXT))
    np.testing.assert_array_equal(open_image(plain[:-12] + text + plain[-12:]), RED)


def test_memory_that_the_machine_lacks_is_no_fault_of_the_picture(monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(images, "to_srgb", fail)
    with pytest.raises(MemoryError):
        open_image(encoded(RED))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"this is text, not a picture", "not an image"),
        (encoded(RED, "JPEG")[:300], "truncated or damaged"),
        (encoded(Image.effect_noise((64, 64), 90))[:-2000], "truncated or damaged"),
        (b"%PDF-1.4 " + encoded(RED), "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing, which only sketches may be"),
    ],
)
def test_unusable_images_say_why(content, reason):
    with pytest.raises(ImageError, match=reason):
        open_image(content)


@pytest.mark.parametrize("side", [30_000, 12_000, 2_000])
def test_bombs_are_refused_before_decoding(side):
    with pytest.raises(ImageTooLarge, match="limit of 1000000 pixels"):
        open_image(png_header(side, side), max_pixels=1_000_000)


def test_preprocessing_normalises():
    tensor = Preprocessing(size=32)(Image.new("RGB", (50, 20), "white"))
    assert tensor.shape == (3, 32, 32)
    assert tensor.min() == tensor.max() == 1


def drawing(box, size, ink="black", ground="white"):
    image = Image.new("RGB", size, ground)
    image.paste(ink, box)
    return image


CROP = Preprocessing(size=64, crop_to_ink=True)


def test_cropping_to_ink_makes_place_and_size_of_small_drawings_irrelevant():
    small, large = CROP(drawing((10, 10, 30, 30), (200, 200))), CROP(drawing((100, 50, 180, 130), (200, 200)))
    assert (small - large).abs().mean() < 0.1
    assert CROP(Image.new("RGB", (20, 20), "white")).min() == 1


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (400, 100)])
def test_cropping_to_ink_keeps_the_shape_of_drawings_on_any_canvas(size):
    left, top = size[0] // 2, size[1] // 2
    square = Preprocessing(size=64)(drawing((20, 20, 80, 80), (100, 100)))
    assert (CROP(drawing((left - 30, top - 30, left + 30, top + 30), size)) - square).abs().mean() < 0.1


def test_cropping_to_ink_leaves_well_filled_squares_alone():
    image = drawing((5, 30, 90, 60), (100, 100))
    assert torch.equal(CROP(image), Preprocessing(size=64)(image))


def test_cropping_to_ink_never_cuts_ink_off():
    strip = CROP.arrange(drawing((0, 40, 200, 60), (200, 100)))
    assert strip.getpixel((8, 32)) < 50
    assert strip.getpixel((56, 32)) < 50
    assert strip.getpixel((0, 32)) == 255


def test_cropping_to_ink_turns_light_lines_on_dark_ground_into_dark_ones_on_light():
    light = drawing((20, 20, 80, 80), (100, 100), ink="white", ground="black")
    assert torch.equal(CROP(light), CROP(drawing((20, 20, 80, 80), (100, 100))))


def test_cropping_to_ink_finds_it_on_grey_paper_and_makes_the_paper_white():
    arranged = CROP.arrange(drawing((45, 45, 55, 55), (100, 100), ground=(200, 200, 200)))
    assert arranged.getpixel((32, 32)) < 50
    assert arranged.getpixel((2, 2)) == 255


def test_a_small_drawing_in_a_large_jpeg_is_decoded_finely(tmp_path):
    lines = Image.new("RGB", (3200, 3200), "white")
    for column in range(200, 600, 10):
        lines.paste("black", (column, 200, column + 5, 600))
    lines.save(tmp_path / "lines.jpg", quality=95)
    preprocessing = Preprocessing(size=224, crop_to_ink=True)
    tensor = preprocessing(open_image(tmp_path / "lines.jpg", draft=preprocessing.draft))
    assert tensor[0, 112, 60:164].std() > 0.5  # 0.2 where the JPEG is reduced to the input's size first


def test_cropping_to_ink_squares_no_endless_strip():
    strip = Image.new("RGB", (1_000_000, 2), "white")
    strip.paste("black", (10, 0, 999_990, 1))
    assert CROP.arrange(strip).size == (64, 64)


@pytest.mark.parametrize("size", [(1_000_000, 2), (2, 1_000_000)])
def test_padding_squares_no_endless_strip(size):
    assert Preprocessing(size=64, fit="pad").arrange(Image.new("RGB", size)).size == (64, 64)


def test_grayscale_and_padding():
    arranged = Preprocessing(size=64, fit="pad", grayscale=True).arrange(Image.new("RGB", (64, 32), (255, 0, 0)))
    assert arranged.mode == "L"
    assert arranged.getpixel((32, 2)) == 255
    assert arranged.getpixel((32, 32)) < 100


@pytest.mark.parametrize("preprocessing", [CROP, Preprocessing(size=64, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))])
def test_an_image_without_colours_gives_the_same_tensor_in_grey_levels_as_in_rgb(preprocessing):
    gray = Image.linear_gradient("L").resize((64, 64))
    tensor = preprocessing.tensor(gray)
    assert tensor.shape == (3, 64, 64)
    assert torch.equal(tensor, preprocessing.tensor(gray.convert("RGB")))
