"""Clients of the REST API, synchronous and asynchronous, built on httpx.

    from service.client.rest import Client

    with Client("http://127.0.0.1:8000", key="...") as client:
        for result in client.search("sketch.png", limit=3).results:
            print(result.score, result.label)

Methods return the models of ``service.schemas``. ``AsyncClient`` has the same methods as coroutines.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx
from pydantic import ValidationError

from service.client import calls
from service.client.calls import Call, Image, Modality, PhotoChanges, SearchKeywords, SearchPart
from service.schemas import (
    BatchResponse,
    EmbeddingResponse,
    GalleryInfo,
    ModelList,
    PhotoInfo,
    PhotoPage,
    Problem,
    SearchResponse,
)

__all__ = ["AsyncClient", "Client", "ServiceProblem"]

Answer = TypeVar("Answer")


class ServiceProblem(Exception):  # noqa: N818 - as RFC 9457 calls it
    """The service answered with an error.

    Attributes:
        problem: the problem document that it sent.
        retry_after: seconds to wait before another attempt, if the service said so.
    """

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after = retry_after


def _read(response: httpx.Response, call: Call[Answer]) -> Answer:
    """Reads the answer to a call, or raises the error that the service reported."""
    if response.is_success:
        return call.read(response.content)
    try:
        document = response.json()
        message = document["error"]["message"] if "error" in document else None
        problem = (
            Problem(title=response.reason_phrase, status=response.status_code, detail=message)
            if message
            else Problem.model_validate(document)
        )
    except (ValueError, ValidationError, TypeError, KeyError):  # the answer of a proxy between client and service
        problem = Problem(title=response.reason_phrase, status=response.status_code, detail=response.text[:200])
    seconds = response.headers.get("retry-after", "")
    raise ServiceProblem(problem, float(seconds) if seconds.isdigit() else None)


def _settings(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    return {"base_url": url, "timeout": timeout, "headers": {} if key is None else {"Authorization": f"Bearer {key}"}}


class Client:
    """Synchronous client. One object may be used from many threads.

    Args:
        url: address of the service.
        key: API key that is sent with every request.
        timeout: time limit of a request, in seconds.
        http: httpx client to send with; a new one is made when omitted.

    Every method raises ``ServiceProblem`` if the service answers with an error, and ``httpx.TransportError`` if it
    does not answer.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float = 60,
        http: httpx.Client | None = None,
    ) -> None:
        self._http = http or httpx.Client(**_settings(url, key, timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def search(self, sketch: Image, **options: Unpack[SearchKeywords]) -> SearchResponse:
        """Finds the photos that a sketch (path or bytes) depicts; options: ``service.searches.SearchOptions``."""
        return self._ask(calls.search(sketch, options))

    def search_like(self, photo_id: int, **options: Unpack[SearchKeywords]) -> SearchResponse:
        """Finds photos that are similar to a photo of the gallery."""
        return self._ask(calls.search_like(photo_id, options))

    def search_photo(
        self, photo: Image, *, crop: tuple[int, int, int, int] | None = None, **options: Unpack[SearchKeywords]
    ) -> SearchResponse:
        """Finds photos that are similar to a photo (path or bytes), or to a part: x, y, width and height in pixels."""
        return self._ask(calls.search_photo(photo, crop, options))

    def search_combined(self, parts: Sequence[SearchPart], **options: Unpack[SearchKeywords]) -> SearchResponse:
        """Finds photos by several sketches and photos at once; each counts by its weight."""
        return self._ask(calls.search_combined(parts, options))

    def search_batch(self, sketches: Sequence[Image], **options: Unpack[SearchKeywords]) -> BatchResponse:
        """Runs several searches with the same options; each search succeeds or fails on its own."""
        return self._ask(calls.search_batch(sketches, options))

    def embed(
        self, images: Sequence[Image], *, input_type: Modality = "sketch", dimensions: int | None = None
    ) -> EmbeddingResponse:
        """Computes embeddings of sketches or photos."""
        return self._ask(calls.embed(images, input_type, dimensions))

    def add_photo(self, photo: Image, *, label: str | None = None, metadata: dict[str, Any] | None = None) -> PhotoInfo:
        """Adds a photo to the gallery; searches find it at once."""
        return self._ask(calls.add_photo(photo, label, metadata))

    def photo(self, photo_id: int) -> PhotoInfo:
        """Returns the facts about a photo."""
        return self._ask(calls.photo(photo_id))

    def photos(self, *, limit: int = 100, after: int = 0) -> PhotoPage:
        """Lists photos in order of id; pass ``next_after`` of one page as ``after`` to get the next."""
        return self._ask(calls.photos(limit, after))

    def describe_photo(self, photo_id: int, **changes: Unpack[PhotoChanges]) -> PhotoInfo:
        """Changes the ``label`` or the ``metadata`` of a photo."""
        return self._ask(calls.describe_photo(photo_id, changes))

    def remove_photo(self, photo_id: int) -> None:
        """Removes a photo from the gallery."""
        self._ask(calls.remove_photo(photo_id))

    def image(self, photo_id: int, *, size: int | None = None) -> bytes:
        """Returns the photo's file or, with ``size``, a WebP image that fits a square of that many pixels."""
        return self._ask(calls.image(photo_id, size))

    def gallery(self) -> GalleryInfo:
        """Returns facts about the gallery."""
        return self._ask(calls.GALLERY)

    def reload(self) -> GalleryInfo:
        """Switches the service to the generation that was published last."""
        return self._ask(calls.RELOAD)

    def models(self) -> ModelList:
        """Lists the model that the service uses."""
        return self._ask(calls.MODELS)

    def _ask(self, call: Call[Answer]) -> Answer:
        return _read(self._http.request(call.method, call.path, **call.arguments), call)


class AsyncClient:
    """Asynchronous client; its methods are those of ``Client``.

    Args:
        url: address of the service.
        key: API key that is sent with every request.
        timeout: time limit of a request, in seconds.
        http: httpx client to send with; a new one is made when omitted.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float = 60,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._http = http or httpx.AsyncClient(**_settings(url, key, timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def search(self, sketch: Image, **options: Unpack[SearchKeywords]) -> SearchResponse:
        """See ``Client``."""
        return await self._ask(calls.search(sketch, options))

    async def search_like(self, photo_id: int, **options: Unpack[SearchKeywords]) -> SearchResponse:
        """See ``Client``."""
        return await self._ask(calls.search_like(photo_id, options))

    async def search_photo(
        self, photo: Image, *, crop: tuple[int, int, int, int] | None = None, **options: Unpack[SearchKeywords]
    ) -> SearchResponse:
        """See ``Client``."""
        return await self._ask(calls.search_photo(photo, crop, options))

    async def search_combined(self, parts: Sequence[SearchPart], **options: Unpack[SearchKeywords]) -> SearchResponse:
        """See ``Client``."""
        return await self._ask(calls.search_combined(parts, options))

    async def search_batch(self, sketches: Sequence[Image], **options: Unpack[SearchKeywords]) -> BatchResponse:
        """See ``Client``."""
        return await self._ask(calls.search_batch(sketches, options))

    async def embed(
        self, images: Sequence[Image], *, input_type: Modality = "sketch", dimensions: int | None = None
    ) -> EmbeddingResponse:
        """See ``Client``."""
        return await self._ask(calls.embed(images, input_type, dimensions))

    async def add_photo(
        self, photo: Image, *, label: str | None = None, metadata: dict[str, Any] | None = None
    ) -> PhotoInfo:
        """See ``Client``."""
        return await self._ask(calls.add_photo(photo, label, metadata))

    async def photo(self, photo_id: int) -> PhotoInfo:
        """See ``Client``."""
        return await self._ask(calls.photo(photo_id))

    async def photos(self, *, limit: int = 100, after: int = 0) -> PhotoPage:
        """See ``Client``."""
        return await self._ask(calls.photos(limit, after))

    async def describe_photo(self, photo_id: int, **changes: Unpack[PhotoChanges]) -> PhotoInfo:
        """See ``Client``."""
        return await self._ask(calls.describe_photo(photo_id, changes))

    async def remove_photo(self, photo_id: int) -> None:
        """See ``Client``."""
        await self._ask(calls.remove_photo(photo_id))

    async def image(self, photo_id: int, *, size: int | None = None) -> bytes:
        """See ``Client``."""
        return await self._ask(calls.image(photo_id, size))

    async def gallery(self) -> GalleryInfo:
        """See ``Client``."""
        return await self._ask(calls.GALLERY)

    async def reload(self) -> GalleryInfo:
        """See ``Client``."""
        return await self._ask(calls.RELOAD)

    async def models(self) -> ModelList:
        """See ``Client``."""
        return await self._ask(calls.MODELS)

    async def _ask(self, call: Call[Answer]) -> Answer:
        return _read(await self._http.request(call.method, call.path, **call.arguments), call)
