"""What goes over the wire: used by the routes, the OpenAPI document and the client. Imports nothing heavy."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from service.json_fields import Filter, Metadata

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
    "SearchForm",
    "SearchOptions",
    "SearchQuery",
    "SearchRequest",
    "SearchResponse",
    "SearchResult",
    "Status",
    "Usage",
    "WeightedQuery",
]

MAX_ID = 2**63 - 1
MAX_EXAMPLES = 100  # photos that a search names as positive, and as negative
MAX_QUERIES = 16  # of one search
MAX_HITS = 10_000  # the same as index.gallery.searcher.MAX_HITS, which clients need not have


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


def _numbers(value: Any) -> Any:
    """Numbers of a query parameter or a form field, joined by commas; a list of few values passes as it is."""
    values = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    return _few(values)


def _few(values: Any) -> Any:
    """Refuses a long list before its values are looked at one by one."""
    if isinstance(values, list) and len(values) > MAX_EXAMPLES:
        raise ValueError(f"at most {MAX_EXAMPLES} can be given, not {len(values)}")
    return values


PhotoIds = Annotated[list[Annotated[int, Field(ge=1, le=MAX_ID)]], BeforeValidator(_numbers)]
Pixels = Annotated[int, Field(ge=0, le=1_000_000)]
Crop = Annotated[
    tuple[Pixels, Pixels, Annotated[Pixels, Field(ge=1)], Annotated[Pixels, Field(ge=1)]],
    BeforeValidator(_numbers),
    Field(description="part of the photo to search by: x, y, width and height in pixels of the upright photo"),
]


class SearchOptions(BaseModel):
    """Options of a search, as query parameters, form fields or JSON fields."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=1000, description="at most so many photos")
    offset: int = Field(
        0, ge=0, lt=MAX_HITS, description=f"skip so many photos; `offset` and `limit` together are at most {MAX_HITS}"
    )
    dimensions: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="compare only so many leading coordinates; the gallery's `default_dimensions` when omitted",
    )
    score_threshold: float | None = Field(None, allow_inf_nan=False, description="leave out photos with a lower score")
    filter: Filter | None = Field(
        None,
        description='only photos that match, such as {"label": "castle", "year": {"gte": 1900}, "licence": ["CC0"]}; '
        "fields that are no fact of a photo are looked up in its metadata",
    )
    unique: bool = Field(False, description="keep one of each set of identical files, the one with the smallest id")
    recall: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="share of the true best to aim at, 1 for all of them; the gallery's own `recall` when omitted",
    )
    positive: PhotoIds = Field([], description="ids of photos that the results should be like; they are left out")
    negative: PhotoIds = Field([], description="ids of photos that the results should be unlike; they are left out")
    with_payload: bool = Field(True, description="include label, metadata and URI")
    with_contributions: bool = Field(False, description="include what each coordinate adds to the score")


class SearchQuery(SearchOptions):
    """Options of a search as query parameters."""

    filter: str | None = Field(None, description="a JSON object")  # type: ignore[assignment]
    positive: str = Field("", description="ids of photos, joined by commas")  # type: ignore[assignment]
    negative: str = Field("", description="ids of photos, joined by commas")  # type: ignore[assignment]


class SearchForm(SearchOptions):
    """Options of a search as form fields, beside the sketches in ``file`` and the photos in ``photo``."""

    crop: Crop | None = None


class _Subject(BaseModel):
    """What to search by."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = Field(None, description="a sketch: base64, or a data URI")
    photo: str | None = Field(None, description="a photo of one's own: base64, or a data URI")
    photo_id: int | None = Field(None, ge=1, le=MAX_ID, description="a photo of the gallery, which is left out")
    crop: Crop | None = None

    @property
    def _given(self) -> int:
        return sum(value is not None for value in (self.image, self.photo, self.photo_id))

    @model_validator(mode="after")
    def _crop_of_photo(self) -> Self:
        if self.crop is not None and self.photo is None:
            raise ValueError("'crop' is a part of 'photo', which is missing")
        return self


class WeightedQuery(_Subject):
    """One of several queries: a sketch or a photo, and how much it counts."""

    weight: float = Field(1, ge=-100, le=100, description="negative for what the results should be unlike")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self._given != 1:
            raise ValueError("a query has the sketch in 'image', a photo in 'photo' or 'photo_id'; one of them")
        return self


class SearchRequest(SearchOptions, _Subject):
    """A search as JSON: by a sketch, a photo, a photo of the gallery, or several of these."""

    queries: Annotated[list[WeightedQuery], BeforeValidator(_few)] = Field(
        [], max_length=MAX_QUERIES, description="several queries; each counts by its weight"
    )

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if self._given > 1:
            raise ValueError("give 'image', 'photo' or 'photo_id'; one of them, or several in 'queries'")
        if not self.positive and all(query.weight <= 0 for query in self.every_query):
            raise ValueError(
                "give the sketch in 'image', in base64, or 'photo_id', 'photo', 'queries' or 'positive' to search by"
            )
        return self

    @property
    def every_query(self) -> list[WeightedQuery]:
        """The queries with those that are given without a weight."""
        if not self._given:
            return self.queries
        alone = WeightedQuery(image=self.image, photo=self.photo, photo_id=self.photo_id, crop=self.crop)
        return [alone, *self.queries]


class SearchResult(BaseModel):
    """A photo and its score, the inner product of the truncated embeddings."""

    id: int
    score: float
    image_url: str
    thumbnail_url: str
    width: int
    height: int
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
