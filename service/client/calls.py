"""The requests of the clients, independent of how they are sent."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar

from service.schemas import (
    BatchResponse,
    EmbeddingResponse,
    GalleryInfo,
    ModelList,
    PhotoInfo,
    PhotoPage,
    SearchResponse,
)

__all__ = [
    "GALLERY",
    "MODELS",
    "RELOAD",
    "Call",
    "Image",
    "Modality",
    "PhotoChanges",
    "SearchKeywords",
    "SearchPart",
    "add_photo",
    "describe_photo",
    "embed",
    "image",
    "photo",
    "photos",
    "remove_photo",
    "search",
    "search_batch",
    "search_combined",
    "search_like",
    "search_photo",
]

Image = str | Path | bytes
Modality = Literal["sketch", "photo"]
Answer = TypeVar("Answer")


class SearchKeywords(TypedDict, total=False):
    """Options of a search; ``service.searches.SearchOptions`` describes them. None is the same as leaving one out."""

    limit: int
    offset: int
    dimensions: int | None
    score_threshold: float | None
    min_relevance: float | None
    filter: dict[str, Any] | None
    unique: bool
    recall: float | None
    expand: float
    positive: Sequence[int]
    negative: Sequence[int]
    with_payload: bool
    with_contributions: bool
    learn: bool


class SearchPart(TypedDict, total=False):
    """One of several queries: a sketch, a photo of one's own, or a photo of the gallery, and how much it counts.

    ``crop`` is the part of the photo to search by: x, y, width and height in pixels.
    """

    sketch: Image
    photo: Image
    photo_id: int
    crop: tuple[int, int, int, int]
    weight: float


class PhotoChanges(TypedDict, total=False):
    """The facts about a photo that a client can change."""

    label: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """A request, and the function that reads its answer."""

    method: str
    path: str
    read: Callable[[bytes], Answer]
    arguments: dict[str, Any] = field(default_factory=dict)


def _nothing(content: bytes) -> None:
    """Reads an answer without a body."""


def search(sketch: Image, options: SearchKeywords) -> Call[SearchResponse]:
    """Search by a sketch."""
    headers = {"Content-Type": "application/octet-stream"}
    params = {name: _parameter(value) for name, value in options.items() if value is not None}
    arguments = {"content": _content(sketch), "params": params, "headers": headers}
    return Call("POST", "/v1/search", SearchResponse.model_validate_json, arguments)


def search_like(photo_id: int, options: SearchKeywords) -> Call[SearchResponse]:
    """Search by a photo of the gallery."""
    return Call("POST", "/v1/search", SearchResponse.model_validate_json, {"json": {"photo_id": photo_id, **options}})


def search_photo(photo: Image, crop: tuple[int, int, int, int] | None, options: SearchKeywords) -> Call[SearchResponse]:
    """Search by a photo of one's own."""
    body = {"photo": _encoded(photo), "crop": crop, **options}
    return Call("POST", "/v1/search", SearchResponse.model_validate_json, {"json": body})


def search_combined(parts: Sequence[SearchPart], options: SearchKeywords) -> Call[SearchResponse]:
    """Search by several sketches and photos."""
    body = {"queries": [_part(part) for part in parts], **options}
    return Call("POST", "/v1/search", SearchResponse.model_validate_json, {"json": body})


def search_batch(sketches: Sequence[Image], options: SearchKeywords) -> Call[BatchResponse]:
    """Search by several sketches at once."""
    searches = [{"image": _encoded(sketch), **options} for sketch in sketches]
    return Call("POST", "/v1/search/batch", BatchResponse.model_validate_json, {"json": {"searches": searches}})


def embed(images: Sequence[Image], input_type: Modality, dimensions: int | None) -> Call[EmbeddingResponse]:
    """Computation of the embeddings of images."""
    body = {"input": [_encoded(image) for image in images], "input_type": input_type, "dimensions": dimensions}
    return Call("POST", "/v1/embeddings", EmbeddingResponse.model_validate_json, {"json": body})


def add_photo(photo: Image, label: str | None, metadata: dict[str, Any] | None) -> Call[PhotoInfo]:
    """Addition of a photo."""
    data = {"metadata": json.dumps(metadata or {})} | ({} if label is None else {"label": label})
    arguments = {"files": {"file": _content(photo)}, "data": data}
    return Call("POST", "/v1/photos", PhotoInfo.model_validate_json, arguments)


def photo(photo_id: int) -> Call[PhotoInfo]:
    """Facts about one photo."""
    return Call("GET", f"/v1/photos/{photo_id}", PhotoInfo.model_validate_json)


def photos(limit: int, after: int) -> Call[PhotoPage]:
    """One page of the list of photos."""
    return Call("GET", "/v1/photos", PhotoPage.model_validate_json, {"params": {"limit": limit, "after": after}})


def describe_photo(photo_id: int, changes: PhotoChanges) -> Call[PhotoInfo]:
    """Change of a photo's label or metadata."""
    return Call("PATCH", f"/v1/photos/{photo_id}", PhotoInfo.model_validate_json, {"json": changes})


def remove_photo(photo_id: int) -> Call[None]:
    """Removal of a photo."""
    return Call("DELETE", f"/v1/photos/{photo_id}", _nothing)


def image(photo_id: int, size: int | None) -> Call[bytes]:
    """A photo's file, or its thumbnail."""
    if size is None:
        return Call("GET", f"/v1/photos/{photo_id}/image", bytes, {"params": {"original": True}})
    return Call("GET", f"/v1/photos/{photo_id}/thumbnail", bytes, {"params": {"size": size}})


GALLERY = Call("GET", "/v1/gallery", GalleryInfo.model_validate_json)
RELOAD = Call("POST", "/v1/gallery/reload", GalleryInfo.model_validate_json)
MODELS = Call("GET", "/v1/models", ModelList.model_validate_json)


def _content(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _parameter(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, Sequence) else value


def _part(part: SearchPart) -> dict[str, Any]:
    query: dict[str, Any] = {**part}
    if "sketch" in part:
        query["image"] = _encoded(query.pop("sketch"))
    if "photo" in part:
        query["photo"] = _encoded(part["photo"])
    return query


def _encoded(image: Image) -> str:
    return base64.b64encode(_content(image)).decode()
