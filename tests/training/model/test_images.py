import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from training.base.errors import ImageError, ImageTooLarge
from training.model.images import image_size, open_image
from training.model.preprocessing import Preprocessing


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


RED = Image.new("RGB", (40, 30), (200, 30, 10))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "BMP"), ("P", "GIF"), ("1", "PNG"), ("LA", "PNG"), ("RGB", "WEBP")],
)
def test_modes_become_rgb(mode, kind):
    image = open_image(encoded(RED.convert(mode if mode != "LA" else "L").convert(mode), kind))
    assert (image.mode, image.size) == ("RGB", (40, 30))


def test_transparency_is_flattened_on_white():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 0, 255))
    flattened = open_image(encoded(image))
    assert flattened.getpixel((0, 0)) == (255, 255, 255)
    assert flattened.getpixel((1, 1)) == (0, 0, 0)


def test_sixteen_bits_are_scaled_not_clipped():
    image = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert [open_image(encoded(image)).getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(RED, "JPEG", exif=exif)
    assert open_image(content).size == image_size(content) == (30, 40)


def test_draft_reduces_large_jpegs_only_as_far_as_asked():
    content = encoded(Image.new("RGB", (2000, 1000)), "JPEG")
    reduced = open_image(content, draft=224)
    assert 224 <= min(reduced.size) < 1000
    assert image_size(content) == (2000, 1000)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"this is text, not a picture", "not an image"),
        (encoded(RED, "JPEG")[:300], "truncated or damaged"),
        (encoded(Image.effect_noise((64, 64), 90))[:-2000], "truncated or damaged"),
        (b"%PDF-1.4 " + encoded(RED), "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
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
    assert strip.getpixel((8, 32))[0] < 50
    assert strip.getpixel((56, 32))[0] < 50
    assert strip.getpixel((0, 32)) == (255, 255, 255)


def test_cropping_to_ink_turns_light_lines_on_dark_ground_into_dark_ones_on_light():
    light = drawing((20, 20, 80, 80), (100, 100), ink="white", ground="black")
    assert torch.equal(CROP(light), CROP(drawing((20, 20, 80, 80), (100, 100))))


def test_cropping_to_ink_finds_it_on_grey_paper_and_extends_the_paper():
    arranged = CROP.arrange(drawing((45, 45, 55, 55), (100, 100), ground=(200, 200, 200)))
    assert arranged.getpixel((32, 32))[0] < 50
    assert arranged.getpixel((2, 2)) == (200, 200, 200)


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


def test_grayscale_and_padding():
    arranged = Preprocessing(size=64, fit="pad", grayscale=True).arrange(Image.new("RGB", (64, 32), (255, 0, 0)))
    assert arranged.getpixel((32, 2)) == (255, 255, 255)
    red, green, blue = arranged.getpixel((32, 32))
    assert red == green == blue < 100
