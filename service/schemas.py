"""What goes over the wire: used by the routes, the OpenAPI document and the client. Imports nothing heavy."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.json_fields import Metadata

__all__ = [
    "BatchItem",
    "BatchResponse",
    "Embedding",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "GalleryInfo",
    "ModelInfo",
    "ModelList",
    "PhotoDescription",
    "PhotoInfo",
    "PhotoPage",
    "Problem",
    "SearchResponse",
    "SearchResult",
    "Status",
    "Usage",
]

MAX_ID = 2**63 - 1
_COMPLETE = "whether all shards of the gallery have answered"
_MISSING = "numbers of the shards whose photos are missing in the results, because they did not answer in time"
_COLORS = "names of the photo's colours, by descending share; null if they were never measured"


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


class SearchResult(BaseModel):
    """A photo and its score, the inner product of the truncated embeddings."""

    id: int
    score: float
    relevance: float | None = Field(
        None,
        description="probability that the photo shows what was drawn, 0 to 1; null if the model is not calibrated, or "
        "the search is not for a single sketch",
    )
    image_url: str
    thumbnail_url: str
    width: int
    height: int
    colors: list[str] | None = Field(None, description=_COLORS)
    uri: str | None = None
    label: str | None = None
    metadata: dict[str, Any] | None = None
    contributions: list[float] | None = Field(
        None, description="by coordinate; with the answer's `baseline` they add up to the score"
    )


class SearchResponse(BaseModel):
    """Photos in descending order of score."""

    results: list[SearchResult]
    dimensions: int = Field(description="coordinates compared")
    baseline: float = Field(description="the query's score with the mean of the photos, a part of every score")
    total: int = Field(description="photos in the gallery")
    generation: int = Field(description="generation of the gallery that answered")
    complete: bool = Field(True, description=_COMPLETE)
    missing_shards: list[int] = Field([], description=_MISSING)


class BatchItem(BaseModel):
    """Outcome of one search of a batch: results, or the problem of this one alone."""

    status: int
    results: list[SearchResult] | None = None
    dimensions: int | None = None
    baseline: float | None = None
    problem: Problem | None = None


class BatchResponse(BaseModel):
    """Outcomes in the order of the searches."""

    items: list[BatchItem]
    total: int
    generation: int
    complete: bool = Field(True, description=_COMPLETE)
    missing_shards: list[int] = Field([], description=_MISSING)


class EmbeddingRequest(BaseModel):
    """Images to embed, in the shape of OpenAI's API."""

    model_config = ConfigDict(extra="forbid")

    input: str | list[str] = Field(description="images: base64, or data URIs")
    model: str | None = Field(None, max_length=200, description="digest of the model expected; any when omitted")
    input_type: Literal["sketch", "photo"] = Field("sketch", description="which encoder")
    dimensions: int | None = Field(None, ge=1, le=1_000_000, description="keep only so many leading coordinates")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: little-endian float32")
    user: str | None = Field(None, description="accepted and ignored")


class Embedding(BaseModel):
    """One embedding; coordinates come ordered by singular value."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Images have no tokens."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingResponse(BaseModel):
    """Embeddings in the order of the input."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage = Usage()


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
    colors: list[str] | None = Field(None, description=_COLORS)


class PhotoPage(BaseModel):
    """Photos by id."""

    photos: list[PhotoInfo]
    next_after: int | None = Field(description="`after` of the next page; null on the last one")


class PhotoDescription(BaseModel):
    """What can be said of a photo; what is left out stays as it is, metadata is replaced as a whole."""

    model_config = ConfigDict(extra="forbid")

    label: str | None = Field(None, max_length=1000)
    metadata: Metadata = Field({}, description="any JSON object")


class GalleryInfo(BaseModel):
    """The served generation of the gallery."""

    photos: int
    dim: int = Field(description="embedding coordinates; `dimensions` of a search goes up to this")
    default_dimensions: int = Field(
        description="`dimensions` of a search that does not say: those that found most on held-out classes"
    )
    generation: int
    live_changes: int = Field(description="photos added or removed since the generation was published")
    created: str
    kind: str = Field(description="of index")
    recall: float = Field(description="share of the true best that a search aims at if it does not say")
    model: str = Field(description="digest of the model")
    spectrum: list[float] = Field(description="what each coordinate weighs in this gallery, descending")
    colors: list[str] = Field(description="colours that photos can be filtered by, for some have them")
    shards: int = Field(1, description="number of galleries that the photos are split into")
    sketches: int = Field(description="number of drawn sketches that the order of coordinates was learned from")


class ModelInfo(BaseModel):
    """A model."""

    id: str = Field(description="digest")
    object: str = "model"
    created: str
    backbone: str
    dim: int
    image_size: int


class ModelList(BaseModel):
    """Models in the shape that OpenAI's clients know."""

    object: str = "list"
    data: list[ModelInfo]


class Status(BaseModel):
    """Answer of a probe."""

    status: str = "ok"
