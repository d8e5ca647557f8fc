"""What a search can ask for: in JSON, as form fields and as query parameters. Imports nothing heavy."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from service.json_fields import Filter
from service.schemas import MAX_ID

__all__ = ["SearchForm", "SearchOptions", "SearchQuery", "SearchRequest", "WeightedQuery"]

MAX_HITS = 10_000  # the same as index.gallery.searcher.MAX_HITS, which clients need not have
MAX_EXAMPLES = 100  # photos that a search names as positive, and as negative
MAX_QUERIES = 16  # of one search


def _numbers(value: Any) -> Any:
    """Numbers of a query parameter or a form field, joined by commas; a list of few values passes as it is."""
    values = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    return _few(values)


def _few(values: Any) -> Any:
    """Refuses a long list before its values are looked at one by one."""
    if isinstance(values, list) and len(values) > MAX_EXAMPLES:
        raise ValueError(f"at most {MAX_EXAMPLES} can be given, not {len(values)}")
    return values


PhotoIds = Annotated[
    list[Annotated[int, Field(ge=1, le=MAX_ID)]], Field(max_length=MAX_EXAMPLES), BeforeValidator(_numbers)
]
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
    min_relevance: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="leave out photos of lower `relevance`; only for a single sketch, with a calibrated model",
    )
    filter: Filter | None = Field(
        None,
        description='only photos that match, such as {"label": "castle", "year": {"gte": 1900}, "color": ["red"]}; '
        "fields that are no fact of a photo are looked up in its metadata, where any member of a list may match",
    )
    unique: bool = Field(False, description="keep one of each set of identical files, the one with the smallest id")
    recall: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="share of the true best to aim at, 1 for all of them; the gallery's own `recall` when omitted",
    )
    expand: float = Field(
        0,
        ge=0,
        le=4,
        allow_inf_nan=False,
        description="how much the first ten photos found count in a second search, 0.25 for instance; 0 for no second "
        "search; finds more photos of a kind, and fewer exact matches",
    )
    positive: PhotoIds = Field([], description="ids of photos that the results should be like; they are left out")
    negative: PhotoIds = Field([], description="ids of photos that the results should be unlike; they are left out")
    with_payload: bool = Field(True, description="include label, metadata and URI")
    with_contributions: bool = Field(False, description="include what each coordinate adds to the score")
    learn: bool = Field(
        True,
        description="let the gallery learn its order of coordinates from the sketch, if it does; false for one that is "
        "still being drawn, or was searched by before",
    )


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

    weight: float = Field(
        1, ge=-100, le=100, allow_inf_nan=False, description="negative for what the results should be unlike"
    )

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
