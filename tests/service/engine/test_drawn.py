from contextlib import closing, contextmanager

import numpy as np
import pytest
from fastapi.testclient import TestClient

from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.gallery.query_moments import known_queries
from index.jobs import compact
from service.app import create_app
from service.engine.lifecycle import Engine
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from tests.service.conftest import wait_until
from training.model.bundle import load_bundle
from training.model.images import open_image

PNG = {"Content-Type": "image/png"}


@contextmanager
def service(gallery, **options):
    settings = ServiceSettings(gallery=gallery, device="cpu", runtime="torch", reload_seconds=0, **options)
    with TestClient(create_app(settings, Engine(settings, Metrics()))) as client:
        yield client


def known(path):
    return known_queries(path, read_generation(path).model, read_generation(path).dim)


def search(client, sketch, **options):
    response = client.post("/v1/search", content=sketch, headers=PNG, params=options)
    assert response.status_code == 200, response.text


def test_sums_of_sketches_are_stored_when_the_service_stops_and_nothing_else(own_gallery, sketch):
    [embedding] = load_bundle(own_gallery / "model", "cpu").encode_sketches([open_image(sketch)])
    with service(own_gallery) as client:
        for _ in range(3):
            search(client, sketch)
        search(client, sketch, offset=3)  # the same sketch again
        search(client, sketch, with_contributions=True)
        search(client, sketch, learn=False)  # still being drawn
        search(client, sketch, positive="1")
        search(client, sketch, negative="1,2")
        assert client.post("/v1/search", json={"photo_id": 1}).status_code == 200  # not drawn
        assert client.post("/v1/search", files={"photo": sketch}).status_code == 200
    found = known(own_gallery)
    assert found.count == 3
    np.testing.assert_allclose(found.products, 3 * np.outer(embedding, embedding), rtol=1e-3, atol=1e-6)
    with service(own_gallery) as client:
        search(client, sketch)
    assert known(own_gallery).count == 4


def test_many_sketches_are_added_up_as_they_come(own_gallery, sketch, monkeypatch):
    monkeypatch.setattr("service.engine.drawn._WAITING", 2)
    monkeypatch.setattr("service.engine.lifecycle._STORE_SECONDS", 0.05)
    with service(own_gallery) as client:
        for _ in range(5):
            search(client, sketch)
        wait_until(lambda: known(own_gallery).count == 5)


def test_it_can_be_turned_off(own_gallery, sketch):
    with service(own_gallery, learn_queries=False) as client:
        search(client, sketch)
    assert not (own_gallery / "queries.sqlite").exists()


def test_two_services_add_up(own_gallery, sketch):
    with service(own_gallery) as one, service(own_gallery) as other:
        for client in (one, other, other):
            search(client, sketch)
    assert known(own_gallery).count == 3


def test_sums_outlive_a_switch_and_a_time_when_they_cannot_be_written(own_gallery, sketch):
    with service(own_gallery, anonymous="write") as client:
        search(client, sketch)
        (own_gallery / "queries.sqlite").mkdir()
        with pytest.raises(GalleryError, match=r"queries\.sqlite cannot be written"):
            client.portal.call(client.app.state.engine.store_drawn)
        assert client.post("/v1/gallery/reload").status_code == 200
        search(client, sketch)
        (own_gallery / "queries.sqlite").rmdir()
    assert known(own_gallery).count == 2


def test_a_gallery_that_cannot_be_written_is_served(own_gallery, sketch, caplog):
    (own_gallery / "queries.sqlite").mkdir()
    with service(own_gallery) as client:
        search(client, sketch)
    assert "does not learn from the last searches" in caplog.text


def test_the_gallery_says_how_many_sketches_its_order_knows(own_gallery, sketch):
    with service(own_gallery) as client:
        assert client.get("/v1/gallery").json()["sketches"] == 0
        search(client, sketch)
    with closing(Gallery.open(own_gallery, write=True)) as gallery:
        compact(gallery)
    with service(own_gallery) as client:
        assert client.get("/v1/gallery").json()["sketches"] == 1
