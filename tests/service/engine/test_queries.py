"""Searches by several sketches and photos, against inner products of the model's own embeddings."""

import base64
import io
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from index.gallery.catalogue import Catalogue
from service.engine.queries import NEGATIVE, NEGATIVE_ALONE, POSITIVE, Weighted, combined
from service.errors import RequestProblem
from service.searches import MAX_EXAMPLES, MAX_QUERIES
from tests.service.test_search import PNG, assert_problem
from training.model.bundle import load_bundle
from training.model.images import open_image


def unit(vector):
    return vector / np.linalg.norm(vector)


def encoded(content):
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def photo(shapes):
    """A photo of one's own: 64 x 64 pixels."""
    return (shapes / "photo" / "triangle" / "triangle-5.png").read_bytes()


@pytest.fixture(scope="module")
def model(gallery_path):
    return load_bundle(gallery_path / "model", "cpu")


@pytest.fixture(scope="module")
def stored(gallery_path):
    """Vectors of the gallery's photos by id, in the model's coordinates."""
    with closing(Catalogue(gallery_path / "catalogue.sqlite")) as catalogue:
        return dict(zip(*catalogue.vectors(16), strict=True))


@pytest.fixture(scope="module")
def drawn(model, sketch):
    return model.encode_sketches([open_image(sketch)])[0]


@pytest.fixture
def search(client):
    """Ids and scores of all results with all dimensions, of JSON or of a form."""

    def search(body=None, **form):
        options = {"limit": 1000, "dimensions": 16}
        if body is None:
            response = client.post("/v1/search", files=form["files"], data=options | form["data"])
        else:
            response = client.post("/v1/search", json=options | body)
        assert response.status_code == 200, response.text
        return {result["id"]: result["score"] for result in response.json()["results"]}

    return search


def assert_found(found, query, stored, without=()):
    """Exactly the other photos are found, and scored in proportion to the inner product with the query."""
    assert found.keys() == stored.keys() - set(without)
    ids = list(found)
    expected = np.array([stored[identifier] @ query for identifier in ids])
    scores = np.array([found[identifier] for identifier in ids])
    np.testing.assert_allclose(scores / np.linalg.norm(scores), expected / np.linalg.norm(expected), atol=1e-4)
    assert list(scores) == sorted(scores, reverse=True)


def test_marked_photos_refine_a_sketch_and_are_left_out(search, sketch, drawn, stored):
    found = search({"image": encoded(sketch), "positive": [3, 9], "negative": [14]})
    liked = (unit(stored[3]) + unit(stored[9])) / 2
    query = unit(drawn) + POSITIVE * liked + NEGATIVE * unit(stored[14])
    assert_found(found, query, stored, without=(3, 9, 14))


def test_photos_marked_as_negative_alone_count_little(search, sketch, drawn, stored):
    found = search({"image": encoded(sketch), "negative": [14, 2]})
    query = unit(drawn) + NEGATIVE_ALONE * (unit(stored[14]) + unit(stored[2])) / 2
    assert_found(found, query, stored, without=(2, 14))


@pytest.mark.parametrize("ids", ["3,9", "3, 9,"])
def test_every_way_to_mark_photos_gives_the_same(client, search, sketch, ids):
    wanted = search({"image": encoded(sketch), "positive": [3, 9], "negative": [14]})
    marks = {"positive": ids, "negative": "14"}
    assert search(files={"file": sketch}, data=marks) == wanted
    options = {"limit": 1000, "dimensions": 16} | marks
    raw = client.post("/v1/search", content=sketch, headers={"Content-Type": "image/png"}, params=options)
    assert {result["id"]: result["score"] for result in raw.json()["results"]} == wanted


def test_marked_photos_alone_are_a_search(search, stored):
    wanted = POSITIVE * (unit(stored[3]) + unit(stored[9])) / 2
    assert_found(search({"positive": [3, 9]}), wanted, stored, without=(3, 9))
    assert search(files={"positive": (None, "3,9")}, data={}).keys() == stored.keys() - {3, 9}
    assert search({"positive": [3]}) == search({"photo_id": 3})


def test_a_photo_of_ones_own_is_embedded_as_a_photo(search, photo, model, stored):
    query = model.encode_photos([open_image(photo)])[0]
    found = search({"photo": encoded(photo)})
    assert_found(found, query, stored)
    np.testing.assert_allclose(list(found.values()), [stored[i] @ query for i in found], rtol=1e-3, atol=1e-4)
    assert search(files={"photo": photo}, data={}) == found


def test_several_queries_count_by_their_weights(search, sketch, photo, drawn, model, stored):
    mine = model.encode_photos([open_image(photo)])[0]
    queries = [
        {"image": encoded(sketch), "weight": 2},
        {"photo": encoded(photo), "weight": 0.5},
        {"photo_id": 7, "weight": -0.25},
    ]
    query = 2 * unit(drawn) + 0.5 * unit(mine) - 0.25 * unit(stored[7])
    assert_found(search({"queries": queries}), query, stored, without=(7,))
    assert_found(search({"image": encoded(sketch), "queries": queries[1:2]}), unit(drawn) + 0.5 * unit(mine), stored)
    both = search(files=[("file", sketch), ("file", sketch), ("photo", photo)], data={})
    assert_found(both, 2 * unit(drawn) + unit(mine), stored)


def test_copies_of_marked_photos_are_left_out_too(start, own_gallery, sketch):
    client = start(gallery=own_gallery, anonymous="write")
    files = {marked: client.get(f"/v1/photos/{marked}/image").content for marked in (3, 4)}
    copies = [client.post("/v1/photos", content=file, headers=PNG).json()["id"] for file in files.values()]
    assert copies == [25, 26]
    for unique, left_out in ((False, {3, 4}), (True, {3, 4, 25, 26})):
        body = {"image": encoded(sketch), "positive": [3], "negative": [4], "unique": unique, "limit": 1000}
        ids = [result["id"] for result in client.post("/v1/search", json=body).json()["results"]]
        assert sorted(ids) == sorted(set(range(1, 27)) - left_out)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_crop_is_what_the_picture_shows_there(search, shapes, kind, turned):
    """In pixels of the picture as people see it, and of the whole of a picture that is decoded at a smaller scale."""
    small = open_image(shapes / "photo" / "circle" / "circle-1.png").resize((400, 300))
    large = Image.new("RGB", (1200, 800), "white")
    large.paste(small, (600, 100))
    file, exif = io.BytesIO(), Image.Exif()
    if turned:
        exif[0x0112] = 8  # to be turned by 90 degrees
        large.transpose(Image.Transpose.ROTATE_270).save(file, kind, exif=exif, quality=95)
    else:
        large.save(file, kind, quality=95)
    alone = io.BytesIO()
    small.save(alone, "PNG")
    found = search({"photo": encoded(file.getvalue()), "crop": [600, 100, 400, 300]})
    wanted = search({"photo": encoded(alone.getvalue())})
    np.testing.assert_allclose([found[i] for i in wanted], list(wanted.values()), atol=0.05 * max(wanted.values()))
    assert search(files={"photo": file.getvalue()}, data={"crop": "600,100,400,300"}) == found


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"negative": [1]}, 422, "to search by"),
        ({"queries": []}, 422, "to search by"),
        ({"queries": [{"photo_id": 1, "weight": -1}]}, 422, "to search by"),
        ({"queries": [{"weight": 1}]}, 422, "one of them"),
        ({"queries": [{"photo_id": 1, "image": "x"}]}, 422, "one of them"),
        ({"photo_id": 1, "photo": "x"}, 422, "one of them"),
        ({"queries": [{"photo_id": 1, "weight": 1e9}]}, 422, "weight"),
        ({"queries": [{"photo_id": 1}] * (MAX_QUERIES + 1)}, 422, f"at most {MAX_QUERIES}"),
        ({"queries": [{}] * 10_000}, 422, f"at most {MAX_EXAMPLES}"),
        ({"positive": [1] * (MAX_EXAMPLES + 1)}, 422, f"at most {MAX_EXAMPLES}"),
        ({"positive": ["x"]}, 422, "positive"),
        ({"positive": 5}, 422, "positive"),
        ({"positive": [999]}, 404, "no photo 999"),
        ({"positive": [1], "negative": [999]}, 404, "no photo 999"),
        ({"positive": [2], "queries": [{"photo_id": 2, "weight": -POSITIVE}]}, 422, "cancel"),
        ({"photo_id": 1, "crop": [0, 0, 1, 1]}, 422, "'photo', which is missing"),
        ({"photo": "%%%"}, 400, "not base64"),
    ],
)
def test_searches_that_make_no_sense(client, body, status, detail):
    response = client.post("/v1/search", json=body)
    assert_problem(response, status, detail)
    assert len(response.content) < 10_000
    assert client.post("/v1/search/batch", json={"searches": [body]}).json()["items"][0]["status"] == status


@pytest.mark.parametrize(
    ("crop", "detail"),
    [
        ("0,0,65,10", "65 x 10 pixels from 0, 0 does not lie within the photo, which has 64 x 64"),
        ("60,0,5,5", "does not lie within"),
        ("0,64,1,1", "does not lie within"),
        ("0,0,0,5", "crop"),
        ("-1,0,5,5", "crop"),
        ("1,2,3", "crop"),
        ("1,2,3,4,5", "crop"),
        ("a,b,c,d", "crop"),
    ],
)
def test_crops_outside_of_the_photo(client, photo, crop, detail):
    assert_problem(client.post("/v1/search", files={"photo": photo}, data={"crop": crop}), 422, detail)


def test_the_images_of_a_batch_count_as_one_request(client):
    searches = [{"queries": [{"photo_id": 1}] * 11}] * 3
    assert_problem(client.post("/v1/search/batch", json={"searches": searches}), 413, "33 queries")


def test_a_form_with_nothing_to_search_by(client):
    for field in ({"positive": (None, ",")}, {"limit": (None, "3")}):
        assert_problem(client.post("/v1/search", files=field), 422, "nothing to search by")


def test_a_query_alone_keeps_its_scores():
    vector = np.array([3, 4], np.float32)
    assert combined([Weighted(vector, 7)]) is vector


def test_a_combination_is_as_long_as_its_queries():
    found = combined([Weighted(np.array([3, 0], np.float32), 1), Weighted(np.array([0, 5], np.float32), 1)])
    np.testing.assert_allclose(found, np.array([1, 1]) * 4 / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("weights", [(-1, -1), (0, 0), (1, -1)])
def test_nothing_is_left_of_some_queries(weights):
    vector = np.array([1, 2], np.float32)
    with pytest.raises(RequestProblem):
        combined([Weighted(vector, weight) for weight in weights])
