import sqlite3
from contextlib import closing

import numpy as np
import pytest

from index.gallery.generations import read_generation
from index.gallery.query_moments import known_queries
from tests.service.conftest import wait_until

PNG = {"Content-Type": "image/png"}


def known(path):
    return known_queries(path, read_generation(path).model, read_generation(path).dim)


def search(client, sketch, **options):
    response = client.post("/v1/search", content=sketch, headers=PNG, params=options)
    assert response.status_code == 200, response.text


def test_sums_of_sketches_are_stored_when_the_service_stops_and_nothing_else(start, own_gallery, sketch):
    client = start(gallery=own_gallery)
    embedding = np.array(client.post("/v1/embeddings", content=sketch, headers=PNG).json()["data"][0]["embedding"])
    for _ in range(3):
        search(client, sketch)
    search(client, sketch, offset=3)  # the same sketch again
    search(client, sketch, with_contributions=True)
    assert client.post("/v1/search", json={"photo_id": 1}).status_code == 200  # not drawn
    client.__exit__(None, None, None)
    found = known(own_gallery)
    assert found.count == 3
    np.testing.assert_allclose(found.products, 3 * np.outer(embedding, embedding), rtol=1e-4, atol=1e-7)
    client = start(gallery=own_gallery)
    search(client, sketch)
    client.__exit__(None, None, None)
    assert known(own_gallery).count == 4


def test_many_sketches_are_added_up_as_they_come(start, own_gallery, sketch, monkeypatch):
    monkeypatch.setattr("service.engine.drawn._WAITING", 2)
    monkeypatch.setattr("service.engine.lifecycle._STORE_SECONDS", 0.05)
    client = start(gallery=own_gallery)
    for _ in range(5):
        search(client, sketch)
    wait_until(lambda: known(own_gallery).count == 5)


def test_it_can_be_turned_off(start, own_gallery, sketch):
    client = start(gallery=own_gallery, learn_queries=False)
    search(client, sketch)
    client.__exit__(None, None, None)
    assert not (own_gallery / "queries.sqlite").exists()


def test_two_services_add_up(start, own_gallery, sketch):
    one, other = start(gallery=own_gallery), start(gallery=own_gallery)
    for client in (one, other, other):
        search(client, sketch)
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    assert known(own_gallery).count == 3


def test_sums_outlive_a_switch_and_a_time_when_they_cannot_be_written(start, own_gallery, sketch, caplog):
    client = start(gallery=own_gallery)
    search(client, sketch)
    (own_gallery / "queries.sqlite").mkdir()
    with pytest.raises(Exception, match=r"queries\.sqlite cannot be written"):
        client.portal.call(client.app.state.engine.store_drawn)
    assert client.post("/v1/gallery/reload").status_code in (200, 401, 403)
    search(client, sketch)
    (own_gallery / "queries.sqlite").rmdir()
    client.__exit__(None, None, None)
    assert known(own_gallery).count == 2


def test_the_gallery_says_how_many_sketches_its_order_knows(start, own_gallery):
    assert start(gallery=own_gallery).get("/v1/gallery").json()["sketches"] == 0


def test_a_stored_file_holds_one_row_for_the_model(start, own_gallery, sketch):
    client = start(gallery=own_gallery)
    search(client, sketch)
    client.__exit__(None, None, None)
    with closing(sqlite3.connect(own_gallery / "queries.sqlite")) as connection:
        assert connection.execute("SELECT model, count FROM moments").fetchall() == [
            (read_generation(own_gallery).model, 1)
        ]
