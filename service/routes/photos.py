"""/v1/photos: list, add, describe and remove photos; their images. Only photos of the gallery can be read."""

from contextlib import ExitStack
from http import HTTPStatus
from typing import Annotated, Any

import anyio.from_thread
import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from index.gallery.photos import Photo
from service.access.admission import reader, writer
from service.dependencies import EngineDependency, ServingDependency, StopwatchDependency, ThumbnailsDependency
from service.engine.pictures import open_photo
from service.engine.thumbnails import SIZES, ladder_size
from service.engine.uploads import prepare_upload
from service.errors import RequestProblem
from service.http.bodies import read_form_or_image, read_json
from service.http.conditional import not_modified
from service.http.files import IMAGE_START, SHOWN_TYPES, image_type, local_file, remote_file
from service.http.openapi import reference
from service.http.problems import documented
from service.http.root_path import root_path
from service.routes.search import body_content
from service.schemas import MAX_ID, PhotoDescription, PhotoInfo, PhotoPage

__all__ = ["router"]

router = APIRouter(prefix="/v1/photos", tags=["photos"], responses=documented(401, 403, 422, 429, 503))

_MAX_LISTED = 4_000_000  # bytes of metadata after which a page of photos ends
_CONVERTED = SIZES[-1]  # pixels of the longer side at most
_CACHED = "private, max-age=3600"
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Not Modified"}}
_PARTIAL: dict[int | str, dict[str, Any]] = {206: {"description": "Partial Content"}}
_WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}}}
_IMAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/*": {}}}}


@router.get("", dependencies=[reader], response_model=PhotoPage)
def list_photos(
    serving: ServingDependency,
    stopwatch: StopwatchDependency,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="an id; photos with larger ones follow")] = 0,
) -> Response:
    """Photos of the gallery, by id. Where they have much metadata, a page has fewer than `limit`."""
    catalogue = serving.catalogue
    with serving.model.place(stopwatch):
        page = catalogue.page(after, limit, most=_MAX_LISTED)
        next_after = page[-1].id if page and catalogue.page(page[-1].id, 1) else None
        answer = PhotoPage(photos=[_info(photo) for photo in page], next_after=next_after)
        return Response(answer.model_dump_json(), media_type="application/json")  # written in this thread


@router.post(
    "",
    status_code=201,
    dependencies=[writer],
    responses={
        200: {"model": PhotoInfo, "description": "The same file was there already; its description was replaced"},
        **documented(400, 408, 409, 413, 415, 507),
    },
    openapi_extra={"requestBody": {"required": True, "content": body_content(PhotoDescription)}},
)
async def add_photo(
    request: Request,
    response: Response,
    engine: EngineDependency,
    serving: ServingDependency,
    stopwatch: StopwatchDependency,
    label: Annotated[str | None, Query(max_length=1000)] = None,
    metadata: Annotated[str | None, Query(description="a JSON object")] = None,
) -> PhotoInfo:
    """Adds a photo, sent as multipart field `file` or as a raw image body; searches find it at once."""
    given = {"label": label, "metadata": metadata}
    content, fields = await read_form_or_image(request)
    fields = {name: value for name, value in given.items() if value is not None} | fields
    description = await anyio.to_thread.run_sync(PhotoDescription.model_validate, fields)
    upload = await engine.workers.run(stopwatch, prepare_upload, serving, content, description, stopwatch)
    photo, new = await engine.add(serving, upload)
    response.status_code = HTTPStatus.CREATED if new else HTTPStatus.OK
    response.headers["Location"] = f"{root_path(request.scope)}/v1/photos/{photo.id}"
    return _info(photo)


@router.get("/{photo_id}", dependencies=[reader], responses=documented(404))
def photo_info(photo_id: int, serving: ServingDependency) -> PhotoInfo:
    """Facts about a photo."""
    return _info(serving.photo(photo_id))


@router.patch(
    "/{photo_id}",
    dependencies=[writer],
    responses=documented(400, 404, 408, 409, 413, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference(PhotoDescription)}},
        }
    },
)
async def describe_photo(
    photo_id: int, request: Request, engine: EngineDependency, serving: ServingDependency
) -> PhotoInfo:
    """Changes label or metadata of a photo; what is left out stays as it is."""
    description = await read_json(request, PhotoDescription.model_validate)
    return _info(await engine.describe(serving, photo_id, description.model_dump(exclude_unset=True)))


@router.delete("/{photo_id}", status_code=204, dependencies=[writer], responses=documented(404, 409, 507))
async def remove_photo(photo_id: int, engine: EngineDependency, serving: ServingDependency) -> None:
    """Removes a photo; searches do not find it any more. Only files that were uploaded are deleted."""
    await engine.remove(serving, photo_id)


@router.get(
    "/{photo_id}/image",
    dependencies=[reader],
    response_class=Response,
    responses={**_IMAGE, **_PARTIAL, **_NOT_MODIFIED, **documented(404, 416)},
)
def photo_image(
    photo_id: int,
    request: Request,
    serving: ServingDependency,
    thumbnails: ThumbnailsDependency,
    original: Annotated[bool, Query(description="the file itself, also where browsers cannot show it")] = False,
) -> Response:
    """The photo's file as it is now, whole or in ranges; as WebP where browsers cannot show the file's format."""
    photo = serving.photo(photo_id)
    opened = open_photo(serving.folder(photo), photo)
    with ExitStack() as unsent:
        unsent.enter_context(opened.file)
        media_type = image_type(opened.file.read(IMAGE_START))
        if media_type is None:
            raise RequestProblem(404, "the photo's file is no longer an image")
        opened.file.seek(0)
        is_shown = original or media_type in SHOWN_TYPES
        version = opened.version if is_shown else f"{opened.version}-{_CONVERTED}"
        headers = {"ETag": f'"{version}"', "Cache-Control": _CACHED}
        if not_modified(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        if not is_shown:
            content = anyio.from_thread.run(thumbnails.get, opened, _CONVERTED)
            return Response(content, media_type="image/webp", headers=headers)
        unsent.pop_all()  # the response closes it
    if opened.is_local:
        return local_file(opened.file, media_type, headers)
    return remote_file(request, opened.file, opened.size, media_type, headers)


@router.get(
    "/{photo_id}/thumbnail",
    dependencies=[reader],
    response_class=Response,
    responses={**_WEBP, **_NOT_MODIFIED, **documented(404)},
)
async def photo_thumbnail(
    photo_id: int,
    request: Request,
    serving: ServingDependency,
    thumbnails: ThumbnailsDependency,
    size: Annotated[int, Query(ge=32, le=1024)] = 256,
) -> Response:
    """The photo as it is now, as WebP, scaled down to fit a square of ``size`` pixels or a little more.

    The square's side is the next of 32, 64, 128, 256, 384, 512, 768 and 1024 pixels.
    """
    side = ladder_size(size)
    photo = await anyio.to_thread.run_sync(serving.photo, photo_id)
    opened = await anyio.to_thread.run_sync(open_photo, serving.folder(photo), photo)
    with opened.file:
        headers = {"ETag": f'"{opened.version}-{side}"', "Cache-Control": _CACHED}
        if not_modified(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        content = await thumbnails.get(opened, side)
        return Response(content, media_type="image/webp", headers=headers)


def _info(photo: Photo) -> PhotoInfo:
    return PhotoInfo(**photo._asdict())
