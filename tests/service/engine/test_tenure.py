from dataclasses import replace
from pathlib import Path

import pytest

from service.engine.serving import GalleryServing
from service.engine.tenure import Tenure


class Closable:
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


class Searcher:
    def __init__(self, changes=()):
        self.changes = changes

    def with_changes(self, changes):
        return Searcher((*self.changes, *changes))


@pytest.fixture
def serving():
    path, gallery = Path("gallery"), Closable()
    return GalleryServing(path, Closable(), Searcher(), None, None, (path, 1), gallery)


def test_it_closes_with_the_last_request_and_takes_no_more(serving):
    tenure = Tenure(serving)
    assert tenure.acquire() is serving
    assert tenure.acquire() is serving
    tenure.release()
    tenure.retire()
    assert tenure.acquire() is None
    assert serving.gallery.closed == serving.model.closed == 0
    tenure.release()
    assert serving.gallery.closed == serving.model.closed == 1
    tenure.retire()
    assert serving.gallery.closed == serving.model.closed == 1


def test_it_closes_at_once_if_nobody_uses_it(serving):
    tenure = Tenure(serving)
    assert tenure.acquire()
    tenure.release()
    assert serving.gallery.closed == 0
    tenure.retire()
    assert tenure.acquire() is None
    assert serving.gallery.closed == serving.model.closed == 1


def test_a_request_sees_no_change_that_comes_later(serving):
    tenure = Tenure(serving)
    tenure.change(["one"])
    before = tenure.acquire()
    tenure.change(["two", "three"])
    assert before.searcher.changes == ("one",)
    assert tenure.acquire().searcher.changes == tenure.serving.searcher.changes == ("one", "two", "three")


def test_the_gallery_closes_even_if_the_model_cannot(serving):
    class Broken:
        def close(self):
            raise RuntimeError("no")

    broken = replace(serving, model=Broken())
    with pytest.raises(RuntimeError, match="no"):
        Tenure(broken).retire()
    assert serving.gallery.closed == 1
