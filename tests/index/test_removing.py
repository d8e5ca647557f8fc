"""Photos named on the command line."""

from contextlib import closing

import pytest

from index.__main__ import INDEX
from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import Candidate, list_photos
from tests.conftest import draw_shape
from training.base.command_line import run_command

NAMES = ("a.png", "a,b.png", "b.png", 'say "c".png', "d e.png", "[1].png", "it's.png", "left.png")


@pytest.fixture
def gallery(tiny_bundle, tmp_path):
    """A gallery of photos in its own folder, and of one elsewhere."""
    path = tmp_path / "gallery"
    with closing(Gallery.create(path, tiny_bundle)) as gallery:
        for folder in (path / "mine", tmp_path / "other"):
            folder.mkdir()
            for number, name in enumerate(NAMES):
                draw_shape("circle", number, filled=True).save(folder / name)
        photos = [*list_photos(path / "mine"), Candidate(str(tmp_path / "other" / "a,b.png"), None, {})]
        assert index_photos(gallery, photos, "cpu").rejected == 0
    return path


@pytest.fixture
def remove(gallery, capsys):
    """Runs the command; returns the names that are gone, or the error."""

    def left():
        with closing(Gallery.open(gallery)) as opened:
            return set(opened.catalogue.uris())

    def remove(*uris):
        before = left()
        status = run_command(INDEX, ["remove", f"--gallery={gallery}", *(f"--uris={uri}" for uri in uris)])
        error = capsys.readouterr().err
        return sorted(before - left()) if status == 0 else error

    return remove


@pytest.mark.parametrize("spelling", ["as listed", "absolute", "relative", "URI", "through a link"])
@pytest.mark.parametrize("name", NAMES[:-1])
def test_one_photo_is_named_in_any_way(gallery, remove, monkeypatch, spelling, name):
    (gallery.parent / "link").symlink_to(gallery)
    monkeypatch.chdir(gallery.parent)
    path = gallery / "mine" / name
    uri = {
        "as listed": f"mine/{name}",
        "absolute": path,
        "relative": path.relative_to(gallery.parent),
        "URI": path.as_uri(),
        "through a link": gallery.parent / "link" / "mine" / name,
    }[spelling]
    assert remove(uri) == [f"mine/{name}"]


def test_several_photos(gallery, remove):
    elsewhere = str(gallery.parent / "other" / "a,b.png")
    assert remove("mine/a.png, mine/b.png", elsewhere, "mine/a,b.png") == sorted(
        [elsewhere, "mine/a,b.png", "mine/a.png", "mine/b.png"]
    )


@pytest.mark.parametrize("uris", [["mine/a.png", "mine/none.png"], ["mine/a.png,mine/none.png"]])
def test_nothing_is_removed_if_a_name_is_unknown(gallery, remove, uris):
    assert "has no photo 'mine/none.png'; nothing was removed" in remove(*uris)
    assert remove("mine/a.png") == ["mine/a.png"]
