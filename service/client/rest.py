"""Client of the REST API, synchronous and asynchronous, on httpx.

    from service.client.rest import Client

    with Client("http://127.0.0.1:8000", key="...") as client:
        for result in client.search("sketch.png", limit=3).results:
            print(result.score, result.label)

Answers are the models of ``service.schemas``. ``AsyncClient`` has the same methods to await.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx
from pydantic import ValidationError

from service.client import calls
from service.client.calls import Call, Image, Modality, PhotoChanges, SearchKeywords
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
        problem: what it said.
        retry_after: seconds to wait before another try, if it said so.
    """

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after = retry_after


def _read(response: httpx.Response, call: Call[Answer]) -> Answer:
    """What a good answer holds; raises what an error answer says."""
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
    except (ValueError, ValidationError, TypeError, KeyError):  # from something between client and service
        problem = Problem(title=response.reason_phrase, status=response.status_code, detail=response.text[:200])
    seconds = response.headers.get("retry-after", "")
    raise ServiceProblem(problem, float(seconds) if seconds.isdigit() else None)


def _settings(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    return {"base_url": url, "timeout": timeout, "headers": {} if key is None else {"Authorization": f"Bearer {key}"}}


class Client:
    """Synchronous client; one object may be used from many threads.

    Args:
        url: of the service.
        key: to send with every request.
        timeout: seconds.
        http: client to send with instead of a new one.

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
        """Photos that a sketch (path or bytes) depicts; options are those of ``service.schemas.SearchOptions``."""
        return self._ask(calls.search(sketch, options))

    def search_like(self, photo_id: int, **options: Unpack[SearchKeywords]) -> SearchResponse:
        """Photos like a photo of the gallery."""
        return self._ask(calls.search_like(photo_id, options))

    def search_batch(self, sketches: Sequence[Image], **options: Unpack[SearchKeywords]) -> BatchResponse:
        """Several searches with the same options; each has an outcome of its own."""
        return self._ask(calls.search_batch(sketches, options))

    def embed(
        self, images: Sequence[Image], *, input_type: Modality = "sketch", dimensions: int | None = None
    ) -> EmbeddingResponse:
        """Embeddings of sketches or photos."""
        return self._ask(calls.embed(images, input_type, dimensions))

    def add_photo(self, photo: Image, *, label: str | None = None, metadata: dict[str, Any] | None = None) -> PhotoInfo:
        """Adds a photo; searches find it at once."""
        return self._ask(calls.add_photo(photo, label, metadata))

    def photo(self, photo_id: int) -> PhotoInfo:
        """Facts about a photo."""
        return self._ask(calls.photo(photo_id))

    def photos(self, *, limit: int = 100, after: int = 0) -> PhotoPage:
        """Photos by id; ``next_after`` of a page is ``after`` of the next."""
        return self._ask(calls.photos(limit, after))

    def describe_photo(self, photo_id: int, **changes: Unpack[PhotoChanges]) -> PhotoInfo:
        """Changes ``label`` or ``metadata``."""
        return self._ask(calls.describe_photo(photo_id, changes))

    def remove_photo(self, photo_id: int) -> None:
        """Removes a photo."""
        self._ask(calls.remove_photo(photo_id))

    def image(self, photo_id: int, *, size: int | None = None) -> bytes:
        """The photo's file; with ``size``, a WebP that fits a square of so many pixels."""
        return self._ask(calls.image(photo_id, size))

    def gallery(self) -> GalleryInfo:
        """What the gallery holds."""
        return self._ask(calls.GALLERY)

    def reload(self) -> GalleryInfo:
        """Switches the service to the published generation."""
        return self._ask(calls.RELOAD)

    def models(self) -> ModelList:
        """The model in service."""
        return self._ask(calls.MODELS)

    def _ask(self, call: Call[Answer]) -> Answer:
        return _read(self._http.request(call.method, call.path, **call.arguments), call)


class AsyncClient:
    """Asynchronous client; see ``Client``.

    Args:
        url: of the service.
        key: to send with every request.
        timeout: seconds.
        http: client to send with instead of a new one.
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
