"""Formats of the extra ``formats``: one size, one turn and one look, whatever a picture is stored as."""

import io
import struct
import subprocess
import sys

import numpy as np
import pi_heif
import pillow_heif
import pytest
from PIL import Image, ImageOps
from pillow_jxl import JpegXLImagePlugin

from tests.training.model.test_colours import DISPLAY_P3
from training.base.errors import ImageError, ImageTooLarge
from training.model.formats import FORMAT_SUFFIXES
from training.model.images import describe_image, open_image, read_image

ORIENTATION = 0x0112
TURNS = [1, 2, 3, 4, 5, 6, 7, 8]
assert JpegXLImagePlugin.JXLImageFile.format == "JXL"  # imported for what it registers, so that the tests can write


def corners(size=(40, 30)):
    """Four fields of different brightness, so that every turn shows."""
    image = Image.new("RGB", size, (230, 230, 230))
    half = (size[0] // 2, size[1] // 2)
    image.paste((20, 20, 20), (0, 0, *half))
    image.paste((90, 90, 90), (half[0], 0, size[0], half[1]))
    image.paste((160, 160, 160), (0, half[1], half[0], size[1]))
    return image


def exif_of(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def heif(image, **options):
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1, chroma=444, **options)
    return buffer.getvalue()


def jxl(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JXL", **{"lossless": True} | options)
    return buffer.getvalue()


def jxl_of_jpeg(image, folder, orientation=1):
    """A JPEG compressed once more, which its decoder gives back as it was."""
    image.save(folder / "photo.jpg", quality=95, subsampling=0, exif=exif_of(orientation))
    with Image.open(folder / "photo.jpg") as jpeg:
        return jxl(jpeg, lossless=False, lossless_jpeg=True)


def tiff(directories):
    """A TIFF file; ``directories`` are lists of tags, types and values, the second referred to by the first's 330.

    A value that is ``bytes`` of type 4 stands for the place of these bytes; the next tag has their number.
    """
    content, starts = bytearray(b"II*\0\0\0\0\0"), []
    for entries in reversed(directories):
        packed = []
        for tag, kind, value in sorted(entries, key=lambda entry: entry[0]):
            if kind == 4 and isinstance(value, bytes):
                start = len(content)
                content += value + bytes(len(value) % 2)
                value = [start]
            if tag == 330:
                value = [starts[-1]]
            code = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 10: "i"}[kind]
            data = struct.pack(f"<{len(value)}{code}", *value)
            count = len(data) // {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}[kind]
            if len(data) > 4:
                start = len(content)
                content += data + bytes(len(data) % 2)
                data = struct.pack("<I", start)
            packed.append(struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0"))
        starts.append(len(content))
        content += struct.pack("<H", len(packed)) + b"".join(packed) + bytes(4)
    content[4:8] = struct.pack("<I", starts[-1])
    return bytes(content)


def dng(image, orientation=1, preview=None):
    """A raw file of a camera: the image as a sensor behind a colour filter sees it, and perhaps a preview in JPEG."""
    width, height = image.size
    pixels = (np.asarray(image.convert("L"), np.uint16) * 200).astype("<u2").tobytes()
    sensor = [
        (254, 4, [0]), (256, 4, [width]), (257, 4, [height]), (258, 3, [16]), (259, 3, [1]), (262, 3, [32803]),
        (273, 4, pixels), (277, 3, [1]), (278, 4, [height]), (279, 4, [len(pixels)]),
        (33421, 3, [2, 2]), (33422, 1, bytes([0, 1, 1, 2])), (50714, 4, [0]), (50717, 4, [255 * 200]),
    ]  # fmt: skip
    camera = [
        (271, 2, b"Maker\0"), (272, 2, b"Model\0"), (274, 3, [orientation]), (50706, 1, bytes([1, 4, 0, 0])),
        (50708, 2, b"Maker Model\0"), (50721, 10, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        (50728, 5, [1, 1, 1, 1, 1, 1]), (50778, 3, [21]),
    ]  # fmt: skip
    if preview is None:
        return tiff([sensor + camera])
    stored = [
        (254, 4, [1]), (256, 4, [preview[1][0]]), (257, 4, [preview[1][1]]), (258, 3, [8, 8, 8]), (259, 3, [7]),
        (262, 3, [6]), (273, 4, preview[0]), (277, 3, [3]), (278, 4, [preview[1][1]]), (279, 4, [len(preview[0])]),
        (330, 4, [0]),
    ]  # fmt: skip
    return tiff([stored + camera, sensor])


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def turned(image, orientation):
    """What a viewer shows of an image with an EXIF orientation."""
    with Image.open(io.BytesIO(jpeg(image, exif=exif_of(orientation)))) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


def fields(image):
    """Brightness of the four fields."""
    return np.asarray(image.convert("L").resize((2, 2), Image.Resampling.BOX), np.int16).ravel()


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["HEIF", "JXL of a JPEG", "RAW", "RAW with a preview", "RAW with an upright preview"])
def test_a_turn_is_applied_once(kind, orientation, tmp_path):
    image, expected = corners((1200, 900)), turned(corners((1200, 900)), orientation)
    content = {
        "HEIF": lambda: heif(image, exif=exif_of(orientation)),  # the encoder writes the turn, and EXIF without it
        "JXL of a JPEG": lambda: jxl_of_jpeg(image, tmp_path, orientation),
        "RAW": lambda: dng(image, orientation),
        "RAW with a preview": lambda: dng(image, orientation, (jpeg(image), image.size)),
        "RAW with an upright preview": lambda: dng(image, orientation, (jpeg(expected), expected.size)),
    }[kind]()
    facts, decoded = read_image(content)
    assert facts == describe_image(content)
    assert (facts.format, facts.width, facts.height) == (kind.split()[0], *expected.size)
    assert decoded.size == ((expected.width // 2, expected.height // 2) if kind == "RAW" else expected.size)
    if not (kind == "RAW with an upright preview" and orientation < 5):  # nothing tells these from the others
        assert fields(decoded).argsort().tolist() == fields(expected).argsort().tolist()
        assert kind == "RAW" or np.abs(fields(decoded) - fields(expected)).max() <= 3


@pytest.mark.parametrize("kind", ["HEIF", "JXL"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_data_that_contradict_the_header_are_ignored(kind, orientation):
    """As both formats demand: the turn stands in the header, EXIF is a leftover."""
    content = jxl(corners(), exif=exif_of(orientation)) if kind == "JXL" else heif(corners(), exif=exif_of(1))
    content = content.replace(exif_of(1)[6:], exif_of(orientation)[6:])
    assert exif_of(orientation)[6:] in content
    facts, image = read_image(content)
    assert (facts.width, facts.height) == image.size == (40, 30)
    assert np.abs(fields(image) - fields(corners())).max() <= 3


@pytest.mark.parametrize("write", [heif, jxl])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_modes(write, mode):
    image = open_image(write(corners().convert(mode)))
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert np.abs(fields(image) - fields(corners())).max() <= 3


@pytest.mark.parametrize("write", [heif, jxl])
def test_transparency_is_white(write):
    image = open_image(write(Image.new("RGBA", (40, 30), (200, 0, 0, 0))))
    assert image.getextrema() == ((255, 255),) * 3


def test_colours_are_converted_by_their_profile():
    red = Image.new("RGB", (40, 30), (200, 30, 10))
    expected = np.asarray(open_image(png(red, icc_profile=DISPLAY_P3)), int)
    image = np.asarray(open_image(heif(red, icc_profile=DISPLAY_P3)), int)
    assert np.abs(image - expected).max() <= 2
    assert np.abs(image - np.asarray(red, int)).max() > 10
    assert np.abs(np.asarray(open_image(jxl(red)), int) - np.asarray(red, int)).max() <= 1


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_ten_bits_of_heif_become_eight():
    values = np.repeat(np.linspace(0, 65535, 64, dtype=np.uint16)[None, :, None], 32, axis=0).repeat(3, axis=2)
    buffer = io.BytesIO()
    pillow_heif.encode("RGB;16", (64, 32), values.tobytes(), buffer, quality=-1, chroma=444)
    image = np.asarray(open_image(buffer.getvalue()), int)
    assert np.abs(image[0, :, 0] - values[0, :, 0] / 257).max() <= 2


def test_sixteen_bits_of_jpeg_xl_become_eight():
    values = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(8, axis=0)
    image = np.asarray(open_image(jxl(Image.fromarray(values))), int)  # its encoder calls them linear
    linear = values[0] / 65535
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(image[0, :, 0] - expected).max() <= 10


def test_the_first_picture_is_the_one():
    buffer = io.BytesIO()
    several = pillow_heif.from_pillow(corners())
    several.add_from_pillow(Image.new("RGB", (80, 80)))
    several.save(buffer, quality=-1)
    assert read_image(buffer.getvalue())[0][1:] == (40, 30)


def contents(size, folder):
    """A file of each kind, and how many of its pixels are held when it is decoded."""
    pixels = size[0] * size[1]
    return {
        "HEIF": (heif(corners(size)), pixels),
        "JXL": (jxl(corners(size)), pixels),
        "JXL of a JPEG": (jxl_of_jpeg(corners(size), folder), pixels),
        "RAW": (dng(corners(size)), pixels // 4),
    }


def test_the_limit_is_checked_before_anything_is_decoded(tmp_path, monkeypatch):
    for kind, (content, held) in contents((200, 160), tmp_path).items():
        assert read_image(content, max_pixels=held)[0][1:] == (200, 160), kind
        with monkeypatch.context() as patch:
            patch.setattr(pi_heif.HeifImageFile, "load", fail)
            patch.setattr("pillow_jxl.Decoder", fail)
            for read in (read_image, describe_image):
                with pytest.raises(ImageTooLarge, match="200 x 160 px is more than"):
                    read(content, max_pixels=held - 1)


def fail(*_, **__):
    raise AssertionError("this decodes")


def test_a_huge_preview_counts_too():
    content = dng(corners((64, 48)), 1, (jpeg(Image.new("RGB", (1200, 1000)), progressive=True), (1200, 1000)))
    with pytest.raises(ImageTooLarge, match="1200 x 1000"):
        read_image(content, max_pixels=1_000_000)


def test_a_preview_too_small_to_see_anything_is_not_used():
    content = dng(corners((1200, 900)), 1, (jpeg(Image.new("RGB", (160, 120))), (160, 120)))
    assert read_image(content)[1].size == (600, 450)


def test_damaged_files_are_refused_with_the_reason(tmp_path):
    for kind, (content, _) in contents((200, 160), tmp_path).items():
        for damaged in (content[: len(content) * part // 100] for part in (90, 50, 20, 10)):
            with pytest.raises(ImageError) as caught:
                read_image(damaged)
            assert "\n" not in caught.value.reason, kind
            assert len(caught.value.reason) < 300


@pytest.mark.parametrize("seed", range(8))
def test_noise_in_a_file_raises_nothing_else(seed, tmp_path):
    random = np.random.default_rng(seed)
    for content, _ in contents((64, 48), tmp_path).values():
        noisy = bytearray(content)
        for place in random.integers(16, len(noisy), 12):
            noisy[place] = random.integers(256)
        for read in (read_image, describe_image):
            try:
                read(bytes(noisy))
            except ImageError:
                continue


def test_an_ordinary_tiff_by_a_camera_is_read_by_pillow():
    buffer = io.BytesIO()
    tags = {271: "Maker", 254: 1}
    corners().save(buffer, "TIFF", tiffinfo=tags)
    assert read_image(buffer.getvalue())[0] == ("TIFF", 40, 30)


@pytest.mark.parametrize(
    ("package", "kind", "named"),
    [
        ("pi_heif", "HEIF", "a HEIF picture"),
        ("pillow_jxl", "JXL", "a JPEG XL picture"),
        ("rawpy", "RAW", "a raw file of a camera"),
    ],
)
def test_without_its_package_a_file_is_refused_and_the_extra_is_named(package, kind, named, tmp_path, monkeypatch):
    content = contents((40, 30), tmp_path)[kind][0]
    monkeypatch.setitem(sys.modules, package, None)
    for read in (read_image, describe_image):
        with pytest.raises(ImageError, match=rf'{named}, which pip install "svdraw\[formats\]" makes readable'):
            read(content)


def test_without_the_extra_its_files_are_no_photos():
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['pi_heif', 'pillow_jxl', 'rawpy', 'resvg_py'])\n"
        "from training.model.images import IMAGE_SUFFIXES, open_image\n"
        "from training.model.formats import FORMAT_SUFFIXES\n"
        "assert not IMAGE_SUFFIXES & set(FORMAT_SUFFIXES) and not any(FORMAT_SUFFIXES.values())\n"
        "assert '.avif' in IMAGE_SUFFIXES\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(FORMAT_SUFFIXES.values())
