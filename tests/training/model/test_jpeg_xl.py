"""The header of JPEG XL says what its decoder says."""

import io

import numpy as np
import pillow_jxl
import pytest
from PIL import Image

from training.model.jpeg_xl import read_header


def encoded(size, **options):
    buffer = io.BytesIO()
    Image.new("L", size, 128).save(buffer, "JXL", effort=1, **options)
    return buffer.getvalue()


SIDES = [1, 7, 8, 256, 264, 500, 512, 513, 1000, 8191, 8192, 8193, 9000]


@pytest.mark.parametrize("use_container", [False, True])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("ratio", [(1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1), (1, 2), (7, 1)])
def test_sizes(side, ratio, use_container):
    size = (max(1, side * ratio[0] // ratio[1]), side)
    if size[0] * size[1] > 4_000_000:
        size = (size[0], 3)
    content = encoded(size, use_container=use_container)
    assert read_header(content) == (*size, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("use_container", [False, True])
def test_orientations(orientation, use_container, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 24)).save(tmp_path / "a.jpg", exif=exif)
    buffer = io.BytesIO()
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(buffer, "JXL", lossless_jpeg=True)
    content = buffer.getvalue()
    width, height, found = read_header(content)
    assert (width, height, found) == (40, 24, orientation)
    _, facts, *_ = pillow_jxl.Decoder(num_threads=0)(content)
    assert (facts.width, facts.height) == ((24, 40) if orientation > 4 else (40, 24))


@pytest.mark.parametrize("use_container", [False, True])
def test_what_is_cut_off_is_said(use_container):
    content = encoded((500, 300), use_container=use_container)
    start = content.index(b"\xff\x0a")
    for end in range(start + 5):
        with pytest.raises(ValueError, match="JPEG XL"):
            read_header(content[:end])


def test_boxes_that_lead_nowhere_end():
    container = b"\0\0\0\x0cJXL \r\n\x87\n"
    random = np.random.default_rng(0)
    for size in (b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\4", b"\xff\xff\xff\xff"):
        for kind in (b"jxlc", b"jxlp", b"free"):
            with pytest.raises(ValueError, match="JPEG XL"):
                read_header(container + size + kind + random.bytes(8))
