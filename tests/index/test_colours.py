import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from index.__main__ import INDEX
from index.errors import GalleryDamaged
from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery
from tests.conftest import COLOURS, draw_shape
from training.base.command_line import run_command


@pytest.fixture
def photos(shapes, tmp_path):
    """Six squares, each of another colour on white."""
    return Path(shutil.copytree(shapes / "photo" / "square", tmp_path / "photos"))


def run(*arguments):
    return run_command(INDEX, [str(argument) for argument in arguments])


def found(gallery, wanted):
    with closing(Gallery.open(gallery)) as opened:
        return opened.catalogue.select({"color": wanted}).tolist()


def as_before_colours(file):
    """Makes a catalogue one of the version before colours were measured."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(
            "ALTER TABLE photos DROP COLUMN colors; DELETE FROM postings WHERE field = 'color'; PRAGMA user_version = 1"
        )


def test_jobs_measure_colours_that_searches_filter_by(build, photos):
    gallery, _ = build(photos)
    with closing(Gallery.open(gallery)) as opened:
        listed = opened.catalogue.page(0, 10)
        assert set(opened.catalogue.colors.names()) == {"white", *COLOURS}
        assert opened.problems() == []
        assert opened.catalogue.colors.count_missing() == 0
    assert [photo.colors[0] for photo in listed] == list(COLOURS)  # some have white as well
    for number, colour in enumerate(COLOURS, start=1):
        assert found(gallery, colour) == [number]
    assert found(gallery, ["red", "#0000ff"]) == [1, 3]
    assert found(gallery, {"ne": "red"}) == [2, 3, 4, 5, 6]
    assert found(gallery, None) == []


def test_colours_follow_what_a_file_shows(build, photos):
    build(photos)
    draw_shape("square", 4, filled=True).save(photos / "square-0.png")  # was red, is purple
    gallery, report = build(photos)
    assert report.copied == 1
    assert (found(gallery, "red"), found(gallery, "purple")) == ([], [1, 5])
    with closing(Gallery.open(gallery, write=True)) as opened:
        opened.catalogue.remove([5])
        opened.catalogue.describe({1: ("other", {"color": "green"})})
    assert found(gallery, "purple") == [1]
    assert found(gallery, "green") == [2]


def test_photos_of_an_earlier_version_get_colours_without_being_embedded(build, photos, capsys):
    gallery, _ = build(photos)
    file = gallery / "catalogue.sqlite"
    as_before_colours(file)
    with pytest.raises(GalleryDamaged, match="earlier version; run `svdraw index verify --repair`"):
        Catalogue(file)
    assert run("verify", "--gallery", gallery, "--repair") == 0
    assert found(gallery, None) == [1, 2, 3, 4, 5, 6]
    (photos / "square-1.png").unlink()
    draw_shape("circle", 2, filled=True).save(photos / "square-2.png")
    (photos / "square-3.png").write_bytes(b"no picture")
    capsys.readouterr()
    assert run("info", "--gallery", gallery, "--json") == 0
    assert json.loads(capsys.readouterr().out)["without_colors"] == 6
    assert run("colors", "--gallery", gallery) == 0
    assert "colours of 3 photos measured, 3 photos cannot be used" in capsys.readouterr().out
    rejects = [json.loads(line) for line in (gallery / "rejects.jsonl").read_text().splitlines()]
    assert [Path(row["file"]).name for row in rejects] == ["square-1.png", "square-2.png", "square-3.png"]
    assert "has changed since" in rejects[1]["reason"]
    assert [found(gallery, colour) for colour in COLOURS] == [[1], [], [], [], [5], [6]]
    assert found(gallery, None) == [2, 3, 4]
    with closing(Gallery.open(gallery)) as opened:
        assert opened.problems() == []
    assert run("colors", "--gallery", gallery) == 0
    assert "colours of 0 photos measured, 3" in capsys.readouterr().out


def test_a_copy_of_an_earlier_photo_has_colours(build, photos):
    gallery, _ = build(photos)
    as_before_colours(gallery / "catalogue.sqlite")
    shutil.copy(photos / "square-2.png", photos / "z.png")
    _, report = build(photos)
    assert (report.encoded, report.copied, report.unchanged) == (0, 1, 6)
    assert found(gallery, COLOURS[2]) == [7]
    assert found(gallery, None) == [1, 2, 3, 4, 5, 6]


def test_metadata_called_color_stay_filterable_in_an_upgraded_gallery(build, photos, tmp_path):
    table = tmp_path / "photos.jsonl"
    files = sorted(photos.iterdir())
    table.write_text("".join(json.dumps({"uri": str(file), "color": "mauve"}) + "\n" for file in files))
    gallery, _ = build(table)
    file = gallery / "catalogue.sqlite"
    with closing(Gallery.open(gallery, write=True)) as opened:
        opened.make_filterable(["metadata.color", "label"])
    as_before_colours(file)
    with closing(sqlite3.connect(file)) as connection, connection:  # as the earlier version called it
        connection.execute("UPDATE postings SET field = 'color' WHERE field = 'metadata.color'")
        connection.execute("""UPDATE facts SET value = '["color", "label"]' WHERE name = 'filterable'""")
    with closing(Gallery.open(gallery, write=True)) as opened:
        assert json.loads(opened.catalogue.fact("filterable")) == ["metadata.color", "label"]
        assert opened.catalogue.select({"metadata.color": "mauve"}).tolist() == [1, 2, 3, 4, 5, 6]
        assert opened.catalogue.select({"color": "red"}).tolist() == []
