"""GET /v1/photos/...: facts, image and thumbnail of a photo. Only photos of the gallery can be read."""

import io
import mimetypes
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from index.sources import read_uri
from service.dependencies import PhotoDependency
from service.errors import RequestProblem
from service.problems import PROBLEM_RESPONSES
from training.errors import ImageError
from training.images import open_image

__all__ = ["router"]

router = APIRouter(prefix="/v1/photos", tags=["photos"], responses={404: PROBLEM_RESPONSES[404]})

_CACHED = "private, max-age=3600"
_WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}}, 304: {"description": "Not Modified"}}


class PhotoInfo(BaseModel):
    """A photo of the gallery; ``bytes`` is the size of its file."""

    id: int
    uri: str
    sha256: str
    bytes: int
    width: int
    height: int
    label: str | None
    metadata: dict[str, Any]


@router.get("/{photo_id}", responses={422: PROBLEM_RESPONSES[422], 503: PROBLEM_RESPONSES[503]})
def photo_info(photo: PhotoDependency) -> PhotoInfo:
    """Facts about a photo."""
    return PhotoInfo(**photo._asdict())


@router.get(
    "/{photo_id}/image",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, 304: {"description": "Not Modified"}},
)
def photo_image(request: Request, photo: PhotoDependency) -> Response:
    """The photo's file, as it was indexed."""
    etag = f'"{photo.sha256}"'
    if _matches(request, etag):
        return _not_modified(etag)
    media_type = mimetypes.guess_type(photo.uri)[0] or "application/octet-stream"
    if not media_type.startswith("image/") or "svg" in media_type:
        media_type = "application/octet-stream"
    return Response(_read_uri(photo.uri), media_type=media_type, headers={"ETag": etag, "Cache-Control": _CACHED})


@router.get("/{photo_id}/thumbnail", response_class=Response, responses=_WEBP)
def photo_thumbnail(
    request: Request, photo: PhotoDependency, size: Annotated[int, Query(ge=32, le=1024)] = 256
) -> Response:
    """The photo as WebP, scaled down to fit a square of ``size`` pixels."""
    etag = f'"{photo.sha256[:32]}-{size}"'
    if _matches(request, etag):
        return _not_modified(etag)
    content = _thumbnail(photo.uri, photo.sha256, size)
    return Response(content, media_type="image/webp", headers={"ETag": etag, "Cache-Control": _CACHED})


@lru_cache(maxsize=4096)
def _thumbnail(uri: str, sha256: str, size: int) -> bytes:
    try:
        image = open_image(_read_uri(uri), draft=size)
    except ImageError as error:
        raise RequestProblem(404, f"the photo's file is not an image any more: {error.reason}") from error
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return buffer.getvalue()


def _read_uri(uri: str) -> bytes:
    try:
        return read_uri(uri)
    except OSError as error:
        raise RequestProblem(404, "the photo's file is not there any more") from error


def _matches(request: Request, etag: str) -> bool:
    return etag in (tag.strip() for tag in request.headers.get("if-none-match", "").split(","))


def _not_modified(etag: str) -> Response:
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": _CACHED})
