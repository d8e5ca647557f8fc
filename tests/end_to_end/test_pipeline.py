import io
import json
import shutil
import socket
import subprocess
import sys
from contextlib import closing

import httpx
import pytest
from PIL import Image

from service.http.listening import listen
from tests.training.model.test_images import png_header

pytestmark = pytest.mark.long


def search(deployment, content, **options):
    headers = {"Content-Type": "image/png"}
    return httpx.post(f"{deployment.url}/v1/search", content=content, params=options, headers=headers, timeout=60)


def test_held_out_drawings_find_their_pictures(deployment):
    found, queries = 0, 0
    for name in deployment.unseen:
        for drawing in sorted((deployment.data / "sketch" / name).iterdir()):
            response = search(deployment, drawing.read_bytes(), limit=5)
            assert response.status_code == 200, response.text
            found += any(result["label"] == name for result in response.json()["results"])
            queries += 1
    assert queries >= 20
    assert found / queries > 5 * 5 / response.json()["total"]  # five times what chance finds among five of all


def test_the_command_line_finds_the_same(deployment):
    drawing = next((deployment.data / "sketch" / deployment.unseen[0]).iterdir())
    command = ["index", "search", "--gallery", deployment.gallery, "--sketch", drawing, "--limit", "5", "--json"]
    out = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True).stdout
    served = search(deployment, drawing.read_bytes(), limit=5).json()["results"]
    assert [row["id"] for row in json.loads(out)["results"]] == [row["id"] for row in served]


def test_results_can_be_fetched(deployment):
    drawing = next((deployment.data / "sketch" / deployment.unseen[0]).iterdir())
    [result] = search(deployment, drawing.read_bytes(), limit=1).json()["results"]
    for kind in ("image", "thumbnail"):
        picture = httpx.get(deployment.url + result[f"{kind}_url"], timeout=60)
        Image.open(io.BytesIO(picture.content)).load()


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"", 400, "holds no image"),
        (b"a text file named .png", 400, "not an image"),
        (png_header(30_000, 30_000), 413, "pixels"),
        (png_header(200, 200), 400, "truncated or damaged"),
        (bytes(100_000_000), 413, "larger than the limit"),
    ],
    ids=["empty", "text", "bomb", "truncated", "100 MB"],
)
def test_bad_input_is_answered_and_survived(deployment, content, status, detail):
    response = search(deployment, content)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert detail in response.json()["detail"]
    assert httpx.get(f"{deployment.url}/readyz", timeout=60).status_code == 200


def test_a_truncated_jpeg(deployment):
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 80).save(buffer, "JPEG")
    response = search(deployment, buffer.getvalue()[:5000])
    assert (response.status_code, "truncated" in response.json()["detail"]) == (400, True)


@pytest.mark.parametrize("options", [{"limit": 0}, {"dimensions": 100_000}, {"dimensions": "many"}, {"nonsense": 1}])
def test_bad_options_are_answered(deployment, options):
    drawing = next((deployment.data / "sketch" / deployment.unseen[0]).iterdir())
    assert search(deployment, drawing.read_bytes(), **options).status_code == 422


def serve(*arguments):
    command = [sys.executable, "-m", "service", *(str(argument) for argument in arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in result.stderr
    return result.returncode, errors


def test_kept_alive_answers_are_sent_at_once():
    with closing(listen("127.0.0.1", 0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY


def test_a_port_in_use(deployment):
    status, [error] = serve("--gallery", deployment.gallery, "--port", deployment.port)
    assert status == 1
    assert f"port {deployment.port}" in error


def test_a_gallery_with_another_model_or_a_damaged_index(tmp_path, deployment):
    gallery = shutil.copytree(deployment.gallery, tmp_path / "gallery")
    path = gallery / "model" / "model.json"
    manifest = json.loads(path.read_text())
    manifest["encoders"]["sketch"]["flip"] = True
    path.write_text(json.dumps(manifest))
    status, [error] = serve("--gallery", gallery, "--port", 0)
    assert status == 1
    assert "another model" in error
    (gallery / "generations" / (gallery / "CURRENT").read_text().strip() / "photos.faiss").write_bytes(b"half")
    status, [error] = serve("--gallery", gallery, "--port", 0)
    assert status == 1
    assert "photos.faiss is missing or corrupted" in error


def test_no_gallery_to_serve(tmp_path, deployment):
    status, [error] = serve("--gallery", tmp_path, "--port", 0)
    assert status == 1
    assert "is not a gallery" in error
    (tmp_path / "catalogue.sqlite").write_bytes((deployment.gallery / "catalogue.sqlite").read_bytes())
    status, [error] = serve("--gallery", tmp_path, "--port", 0)
    assert status == 1
    assert "half-written" in error
