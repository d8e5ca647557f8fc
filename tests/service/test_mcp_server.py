"""The tools as an assistant sees them, through the SDK's own client."""

import base64
import json
import os
import sys
from xml.etree import ElementTree

import anyio
import httpx
import pytest

mcp = pytest.importorskip("mcp")

from mcp.client.stdio import StdioServerParameters  # noqa: E402

from service.client.rest import AsyncClient  # noqa: E402
from service.mcp_server import MAX_RESULTS, mcp_server  # noqa: E402
from tests.service.conftest import serving  # noqa: E402

TOOLS = {"search_by_sketch", "similar_photos", "gallery_info"}


def texts(result):
    return [part.text for part in result.content if part.type == "text"]


def images(result):
    return [part for part in result.content if part.type == "image"]


def call(client, tool, arguments):
    """Calls a tool of a server in this process, which asks a service through an httpx client."""

    async def run():
        async with mcp.Client(mcp_server(AsyncClient(http=client), "http://test")) as assistant:
            return await assistant.call_tool(tool, arguments)

    return anyio.run(run)


def in_process(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def answering(respond):
    return httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url="http://test")


def test_the_tools_over_standard_input_and_output(gallery_path, sketch):
    async def run(url):
        arguments = ["-c", "from service.commands import main; main()", "mcp", "--service", url]
        process = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
        async with mcp.Client(process) as assistant:
            tools = {tool.name for tool in (await assistant.list_tools()).tools}
            encoded = base64.b64encode(sketch).decode()
            found = await assistant.call_tool("search_by_sketch", {"image": encoded, "limit": 3})
            identifier = json.loads(texts(found)[1])["id"]
            similar = await assistant.call_tool("similar_photos", {"photo_id": identifier, "limit": 2})
            return tools, found, similar, await assistant.call_tool("gallery_info", {})

    with serving(gallery=gallery_path) as url:
        tools, found, similar, info = anyio.run(run, url)
    assert tools == TOOLS
    assert texts(found)[0] == "3 of 24 photos, 12 dimensions"
    scores = [json.loads(text)["score"] for text in texts(found)[1:]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert [image.mime_type for image in images(found)] == ["image/webp"] * 3
    assert base64.b64decode(images(found)[0].data)[8:12] == b"WEBP"
    assert len(images(similar)) == 2
    assert json.loads(texts(info)[0])["photos"] == 24


@pytest.mark.parametrize("form", ["{}\n", "data:image/png;base64,{}", "DATA:image/png;BASE64,{}", " {}"])
def test_base64_is_read_as_the_service_reads_it(form, sketch):
    sent = []

    def respond(request):
        sent.append(request.content)
        return httpx.Response(200, json={"results": [], "dimensions": 1, "baseline": 0, "total": 0, "generation": 1})

    encoded = base64.encodebytes(sketch).decode().rstrip("=\n")  # with line breaks and without padding
    assert not call(answering(respond), "search_by_sketch", {"image": form.format(encoded)}).is_error
    assert sent == [sketch]


def test_an_assistant_is_told_that_photos_are_missing():
    answer = {"results": [], "dimensions": 1, "baseline": 0, "total": 9, "generation": 1}
    answer |= {"complete": False, "missing_shards": [0, 2]}
    found = call(answering(lambda _: httpx.Response(200, json=answer)), "search_by_sketch", {"path": "M 0 0 L 9 9"})
    first, second = texts(found)
    assert first.startswith("0 of 9 photos")
    assert "photos of 2 shards that do not answer are missing" in second


def test_photos_of_a_colour_are_asked_for():
    sent = []

    def respond(request):
        sent.append(request)
        return httpx.Response(200, json={"results": [], "dimensions": 1, "baseline": 0, "total": 0, "generation": 1})

    call(answering(respond), "search_by_sketch", {"path": "M 0 0 L 9 9", "colors": ["red", "#ff8000"]})
    call(answering(respond), "similar_photos", {"photo_id": 3, "colors": ["blue"]})
    assert json.loads(sent[0].url.params["filter"]) == {"color": ["red", "#ff8000"]}
    assert json.loads(sent[1].content)["filter"] == {"color": ["blue"]}


def test_path_data_is_sent_as_a_drawing():
    sent = []

    def respond(request):
        sent.append(request.content)
        return httpx.Response(200, json={"results": [], "dimensions": 1, "baseline": 0, "total": 0, "generation": 1})

    result = call(answering(respond), "search_by_sketch", {"path": 'M 1 2 L 3 4"/><script/>'})
    assert texts(result) == ["0 of 0 photos, 1 dimensions"]
    drawing = sent[0][sent[0].index(b"<svg") : sent[0].index(b"</svg>") + 6]
    [path] = ElementTree.fromstring(drawing)
    assert path.get("d") == 'M 1 2 L 3 4"/><script/>'


def test_path_data_finds_photos(client):
    pytest.importorskip("resvg_py")
    result = call(in_process(client.app), "search_by_sketch", {"path": "M 40 200 L 128 40 L 216 200 Z", "limit": 3})
    assert not result.is_error
    assert len(images(result)) == 3


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("search_by_sketch", {}, "either as 'image'"),
        ("search_by_sketch", {"image": "YQ==", "path": "M 0 0"}, "either as 'image'"),
        ("search_by_sketch", {"image": "not base64!"}, "not base64"),
        ("search_by_sketch", {"image": "YQ=="}, "the service refused: "),
        ("search_by_sketch", {"path": "M 0 0" * 100_000}, "100000"),
        ("search_by_sketch", {"path": "M 0 0", "limit": MAX_RESULTS + 1}, str(MAX_RESULTS)),
        ("similar_photos", {"photo_id": 999}, "the gallery has no photo 999"),
        ("similar_photos", {"photo_id": 0}, "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said(client, tool, arguments, message):
    result = call(in_process(client.app), tool, arguments)
    assert result.is_error
    assert message in texts(result)[0]


def test_a_service_that_does_not_answer_is_named():
    def refuse(request):
        raise httpx.ConnectError("refused")

    result = call(answering(refuse), "gallery_info", {})
    assert result.is_error
    assert "http://test does not answer" in texts(result)[0]


def test_a_photo_without_a_file_keeps_the_others(own_gallery, start, sketch):
    app = (client := start(gallery=own_gallery)).app
    lost = client.post("/v1/search", content=sketch, headers={"Content-Type": "image/png"}).json()["results"][0]["id"]

    class Losing(httpx.ASGITransport):
        async def handle_async_request(self, request):
            if request.url.path == f"/v1/photos/{lost}/thumbnail":
                return httpx.Response(404, json={"title": "Not Found", "status": 404, "detail": "its file is gone"})
            return await super().handle_async_request(request)

    http = httpx.AsyncClient(transport=Losing(app), base_url="http://test")
    result = call(http, "search_by_sketch", {"image": base64.b64encode(sketch).decode(), "limit": 3})
    assert not result.is_error
    assert len(images(result)) == 2
    assert "no thumbnail: its file is gone" in texts(result)
