import json
from contextlib import closing

import pytest

from index.errors import GalleryDamaged, GalleryError
from index.gallery.directory import Gallery
from index.gallery.searcher import Searcher
from index.gallery.snapshots import restore, snapshot
from tests.index.conftest import decaying


@pytest.fixture
def taken(fill, tmp_path):
    path = fill(decaying(200, 16), kind="codes", target=0.9)
    with closing(Gallery.open(path)) as gallery:
        assert snapshot(gallery, tmp_path / "snapshot").count == 200
    return path, tmp_path / "snapshot"


def test_a_restored_gallery_answers_like_the_first(taken, fill, tmp_path):
    path, copy = taken
    expected = Searcher.open(path, "cpu").search(decaying(3, 16, 1), 10, recall=1)
    fill(decaying(10, 16, 5), start=200)  # after the snapshot
    manifest = restore(copy, tmp_path / "restored")
    assert (manifest.count, manifest.kind, manifest.target) == (200, "codes", 0.9)
    with closing(Gallery.open(tmp_path / "restored")) as gallery:
        assert gallery.problems() == []
    assert Searcher.open(tmp_path / "restored", "cpu").search(decaying(3, 16, 1), 10, recall=1) == expected


@pytest.mark.parametrize("damage", ["unfinished", "flipped", "cut", "missing"])
def test_a_damaged_snapshot_is_refused(taken, tmp_path, damage):
    _, copy = taken
    file = copy / "catalogue.sqlite"
    content = file.read_bytes()
    if damage == "unfinished":
        (copy / "snapshot.json").unlink()
    elif damage == "flipped":
        file.write_bytes(content[:5000] + b"\xff\xee" + content[5002:])
    elif damage == "cut":
        file.write_bytes(content[:-4096])
    else:
        file.unlink()
    with pytest.raises(GalleryDamaged, match="take another snapshot"):
        restore(copy, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_nothing_is_overwritten(taken, tmp_path):
    path, copy = taken
    with closing(Gallery.open(path)) as gallery, pytest.raises(GalleryError, match="not empty"):
        snapshot(gallery, copy)
    with pytest.raises(GalleryError, match="not empty"):
        restore(copy, path)
    assert json.loads((copy / "snapshot.json").read_text())["count"] == 200
