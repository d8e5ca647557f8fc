"""``svdraw mcp``: the search as tools for assistants that speak the Model Context Protocol.

An assistant starts this process and talks to it over standard input and output. Every call of a tool is answered by a
service that runs already, so that the gallery and the model are loaded once, however many assistants there are.
"""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any, TypeVar
from xml.sax.saxutils import quoteattr

import anyio
import httpx
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from service.client.rest import AsyncClient, ServiceProblem
from service.errors import RequestProblem
from service.http.bodies import decode_base64
from service.schemas import MAX_ID, SearchResponse, SearchResult
from training.base.command_line import Options, Settings

__all__ = ["Mcp", "mcp", "mcp_server"]

MAX_IMAGE = 8_000_000  # characters of base64
MAX_PATH = 100_000  # characters
MAX_RESULTS = 20  # thumbnails in one answer
THUMBNAIL = 256  # pixels
_INSTRUCTIONS = (
    "Finds photos of a gallery by a drawing. Draw what is sought with few, plain lines, as a person would sketch it, "
    "and pass it to search_by_sketch. Results come best first; 'relevance', where it is not null, is the probability "
    "that a photo shows what was drawn."
)
_T = TypeVar("_T")
_Limit = Annotated[int, Field(ge=1, le=MAX_RESULTS, description="number of photos")]
_Dimensions = Annotated[
    int | None, Field(ge=1, le=1_000_000, description="leading coordinates to compare; the gallery's default if null")
]
_Image = Annotated[str | None, Field(max_length=MAX_IMAGE, description="a sketch as an image file in base64")]
_Path = Annotated[
    str | None,
    Field(
        max_length=MAX_PATH,
        description="in place of an image: the sketch as SVG path data on a square of 256 by 256, such as "
        "'M 40 200 L 128 40 L 216 200 Z'; lines are drawn, areas are not filled",
    ),
]
_Colors = Annotated[
    list[Annotated[str, Field(max_length=20)]] | None,
    Field(
        max_length=20,
        description="only photos with one of these colours: black, white, gray, red, orange, yellow, green, teal, "
        "blue, purple, pink, brown or #rrggbb; drawings themselves have no colour",
    ),
]
_PhotoId = Annotated[int, Field(ge=1, le=MAX_ID, description="id of a photo of the gallery")]


class Mcp(Settings):
    """Options of ``svdraw mcp``."""

    service: str = Field(description="address of a running service, such as http://127.0.0.1:8000")
    key: str | None = Field(None, description="API key of the service; better given as SVDRAW_MCP_KEY")
    timeout: float = Field(60, gt=0, allow_inf_nan=False, description="seconds that a call of a tool may take")


def mcp(*, settings: Options[Mcp]) -> None:
    """Offers the search as tools over standard input and output."""
    client = AsyncClient(settings.service, key=settings.key, timeout=settings.timeout)
    anyio.run(mcp_server(client, settings.service).run_stdio_async)


def mcp_server(client: AsyncClient, address: str) -> MCPServer[None]:
    """Makes the server of the tools.

    Args:
        client: client of the service, which is closed when the server ends.
        address: of the service, for messages.
    """

    @asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
        async with client:
            yield

    server = MCPServer[None](
        "svdraw", instructions=_INSTRUCTIONS, version=version("svdraw"), lifespan=lifespan, log_level="WARNING"
    )
    tools = _Tools(client, address)
    for tool in (tools.search_by_sketch, tools.similar_photos, tools.gallery_info):
        server.add_tool(tool, structured_output=False)
    return server


class _Tools:
    """The tools. Their docstrings and the descriptions of their arguments are what an assistant reads."""

    def __init__(self, client: AsyncClient, address: str) -> None:
        self._client = client
        self._address = address

    async def search_by_sketch(
        self,
        image: _Image = None,
        path: _Path = None,
        limit: _Limit = 5,
        dimensions: _Dimensions = None,
        colors: _Colors = None,
    ) -> list[Any]:
        """Finds the photos that a sketch depicts, best first, with thumbnails. Give either 'image' or 'path'."""
        sketch, only = _sketch(image, path), _filter(colors)
        return await self._shown(self._client.search(sketch, limit=limit, dimensions=dimensions, filter=only))

    async def similar_photos(
        self, photo_id: _PhotoId, limit: _Limit = 5, dimensions: _Dimensions = None, colors: _Colors = None
    ) -> list[Any]:
        """Finds photos similar to a photo of the gallery, best first, with thumbnails."""
        only = _filter(colors)
        return await self._shown(self._client.search_like(photo_id, limit=limit, dimensions=dimensions, filter=only))

    async def gallery_info(self) -> str:
        """Tells how many photos the gallery has, in which colours, and what a search compares by default."""
        info = await self._answer(self._client.gallery())
        shown = {"photos", "dim", "default_dimensions", "generation", "created", "model", "colors"}
        return info.model_dump_json(include=shown)

    async def _shown(self, search: Awaitable[SearchResponse]) -> list[Any]:
        """A line about each result, followed by its thumbnail."""
        answer = await self._answer(search)
        content: list[Any] = [f"{len(answer.results)} of {answer.total} photos, {answer.dimensions} dimensions"]
        if answer.missing_shards:
            content.append(f"incomplete: photos of {len(answer.missing_shards)} shards that do not answer are missing")
        for result in answer.results:
            content += [_facts(result), await self._thumbnail(result.id)]
        return content

    async def _thumbnail(self, photo_id: int) -> Image | str:
        """The thumbnail of a photo, or why there is none: that of one photo does not spoil the others."""
        try:
            return Image(data=await self._client.image(photo_id, size=THUMBNAIL), format="webp")
        except ServiceProblem as error:
            return f"no thumbnail: {error.problem.detail}"
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    async def _answer(self, call: Awaitable[_T]) -> _T:
        try:
            return await call
        except ServiceProblem as error:
            raise ToolError(f"the service refused: {error.problem.detail or error.problem.title}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> ToolError:
        return ToolError(
            f"{self._address} does not answer ({type(error).__name__}); is it the address of a running `svdraw serve`?"
        )


def _sketch(image: str | None, path: str | None) -> bytes:
    """The file of a sketch that is given as an image in base64, or as SVG path data.

    Raises:
        ToolError: if it is given as neither or as both, or is no base64.
    """
    if (image is None) == (path is None):
        raise ToolError("give the sketch either as 'image', in base64, or as 'path', SVG path data")
    if path is not None:
        line = f'<path d={quoteattr(path)} fill="none" stroke="black" stroke-width="4"/>'
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 256">{line}</svg>'.encode()
    assert image is not None
    try:
        return decode_base64(image)
    except RequestProblem as error:
        raise ToolError(f"'image' cannot be used: {error}; encode the whole image file") from error


def _filter(colors: list[str] | None) -> dict[str, Any] | None:
    return {"color": colors} if colors else None


def _facts(result: SearchResult) -> str:
    shown = {"id", "score", "relevance", "label", "uri", "width", "height", "colors", "metadata"}
    return result.model_dump_json(include=shown)
