import base64
import io

import numpy as np
import pytest
from PIL import Image

from training.model.bundle import load_bundle
from training.model.images import open_image


@pytest.fixture
def image(sketch):
    return base64.b64encode(sketch).decode()


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_embeddings_are_those_of_the_encoder(client, gallery_path, sketch, image, modality):
    bundle = load_bundle(gallery_path / "model", "cpu")
    encode = bundle.encode_sketches if modality == "sketch" else bundle.encode_photos
    body = {"input": [image, f"data:image/png;base64,{image}"], "input_type": modality, "dimensions": 5}
    answer = client.post("/v1/embeddings", json=body).json()
    assert (answer["object"], answer["model"], len(answer["data"])) == ("list", bundle.digest, 2)
    for number, item in enumerate(answer["data"]):
        assert item["index"] == number
        np.testing.assert_allclose(item["embedding"], encode([open_image(sketch)])[0, :5], rtol=1e-4, atol=1e-5)


def test_base64_is_the_same_in_float32(client, image):
    plain = client.post("/v1/embeddings", json={"input": image}).json()["data"][0]["embedding"]
    body = {"input": image, "encoding_format": "base64", "model": client.get("/v1/models").json()["data"][0]["id"]}
    encoded = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(encoded), "<f4"), plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"input": []}, 422, "empty"),
        ({"input": ["AAAA"]}, 400, "input 0: the sketch cannot be used"),
        ({"input": "%"}, 400, "base64"),
        ({"input": None}, 422, "input"),
        ({"input": ["AAAA"] * 33}, 413, "limit of 32"),
        ({"dimensions": 17}, 422, "dimensions must be 1 to 16"),
        ({"model": "gpt"}, 404, "not served"),
        ({"nonsense": 1}, 422, "nonsense"),
    ],
)
def test_errors_have_the_shape_of_openai(client, image, change, status, message):
    response = client.post("/v1/embeddings", json={"input": image} | change)
    assert response.status_code == status
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert message in error["message"]


def test_blank_sketches_have_no_embedding_but_blank_photos_do(client, image):
    buffer = io.BytesIO()
    Image.new("RGB", (50, 50), "white").save(buffer, "PNG")
    body = {"input": [image, base64.b64encode(buffer.getvalue()).decode()]}
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("input 1: the sketch is blank")
    assert client.post("/v1/embeddings", json=body | {"input_type": "photo"}).status_code == 200


def test_other_bodies(client):
    assert client.post("/v1/embeddings", content=b"x").status_code == 415
    response = client.post("/v1/embeddings", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 400
