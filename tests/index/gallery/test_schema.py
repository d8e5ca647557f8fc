import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from index.__main__ import INDEX
from index.errors import GalleryDamaged
from index.gallery.bases import file_facts
from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery
from index.gallery.photos import content_key
from index.gallery.searcher import Searcher
from index.gallery.snapshots import restore, snapshot
from tests.index.conftest import as_earlier, decaying
from training.base.command_line import run_command

DIM = 16


@pytest.fixture
def filled(fill):
    """A published gallery of 2500 photos, of which three were removed."""
    path = fill(decaying(2500, DIM))
    with closing(Gallery.open(path, write=True)) as gallery, gallery.writing():
        gallery.catalogue.remove([7, 1500, 2500])
        gallery.publish_changes()
    return path


def content(path):
    with closing(Catalogue(path)) as catalogue:
        blocks = list(catalogue.blocks(DIM))
        photos = catalogue.page(0, 10_000)
        facts = {name: catalogue.fact(name) for name in ("revision", "model", "dim", "uris")}
    return photos, facts, *(np.concatenate([block[part] for block in blocks]).tolist() for part in range(3))


@pytest.mark.parametrize("version", ["0.1", "before tombstones"])
def test_catalogues_of_earlier_versions_are_upgraded(filled, version):
    file = filled / "catalogue.sqlite"
    expected = content(file)
    as_earlier(file, has_revisions=version != "0.1")
    with pytest.raises(GalleryDamaged, match=r"earlier version; run `svdraw index verify --repair` on it once"):
        Catalogue(file)
    with pytest.raises(GalleryDamaged, match="verify --repair"):
        Gallery.open(filled)
    with closing(Catalogue(file, create=True)) as catalogue:
        revision = catalogue.revision
        assert catalogue.removed_since == revision
        assert catalogue.removed_after(revision).tolist() == []
        assert catalogue.problems() == []
        assert catalogue.changed_after(0).tolist() == ([] if version == "0.1" else expected[2])
        catalogue.remove([3])
        assert catalogue.removed_after(revision).tolist() == [3]
    with closing(Catalogue(file, create=True)) as catalogue:  # nothing is done twice
        assert catalogue.removed_since == revision
        known = catalogue.same_content(expected[0][0].sha256)
        assert known is not None
        assert known.vector.tolist() == expected[4][0]
    photos, facts, ids, contents, vectors = content(file)
    removed = expected[2].index(3)
    for found, before in ((photos, expected[0]), (ids, expected[2]), (contents, expected[3]), (vectors, expected[4])):
        assert found == before[:removed] + before[removed + 1 :]
    assert facts == expected[1] | {"revision": str(revision + 1)}
    assert contents == [content_key(photo.sha256) for photo in photos]


def test_no_id_is_given_twice_after_an_upgrade(filled, fill):
    as_earlier(filled / "catalogue.sqlite")
    fill(decaying(1, DIM, 3), start=2500)
    with closing(Gallery.open(filled)) as gallery:
        assert gallery.catalogue.uris()["/photos/2500.png"] == 2501
        assert gallery.problems() == []


def test_the_command_that_repairs_upgrades(filled, capsys):
    as_earlier(filled / "catalogue.sqlite")
    assert run_command(INDEX, ["verify", "--gallery", str(filled), "--repair"]) == 0
    assert "is whole: 2497 photos" in capsys.readouterr().out
    assert Searcher.open(filled, "cpu").count == 2497


def test_a_snapshot_of_an_earlier_version_is_restored(filled, tmp_path):
    with closing(Gallery.open(filled)) as gallery:
        manifest = snapshot(gallery, tmp_path / "snapshot")
    file = tmp_path / "snapshot" / "catalogue.sqlite"
    as_earlier(file)
    manifest = manifest.model_copy(update={"catalogue": file_facts(file)})
    (tmp_path / "snapshot" / "snapshot.json").write_text(manifest.model_dump_json())
    expected = content(filled / "catalogue.sqlite")
    assert restore(tmp_path / "snapshot", tmp_path / "restored").count == 2497
    assert content(tmp_path / "restored" / "catalogue.sqlite") == expected


def test_a_catalogue_of_a_later_version_is_left_alone(filled):
    file = filled / "catalogue.sqlite"
    with closing(sqlite3.connect(file)) as later:
        later.execute("PRAGMA user_version = 99")
    for create in (False, True):
        with pytest.raises(GalleryDamaged, match="later version"):
            Catalogue(file, create=create)


def test_an_upgrade_that_meets_damage_loses_nothing(filled, tmp_path):
    file = filled / "catalogue.sqlite"
    as_earlier(file)
    before = shutil.copy(file, tmp_path / "before.sqlite")
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("UPDATE photos SET vector = x'00' WHERE id = 2000")
    with pytest.raises(GalleryDamaged, match="vectors of different sizes"):
        Catalogue(file, create=True)
    with pytest.raises(GalleryDamaged, match="verify --repair"):
        Catalogue(file)
    with closing(sqlite3.connect(before)) as earlier:
        [[vector]] = earlier.execute("SELECT vector FROM photos WHERE id = 2000")
    with closing(sqlite3.connect(file)) as other, other:  # whoever can mend it goes on
        other.execute("UPDATE photos_before SET vector = ? WHERE id = 2000", (vector,))
    with closing(Catalogue(file, create=True)) as catalogue:
        assert catalogue.count() == 2497


def test_programs_of_an_earlier_version_cannot_write_any_more(filled):
    file = filled / "catalogue.sqlite"
    as_earlier(file)
    with closing(sqlite3.connect(file)) as earlier:
        Catalogue(file, create=True).close()
        with pytest.raises(sqlite3.OperationalError, match="no column named vector"):
            earlier.execute("INSERT INTO photos (uri, vector) VALUES ('x', x'00')")
