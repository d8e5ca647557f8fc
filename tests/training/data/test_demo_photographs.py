import csv
import re
from importlib.resources import files

import pytest
from PIL import Image

from index.sources import list_photos
from training.data.demo_photographs import photographs, write_gallery

FOLDER = files("training.data") / "photographs"


def test_every_photograph_is_credited_and_nothing_else_is_there():
    named = [photo.file for photo in photographs()]
    assert sorted([*named, "credits.csv"]) == sorted(file.name for file in FOLDER.iterdir())
    assert len(set(named)) == len(named) > 200
    for photo in photographs():
        assert photo.label
        assert photo.author
        assert re.match(r"https?://(www\.)?flickr\.com/", photo.source)


def test_they_are_small():
    sizes = [len((FOLDER / photo.file).read_bytes()) for photo in photographs()]
    assert sum(sizes) < 4 << 20
    with (FOLDER / photographs()[0].file).open("rb") as stream, Image.open(stream) as image:
        assert image.size == (192, 192)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    write_gallery(out, ["owl-1f989", "fox-1f98a"])
    return out


def test_the_table_lists_pictures_and_photographs_with_their_credits(demo):
    with (demo / "gallery.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["uri"] for row in rows[:2]] == ["photo/owl-1f989/0.png", "photo/fox-1f98a/0.png"]
    assert all(row["author"] == "OpenMoji" and "CC BY-SA 4.0" in row["licence"] for row in rows[:2])
    assert len(rows) == 2 + len(photographs())
    for row, photo in zip(rows[2:], photographs(), strict=True):
        assert (demo / row["uri"]).read_bytes() == (FOLDER / photo.file).read_bytes()
        assert (row["label"], row["author"], row["source"]) == (photo.label, photo.author, photo.source)
        assert "CC BY 2.0" in row["licence"]
        assert row["changes"] == "cropped and resized"


def test_jobs_read_the_table(demo):
    listed = list(list_photos(demo / "gallery.csv"))
    castles = [photo for photo in listed if photo.label == "castle"]
    assert len(castles) == sum(photo.label == "castle" for photo in photographs()) > 1
    assert castles[0].metadata.keys() == {"author", "source", "licence", "changes"}
