import shutil
from contextlib import ExitStack, closing

import numpy as np
import pytest

from index.errors import GalleryDamaged, GalleryError, ModelMismatch
from index.gallery.directory import Gallery
from index.gallery.searcher import Searcher
from index.jobs import index_photos
from index.sources import list_photos
from service.encoding.decoding import Decoder
from service.encoding.model import EncodingModel
from service.engine.serving import open_serving
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings
from tests.index.conftest import as_earlier


@pytest.fixture
def opening():
    """Opens what is to be served, and closes it after the test."""
    with ExitStack() as opened:

        def opening(gallery, previous=None):
            settings = ServiceSettings(gallery=gallery, device="cpu", runtime="torch")
            return opened.enter_context(closing(open_serving(settings, Metrics(), Decoder(1, 10**6), previous)))

        yield opening


@pytest.fixture
def closings(monkeypatch):
    """What was closed, in order."""
    closed = []
    for kind in (Gallery, EncodingModel):
        close = kind.close
        monkeypatch.setattr(kind, "close", lambda self, close=close: (closed.append(type(self).__name__), close(self)))
    return closed


def test_photos_and_vectors(opening, gallery_path):
    serving = opening(gallery_path)
    photo = serving.photo(3)
    assert (photo.id, photo.label) == (3, "circle")
    assert serving.vector(photo).shape == (16,)
    for unknown in (999, -1, 2**63, 10**30):
        with pytest.raises(RequestProblem) as caught:
            serving.photo(unknown)
        assert caught.value.status == 404
    with pytest.raises(RequestProblem) as caught:
        serving.vector(photo._replace(sha256="0" * 64))
    assert caught.value.status == 404


def test_a_model_is_carried_over_and_closes_with_its_last_owner(opening, gallery_path, monkeypatch):
    ended = []
    first = opening(gallery_path)
    second, third = opening(gallery_path, first), opening(gallery_path, first)
    assert first.model is second.model is third.model
    assert first.gallery is not second.gallery
    monkeypatch.setattr(first.model, "_batchers", [closing_recorder(ended)])
    second.close()
    first.close()
    assert ended == []
    third.close()
    assert ended == ["closed"]


def closing_recorder(ended):
    class Batcher:
        def close(self):
            ended.append("closed")

    return Batcher()


def test_nothing_stays_open_if_it_cannot_be_served(opening, gallery_path, closings, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Searcher, "search", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        opening(gallery_path)
    assert sorted(closings) == ["EncodingModel", "Gallery", "Gallery"]  # one looked for changes to publish
    closings.clear()
    monkeypatch.setattr(EncodingModel, "warm_up", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        opening(gallery_path)
    assert sorted(closings) == ["EncodingModel", "Gallery", "Gallery"]


def test_what_is_no_gallery(opening, tmp_path):
    with pytest.raises(GalleryError, match="not a gallery"):
        opening(tmp_path / "nothing")


def test_a_gallery_with_the_model_of_another(opening, own_gallery):
    path = own_gallery / "model" / "model.json"
    path.write_text(path.read_text().replace('"flip":false', '"flip":true').replace('"flip": false', '"flip": true'))
    with pytest.raises(ModelMismatch, match="another model"):
        opening(own_gallery)


def test_a_gallery_that_was_put_in_the_place_of_another_is_another(opening, own_gallery):
    before = opening(own_gallery)
    moved = own_gallery.rename(own_gallery.with_name("moved"))
    shutil.copytree(moved, own_gallery)
    assert opening(own_gallery, before).identity != before.identity
    assert opening(moved).identity != before.identity


def test_a_gallery_of_an_earlier_version_is_refused_with_what_to_do(opening, own_gallery):
    as_earlier(own_gallery / "catalogue.sqlite")
    with pytest.raises(GalleryDamaged, match=r"of an earlier version; run `svdraw index verify --repair` on it once"):
        opening(own_gallery)
    Gallery.open(own_gallery, write=True).close()
    assert opening(own_gallery).searcher.count == 24


def test_photos_are_embedded_like_those_of_the_gallery(opening, int8_bundle, shapes, tmp_path):
    """Whatever sketches are embedded in; and another gallery of the same model may be in another precision."""
    files = sorted((shapes / "photo" / "circle").iterdir())
    for precision in ("int8", "fp32"):
        with closing(Gallery.create(tmp_path / precision, int8_bundle)) as gallery:
            index_photos(gallery, list_photos(shapes / "photo"), "cpu", precision=precision)
    whole = opening(tmp_path / "int8")
    single = opening(tmp_path / "fp32", whole)
    assert opening(tmp_path / "int8", whole).model is whole.model
    assert single.model is not whole.model
    for serving in (whole, single):
        photos = serving.gallery.catalogue.photos(list(serving.gallery.catalogue.uris().values()))
        [known] = [photo for photo in photos.values() if photo.uri == str(files[0])]
        embedded = serving.model.embed(files[0].read_bytes(), "photo", Stopwatch())
        np.testing.assert_allclose(embedded, serving.vector(known), atol=1e-5)
