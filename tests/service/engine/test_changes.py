from contextlib import closing

import numpy as np
import pytest

from index.gallery.directory import Gallery
from index.gallery.photos import NewPhoto
from service.engine.changes import changes_after

DIM = 16


@pytest.fixture
def catalogue(own_gallery):
    with closing(Gallery.open(own_gallery, write=True)) as gallery:
        yield gallery.catalogue


def new(name):
    return NewPhoto(name, f"{hash(name) & 0xFFFF:064x}", 1, 1, 1, 1, None, {}, np.full(DIM, 0.5, np.float32))


def test_what_other_processes_change_is_read_once(catalogue):
    before = catalogue.revision
    assert changes_after(catalogue, before, DIM, 10) == ([], before)
    catalogue.add([new("a"), new("b")])
    catalogue.remove([3])
    catalogue.describe({4: ("label", {})})  # searches read it from the catalogue
    changes, now = changes_after(catalogue, before, DIM, 10)
    assert now == catalogue.revision
    assert {change.revision for change in changes} == {now}
    assert {change.id: change.vector is None for change in changes} == {3: True, 25: False, 26: False}
    assert all((change.vector == 0.5).all() for change in changes if change.vector is not None)
    assert changes_after(catalogue, now, DIM, 10) == ([], now)


def test_more_than_searches_take_wait_for_a_generation(catalogue):
    before = catalogue.revision
    catalogue.add([new("a"), new("b")])
    catalogue.remove([3])
    assert changes_after(catalogue, before, DIM, 2) is None
    assert len(changes_after(catalogue, before, DIM, 3)[0]) == 3
    catalogue.forget_removed(catalogue.revision)  # they can no longer be told
    assert changes_after(catalogue, before, DIM, 10) is None
