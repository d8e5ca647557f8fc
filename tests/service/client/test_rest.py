import asyncio
import inspect
import subprocess
import sys

import httpx
import pytest

from service.client.calls import PhotoChanges, SearchKeywords
from service.client.rest import AsyncClient, Client, ServiceProblem
from service.schemas import PhotoDescription
from service.searches import SearchOptions
from tests.service.access.test_keys import line


@pytest.fixture
def keyed(start, own_gallery, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(line("a", "write", "w"))
    return start(gallery=own_gallery, keys=keys)


@pytest.fixture
def file(shapes):
    return shapes / "sketch" / "square" / "square-2.png"


def test_every_call(keyed, file, shapes):
    keyed.headers["Authorization"] = "Bearer w"
    client = Client(http=keyed)
    found = client.search(file, limit=3, dimensions=4)
    assert (len(found.results), found.dimensions) == (3, 4)
    assert client.search(file.read_bytes(), limit=3, dimensions=4) == found
    assert len(client.search_like(2, limit=5).results) == 5
    assert len(client.search_photo(file, limit=5).results) == 5
    assert client.search_photo(file, crop=(0, 0, 64, 64), limit=5) == client.search_photo(file, limit=5)
    parts = [{"sketch": file}, {"photo": file.read_bytes(), "crop": (0, 0, 9, 9)}, {"photo_id": 2, "weight": -0.5}]
    assert len(client.search_combined(parts, limit=1000).results) == 23
    batch = client.search_batch([file, b"broken"], limit=2)
    assert [item.status for item in batch.items] == [200, 400]
    embedded = client.embed([file], dimensions=4)
    assert len(embedded.data[0].embedding) == 4
    added = client.add_photo(file, label="new", metadata={"a": [1]})
    assert client.photo(added.id) == added
    assert client.describe_photo(added.id, label="other").label == "other"
    assert client.photos(limit=1, after=24).photos[0].id == added.id
    assert client.image(added.id) == file.read_bytes()
    assert client.image(added.id, size=32)[8:12] == b"WEBP"
    client.remove_photo(added.id)
    assert client.gallery().photos == 24
    assert client.reload().generation == 1
    assert client.models().data[0].id == embedded.model


def test_every_option_of_a_search(client, file):
    assert SearchKeywords.__annotations__.keys() == SearchOptions.model_fields.keys()
    assert PhotoChanges.__annotations__.keys() == PhotoDescription.model_fields.keys()
    service = Client(http=client)
    plain = service.search(file, limit=1000)
    like = {"label": ["circle"], "id": {"lte": 3}}
    chosen = service.search(file, filter=like, with_payload=False, with_contributions=True)
    assert sorted(result.id for result in chosen.results) == [1, 2, 3]
    assert (chosen.results[0].label, len(chosen.results[0].contributions)) == (None, 12)
    assert service.search_batch([file], filter=like).items[0].results[0].id == chosen.results[0].id
    assert service.search(file, limit=1000, unique=True, recall=1.0, filter=None, dimensions=None) == plain
    assert service.search(file, offset=2, limit=1).results == plain.results[2:3]
    marked = service.search(file, limit=1000, positive=[1, 2], negative=(3,))
    assert {result.id for result in plain.results} - {result.id for result in marked.results} == {1, 2, 3}
    assert service.search_like(1, limit=1000, positive=[2], negative=[3]).results
    best = plain.results[0]
    assert [r.id for r in service.search(file, score_threshold=best.score).results] == [best.id]


def test_asynchronously(client, file):
    async def calls():
        transport = httpx.ASGITransport(client.app)
        async with AsyncClient(http=httpx.AsyncClient(transport=transport, base_url="http://test")) as service:
            found = await service.search(file, limit=3)
            assert (await service.image(found.results[0].id))[:4] == b"\x89PNG"
            with pytest.raises(ServiceProblem):
                await service.photo(999)
            return found

    assert asyncio.run(calls()) == Client(http=client).search(file, limit=3)


def test_both_clients_have_the_same_methods():
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(method) == inspect.signature(getattr(AsyncClient, name)), name


def test_problems(keyed, file):
    anonymous = Client(http=keyed)
    with pytest.raises(ServiceProblem, match="401 Unauthorized: send a key") as caught:
        anonymous.search(file)
    assert caught.value.problem.status == 401
    with pytest.raises(ServiceProblem, match="401 Unauthorized: send a key"):
        anonymous.embed([file])


def test_answers_of_something_in_between():
    def proxy(request):
        return httpx.Response(502, text="<h1>Bad gateway</h1>", headers={"Retry-After": "7"})

    client = Client(http=httpx.Client(transport=httpx.MockTransport(proxy), base_url="http://test"))
    with client, pytest.raises(ServiceProblem, match="502 Bad Gateway: <h1>") as caught:
        client.gallery()
    assert caught.value.retry_after == 7


def test_the_key_is_sent():
    with Client("http://test", key="secret") as client:
        seen = dict(client._http.headers)
    assert seen["authorization"] == "Bearer secret"


def test_the_client_needs_nothing_heavy():
    """Beside the standard library only httpx, pydantic and what these two bring along."""
    code = (
        "import sys, httpx, pydantic; before = set(sys.modules);"
        "from service.client.rest import Client, AsyncClient;"
        "print(*{name.split('.')[0] for name in sys.modules}, sep=',');"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names, sep=',')"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded, more = (set(line.split(",")) for line in out.splitlines())
    assert not loaded & {"torch", "faiss", "numpy", "PIL", "fastapi", "starlette", "fsspec", "training", "index"}
    own = {name for name in more if not name.startswith(("pydantic", "httpx", "annotated_types", "_"))}
    assert own == {"service"}
