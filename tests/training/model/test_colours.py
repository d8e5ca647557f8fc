"""Values, colours and transparency of pictures of every kind, as 8-bit sRGB."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from tests.training.model.test_images import encoded, png_chunk
from training.model import colours
from training.model.images import open_image
from training.model.preprocessing import Preprocessing


def levels(values, dtype, kind="TIFF"):
    """The grey levels that a row of values becomes."""
    return np.asarray(open_image(encoded(Image.fromarray(np.array([values], dtype)), kind)))[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([-3, 0.5, 1.05], [0, 128, 255]),
        ([0, 0.02, 0.1], [0, 5, 26]),
        ([0, 100, 200], [0, 100, 200]),
        ([0, 512, 1023], [0, 128, 255]),
        ([0, 40_000, 65_535], [0, 156, 255]),
        ([0, 500_000, 1_000_000], [0, 128, 255]),
        ([np.nan, 0.5, np.inf], [0, 128, 255]),
        ([-np.inf, 100, np.inf], [0, 100, 255]),
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
        ([0, 0, 0], [0, 0, 0]),
    ],
)
def test_floating_point_values(values, expected):
    assert levels(values, np.float32) == expected


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
@pytest.mark.parametrize("top", [255, 1023, 4095, 65535])
def test_bits_stored_in_sixteen(kind, top):
    assert levels([0, top // 2 + 1, top], np.uint16, kind) == [0, 128, 255]


def test_integers_of_thirty_two_bits():
    assert levels([-5, 2**30, 2**31 - 1], np.int32) == [0, 128, 255]


def test_the_header_says_how_many_bits_there_are():
    """A dark picture of 12 bits stays dark."""
    packed = bytes([0x00, 0x01, 0xFF])  # 0 and 511, of 4095
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 1), (279, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    content = content.ljust(122, b"\0") + packed
    assert isinstance(Image.open(io.BytesIO(content)), TiffImagePlugin.TiffImageFile)
    assert np.asarray(open_image(content))[0, :, 0].tolist() == [0, 32]


def fixed(value):
    return struct.pack(">i", round(value * 65536))


WHITE = b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1) + fixed(0.8249)


def profile(space, tags):
    """A minimal ICC profile of version 2."""
    table, data = b"", b""
    for name, content in tags:
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    white = fixed(0.9642) + fixed(1) + fixed(0.8249)
    head = b"lcms\2\x20\0\0mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28) + white + bytes(48)
    body = head + struct.pack(">I", len(tags)) + table + data
    return struct.pack(">I", len(body) + 4) + body


def curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def rgb_profile(primaries, gamma):
    colourants = [b"XYZ " + bytes(4) + b"".join(map(fixed, each)) for each in primaries]
    names = [b"rXYZ", b"gXYZ", b"bXYZ"]
    curves = [(name, curve(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return profile(b"RGB ", [*zip(names, colourants, strict=True), *curves, (b"wtpt", WHITE)])


# Adapted to D50, as profiles have them.
DISPLAY_P3 = rgb_profile([(0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)], 2.2)
PROPHOTO = rgb_profile([(0.7977, 0.2880, 0), (0.1352, 0.7119, 0), (0.0313, 0.0001, 0.8249)], 1.8)
GREY = profile(b"GRAY", [(b"kTRC", curve(1.0)), (b"wtpt", WHITE)])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

COLOUR = (200, 120, 60)
PATCH = Image.new("RGB", (16, 16), COLOUR)


def distance(first, second):
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def by_lcms(image, icc):
    opened = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return ImageCms.profileToProfile(image, opened, ImageCms.createProfile("sRGB"), outputMode="RGB")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("icc", "least"), [(DISPLAY_P3, 8), (PROPHOTO, 20)], ids=["Display P3", "ProPhoto"])
def test_colours_are_converted(icc, least, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    converted = open_image(encoded(PATCH, kind, icc_profile=icc, **options))
    expected = ImageCms.profileToProfile(
        PATCH, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    )
    assert converted.getpixel((5, 5)) == expected.getpixel((5, 5))
    assert distance(converted.getpixel((5, 5)), COLOUR) >= least
    assert "icc_profile" not in converted.info


def test_colours_of_transparent_and_indexed_pictures_are_converted():
    expected = open_image(encoded(PATCH, icc_profile=DISPLAY_P3)).getpixel((5, 5))
    layer = PATCH.convert("RGBA")
    layer.putpixel((0, 0), (0, 0, 0, 0))
    converted = open_image(encoded(layer, icc_profile=DISPLAY_P3))
    assert (converted.getpixel((5, 5)), converted.getpixel((0, 0))) == (expected, (255, 255, 255))
    assert open_image(encoded(PATCH.quantize(2), icc_profile=DISPLAY_P3)).getpixel((5, 5)) == expected


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greys_are_converted(mode):
    image = Image.new("L", (16, 16), 55).convert(mode)  # linear light
    assert open_image(encoded(image, icc_profile=GREY)).getpixel((5, 5)) == pytest.approx((128,) * 3, abs=1)


def four_inks():
    """A profile of CMYK whose colours are the complements of the inks, darkened by black, in Lab."""
    grid = np.indices((2, 2, 2, 2)).reshape(4, -1).T
    rgb = (1 - grid[:, :3]) * (1 - grid[:, 3:]) * 255
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = to_lab.apply(Image.fromarray(rgb.astype(np.uint8)[None]))
    table = np.frombuffer(lab.tobytes(), np.uint8).reshape(-1, 3).copy()
    head = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + b"".join(map(fixed, np.eye(3).ravel()))
    ramp = bytes(range(256))
    content = profile(b"CMYK", [(b"A2B0", head + ramp * 4 + table.tobytes() + ramp * 3), (b"wtpt", WHITE)])
    return content[:12] + b"prtr" + content[16:20] + b"Lab " + content[24:]


def test_four_inks_are_converted():
    icc = four_inks()
    image = Image.new("CMYK", (16, 16), (0, 150, 200, 40))
    expected = by_lcms(image, icc).getpixel((5, 5))
    converted = open_image(encoded(image, "TIFF", icc_profile=icc)).getpixel((5, 5))
    assert converted == expected
    assert distance(converted, image.convert("RGB").getpixel((5, 5))) > 8


@pytest.mark.parametrize("icc", [SRGB, b"no profile", SRGB[:200], GREY, four_inks(), DISPLAY_P3 + bytes(5 << 20)])
def test_profiles_of_srgb_broken_ones_and_those_of_other_pictures_change_nothing(icc):
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    np.testing.assert_array_equal(open_image(encoded(image, "TIFF", icc_profile=icc)), image)


def test_a_profile_is_read_once_for_many_pictures():
    content = encoded(PATCH, icc_profile=DISPLAY_P3)
    open_image(content)
    before = colours._to_srgb.cache_info()
    open_image(content)
    after = colours._to_srgb.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


def strokes(colour, opacity=255):
    """A cross on a transparent ground."""
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    image.paste((*colour, opacity), (20, 45, 80, 55))
    image.paste((*colour, opacity), (45, 20, 55, 80))
    return image


@pytest.mark.parametrize("colour", [(255, 255, 255), (245, 250, 240), (0, 0, 0)])
def test_strokes_on_a_transparent_ground_are_dark_on_light_to_the_encoder(colour):
    arranged = Preprocessing(size=64, crop_to_ink=True).arrange(open_image(encoded(strokes(colour))))
    dark = Preprocessing(size=64, crop_to_ink=True).arrange(open_image(encoded(strokes((0, 0, 0)))))
    assert np.abs(np.asarray(arranged, int) - np.asarray(dark, int)).max() <= 16


def test_faint_white_strokes_stay_visible():
    image = open_image(encoded(strokes((255, 255, 255), 90)))
    assert (image.getpixel((50, 50)), image.getpixel((0, 0))) == ((90,) * 3, (0,) * 3)


def test_strokes_of_indexed_and_grey_pictures_stay_visible():
    for image in (strokes((255, 255, 255)).convert("LA"), strokes((255, 255, 255)).quantize(4)):
        assert (
            distance(open_image(encoded(image)).getpixel((50, 50)), open_image(encoded(image)).getpixel((0, 0))) > 200
        )


def test_photos_with_transparent_parts_stay_on_white():
    cut_out = Image.effect_noise((100, 100), 60).convert("RGBA")
    cut_out.paste((0, 0, 0, 0), (0, 0, 100, 60))
    page = Image.new("RGBA", (100, 100), "white")
    page.putpixel((0, 0), (0, 0, 0, 0))
    shadow = strokes((255, 255, 255))
    shadow.paste((120, 120, 120, 255), (20, 80, 80, 84))
    for image in (cut_out, page, shadow, Image.new("RGBA", (10, 10), (255, 255, 255, 0))):
        assert open_image(encoded(image)).getpixel((0, 0)) == (255, 255, 255)


def test_transparent_black_of_a_png_stays_on_white():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 0, 255))
    flattened = open_image(encoded(image))
    assert flattened.getpixel((0, 0)) == (255, 255, 255)
    assert flattened.getpixel((1, 1)) == (0, 0, 0)


def test_a_damaged_profile_in_a_png_is_ignored():
    plain = encoded(PATCH)
    damaged = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(DISPLAY_P3)[:100])
    np.testing.assert_array_equal(open_image(plain[:33] + damaged + plain[33:]), PATCH)
