"""The commands that look at a gallery: ``svdraw index info``, ``verify`` and ``search``."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from index.commands.options import DEVICE, GALLERY, JsonFlag
from index.errors import GalleryDamaged, IndexingError
from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery
from index.gallery.expansion import expanded
from index.gallery.filters import parse_filter
from index.gallery.generations import read_generation
from index.gallery.precision import recorded_precision
from index.gallery.relevance import UNCALIBRATED, hit_relevance
from index.gallery.searcher import Choices, Hit, Searcher
from index.shards.layout import are_shards
from index.shards.searching import Shards
from training.base.command_line import Options, Settings
from training.base.errors import ImageError
from training.drawings.ink import BLANK, is_blank
from training.model.bundle import Bundle, load_bundle
from training.model.images import open_image
from training.model.manifest import read_manifest
from training.model.starter import terms_of

__all__ = ["info", "search", "verify"]


class Info(Settings):
    """Options of ``svdraw index info``."""

    gallery: Path = Field(description=GALLERY)
    as_json: JsonFlag = Field(False, description="print JSON")


def info(*, settings: Options[Info]) -> None:
    """Prints what a gallery holds."""
    facts: dict[str, Any] = read_generation(settings.gallery).model_dump(mode="json")
    with closing(Gallery.open(settings.gallery)) as gallery:
        facts["catalogue_count"] = gallery.catalogue.count()
        facts["without_colors"] = gallery.catalogue.colors.count_missing()
        facts["filterable"] = json.loads(gallery.catalogue.fact("filterable") or "[]")
        facts["precision"] = (recorded_precision(gallery.catalogue) or "")[:4]
        facts["up_to_date"] = facts["revision"] == gallery.catalogue.revision
        model = read_manifest(gallery.model_directory)
        facts["views"] = model.encoders.photo.views
        terms = terms_of(model)
        facts["model_terms"] = f"{terms.name}: {terms.summary}" if terms else None
    print(json.dumps(facts) if settings.as_json else _aligned([(name, str(value)) for name, value in facts.items()]))


class Verify(Settings):
    """Options of ``svdraw index verify``."""

    gallery: Path = Field(description=GALLERY)
    repair: bool = Field(False, description="rebuild everything that can be rebuilt from the catalogue")


def verify(*, settings: Options[Verify]) -> None:
    """Checks that catalogue, model and search index of a gallery agree."""
    with closing(Gallery.open(settings.gallery, write=settings.repair)) as gallery:
        problems = gallery.problems()
        if problems and settings.repair:
            print("\n".join(problems))
            gallery.publish()
            problems = gallery.problems()
        if problems:
            raise GalleryDamaged("; ".join(problems))
        print(f"{settings.gallery} is whole: {gallery.catalogue.count()} photos")


class Search(Settings):
    """Options of ``svdraw index search``."""

    gallery: Path = Field(description=f"{GALLERY}, or of shards")
    sketch: Path = Field(description="image file of a sketch, or an SVG drawing")
    limit: int = Field(10, ge=1, description="number of photos to print")
    offset: int = Field(0, ge=0, description="number of best photos to skip")
    dimensions: int | None = Field(
        None,
        ge=1,
        description="number of leading coordinates to compare; by default as many as found most in training",
    )
    score_threshold: float | None = Field(None, description="leave out photos with a lower score")
    min_relevance: float | None = Field(
        None, ge=0, le=1, description="leave out photos of lower relevance; only with a calibrated model"
    )
    filter: str | None = Field(
        None, description="""JSON filter of photos, such as {"label": "castle", "color": ["red", "#ff8000"]}"""
    )
    unique: bool = Field(False, description="keep one of each set of identical files")
    recall: float | None = Field(
        None, gt=0, le=1, description="recall to aim at; 1 is exact; by default the recall target of the gallery"
    )
    expand: float = Field(
        0, ge=0, le=4, description="weight of the first ten photos found in a second search, such as 0.25; 0 for none"
    )
    as_json: JsonFlag = Field(False, description="print JSON")
    device: str = Field("auto", description=DEVICE)


def search(*, settings: Options[Search]) -> None:
    """Finds the photos that a sketch depicts."""
    with _opened(settings) as (searcher, catalogue, model):
        bundle = load_bundle(model, settings.device)
        found = _found(settings, catalogue, searcher, bundle)
        photos = catalogue.photos([hit.id for hit, _ in found])
    rows = [(hit.score, relevance, photos[hit.id]) for hit, relevance in found if hit.id in photos]
    if settings.as_json:
        facts = [{"score": score, "relevance": relevance, **photo._asdict()} for score, relevance, photo in rows]
        print(json.dumps({"results": facts}))
    else:
        print(_aligned([(_scores(*row[:2]), f"{row[2].id}  {row[2].label or ''}  {row[2].uri}") for row in rows]))


@contextmanager
def _opened(settings: Search) -> Iterator[tuple[Searcher | Shards, Catalogue | Shards, Path]]:
    """What to search, what knows the photos, and the folder of the model: of a gallery, or of shards."""
    if are_shards(settings.gallery):
        with closing(Shards.open(settings.gallery, settings.device)) as shards:
            yield shards, shards, shards.model_directory
        return
    searcher = Searcher.open(settings.gallery, settings.device)
    with closing(Gallery.open(settings.gallery)) as gallery:
        yield searcher, gallery.catalogue, gallery.model_directory


def _found(
    settings: Search, catalogue: Catalogue | Shards, searcher: Searcher | Shards, bundle: Bundle
) -> list[tuple[Hit, float] | tuple[Hit, None]]:
    """What is found, with its relevance where the model can tell it."""
    calibration, least = bundle.manifest.calibration, settings.min_relevance
    if calibration is None and least is not None:
        raise IndexingError(f"--min-relevance cannot be used: {UNCALIBRATED}")
    if settings.expand and least is not None:
        raise IndexingError("--min-relevance cannot be used with --expand, whose results have no relevance")
    query = _embedded(bundle, settings.sketch)
    dimensions = settings.dimensions or bundle.default_dimensions
    only = None if settings.filter is None else catalogue.select(parse_filter(settings.filter))
    choices = Choices(recall=settings.recall, ids=only, unique=settings.unique)
    if settings.expand:
        query = expanded(searcher, query, settings.expand, dimensions=dimensions, **choices)
    [hits] = searcher.search(
        query[None],
        settings.limit,
        dimensions=dimensions,
        offset=settings.offset,
        score_threshold=settings.score_threshold,
        **choices,
    )
    if calibration is None or settings.expand:
        return [(hit, None) for hit in hits]
    relevance = hit_relevance(searcher, calibration, query, dimensions, hits)
    return [(hit, value) for hit, value in zip(hits, relevance, strict=True) if least is None or value >= least]


def _embedded(bundle: Bundle, sketch: Path) -> NDArray[np.float32]:
    """The embedding of a sketch's file, ``(dim,)``."""
    try:
        image = open_image(sketch, drawing=True)
    except ImageError as error:
        raise IndexingError(f"{sketch}: {error.reason}") from error
    preprocessing = bundle.sketch.preprocessing
    arranged = preprocessing.arrange(image)
    if is_blank(arranged):
        raise IndexingError(f"{sketch}: {BLANK}")
    embedding: NDArray[np.float32] = bundle.encode(bundle.sketch, preprocessing.tensor(arranged)[None])[0]
    return embedding


def _scores(score: float, relevance: float | None) -> str:
    return f"{score:.4f}" + ("" if relevance is None else f"  {relevance:.1%}")


def _aligned(rows: Sequence[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
