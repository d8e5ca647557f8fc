"""The commands of the index package: ``svdraw index build`` and its siblings."""

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import Field, model_validator

from index.accelerators.kinds import KindChoice
from index.errors import GalleryDamaged, IndexingError
from index.gallery.directory import Gallery
from index.gallery.filters import parse_filter
from index.gallery.generations import read_generation
from index.gallery.searcher import Searcher
from index.gallery.snapshots import restore as restore_snapshot
from index.gallery.snapshots import snapshot as write_snapshot
from index.jobs import ALLOW_REMOVING, index_photos, remove_photos, sync_photos
from index.jobs import compact as compact_gallery
from index.moves import relocate as relocate_photos
from index.names import ids_of
from index.sources import Listing, list_photos
from training.base.command_line import Many, Options, Settings
from training.base.errors import ImageError
from training.model.bundle import load_bundle, read_manifest
from training.model.images import MAX_PIXELS, open_image
from training.model.starter import STARTER_MODEL, terms_of

__all__ = [
    "add",
    "build",
    "compact",
    "info",
    "publish",
    "relocate",
    "remove",
    "restore",
    "search",
    "snapshot",
    "sync",
    "verify",
]

_PHOTOS = (
    "photos: a folder or its URI, a list of paths or URIs, or a table (.csv, .tsv, .jsonl, .parquet) with a column uri"
)
_FOLLOW_LINKS = "also search folders that links in the folder lead to"
_MAX_PIXELS = "largest photo that is decoded, width times height"
_GALLERY = "folder of the gallery"
_DEVICE = "device to compute on: auto, cpu, cuda or cuda:N"
_KIND = "kind of index; auto measures which is fastest; the gallery keeps the choice"
_FILTERABLE = (
    "fields that filters find quickly: label, width, height, bytes or names of metadata, joined by commas; "
    "the gallery keeps the choice"
)
_NEIGHBOURS = (
    "number of the most similar photos that each photo's vector takes in, by default 10; 0 for none; "
    "the gallery keeps the choice"
)
_RECALL = "recall@10 that searches aim at; 1 is exact; the gallery keeps the choice"

_Names = Annotated[
    list[str],
    Parameter(negative_iterable="", show_default=False, env_var_split=lambda hint, value, delimiter=None: [value]),
]
_Json = Annotated[bool, Parameter(name="--json")]


class _Source(Settings):
    """Where photos come from, and what embeds them."""

    photos: str = Field(description=_PHOTOS)
    encoding: str | None = Field(
        None, description="encoding of a list or a CSV table, such as shift_jis; by default UTF-8, else Windows-1252"
    )
    follow_links: bool = Field(False, description=_FOLLOW_LINKS)
    max_pixels: int = Field(MAX_PIXELS, ge=1, description=_MAX_PIXELS)
    device: str = Field("auto", description=_DEVICE)

    def listing(self) -> Listing:
        return list_photos(self.photos, encoding=self.encoding, follow_links=self.follow_links)


class Build(_Source):
    """Options of ``svdraw index build``."""

    out: Path = Field(description="folder of the new gallery, or of one to bring up to date")
    model: Path = Field(
        STARTER_MODEL, description="model bundle, made by `svdraw fit`; by default the one that ships with svdraw"
    )
    kind: KindChoice | None = Field(None, description=_KIND)
    recall: float | None = Field(None, gt=0, le=1, description=_RECALL)
    neighbours: int | None = Field(None, ge=0, le=100, description=_NEIGHBOURS)
    filterable: Many[str] | None = Field(None, description=_FILTERABLE)


def build(*, settings: Options[Build]) -> None:
    """Embeds photos and builds a gallery; a further run goes on where one stopped, or brings it up to date."""
    candidates = settings.listing()
    with closing(Gallery.create(settings.out, settings.model)) as gallery:
        gallery.configure(settings.kind, settings.recall, settings.neighbours)
        gallery.make_filterable(settings.filterable)
        _report(gallery, index_photos(gallery, candidates, settings.device, max_pixels=settings.max_pixels))


class Add(_Source):
    """Options of ``svdraw index add``."""

    gallery: Path = Field(description=_GALLERY)


def add(*, settings: Options[Add]) -> None:
    """Adds photos to a gallery."""
    candidates = settings.listing()
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        _report(gallery, index_photos(gallery, candidates, settings.device, max_pixels=settings.max_pixels))


class Sync(Settings):
    """Options of ``svdraw index sync``."""

    gallery: Path = Field(description=_GALLERY)
    photos: Path = Field(description="folder of photos; photos of the gallery that lie elsewhere stay as they are")
    device: str = Field("auto", description=_DEVICE)
    allow_removing: float = Field(
        ALLOW_REMOVING,
        ge=0,
        le=100,
        description="percentage of the gallery's photos in the folder that may be gone; with more nothing is removed",
    )
    follow_links: bool = Field(False, description=_FOLLOW_LINKS)
    max_pixels: int = Field(MAX_PIXELS, ge=1, description=_MAX_PIXELS)


def sync(*, settings: Options[Sync]) -> None:
    """Makes a gallery agree with a folder: adds new photos, embeds changed ones, and removes those that are gone."""
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        options = settings.model_dump(include={"allow_removing", "follow_links", "max_pixels"})
        report = sync_photos(gallery, settings.photos, settings.device, **options)
        _report(gallery, report)


class Relocate(Settings):
    """Options of ``svdraw index relocate``."""

    gallery: Path = Field(description=_GALLERY)
    old: str = Field(description="folder of photos, or prefix of URIs, as it was called when they were indexed")
    new: str = Field(description="the same as it is called now")
    dry_run: bool = Field(False, description="only print what would change")


def relocate(*, settings: Options[Relocate]) -> None:
    """Tells a gallery where a folder of photos is now; photos keep their ids and are not read."""
    with closing(Gallery.open(settings.gallery, write=not settings.dry_run)) as gallery:
        plan = relocate_photos(gallery, settings.old, settings.new, dry_run=settings.dry_run)
        print(f"{'would relocate' if settings.dry_run else 'relocated'} {plan}")


class Compact(Settings):
    """Options of ``svdraw index compact``."""

    gallery: Path = Field(description=_GALLERY)
    kind: KindChoice | None = Field(None, description=_KIND)
    recall: float | None = Field(None, gt=0, le=1, description=_RECALL)
    neighbours: int | None = Field(None, ge=0, le=100, description=_NEIGHBOURS)
    filterable: Many[str] | None = Field(None, description=_FILTERABLE)


def compact(*, settings: Options[Compact]) -> None:
    """Rebuilds the search index from the catalogue, and frees the space that removed photos took."""
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        gallery.configure(settings.kind, settings.recall, settings.neighbours)
        gallery.make_filterable(settings.filterable)
        manifest = compact_gallery(gallery)
        print(f"{settings.gallery}: {manifest.count} photos, kind {manifest.kind}, generation {manifest.generation}")


class Publish(Settings):
    """Options of ``svdraw index publish``."""

    gallery: Path = Field(description=_GALLERY)


def publish(*, settings: Options[Publish]) -> None:
    """Publishes what changed since the last generation, and builds a new base when that is due; a service does both."""
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        manifest = gallery.publish_changes()
        print(f"{settings.gallery}: {manifest.count} photos, generation {manifest.generation}")


class Snapshot(Settings):
    """Options of ``svdraw index snapshot``."""

    gallery: Path = Field(description=_GALLERY)
    out: Path = Field(description="new folder for the snapshot")


def snapshot(*, settings: Options[Snapshot]) -> None:
    """Copies catalogue and model, from which a gallery can be rebuilt, but no photos; jobs may run at the same time."""
    with closing(Gallery.open(settings.gallery)) as gallery:
        print(f"{settings.out}: {write_snapshot(gallery, settings.out).count} photos")


class Restore(Settings):
    """Options of ``svdraw index restore``."""

    snapshot: Path = Field(description="folder of the snapshot")
    out: Path = Field(description="folder of the new gallery")


def restore(*, settings: Options[Restore]) -> None:
    """Makes a new gallery from a snapshot and publishes its first generation."""
    print(f"{settings.out}: {restore_snapshot(settings.snapshot, settings.out).count} photos")


class Remove(Settings):
    """Options of ``svdraw index remove``."""

    gallery: Path = Field(description=_GALLERY)
    ids: Many[int] = Field([], description="ids of the photos, joined by commas: --ids 17,18")
    uris: _Names = Field(
        [], description="path or URI of a photo; give the option once for each, or join names without commas by commas"
    )

    @model_validator(mode="after")
    def _names_something(self) -> "Remove":
        if not self.ids and not self.uris:
            raise ValueError("name the photos with --ids or --uris")
        return self


def remove(*, settings: Options[Remove]) -> None:
    """Removes photos from a gallery; their files are left alone."""
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        removed = remove_photos(gallery, [*settings.ids, *ids_of(gallery, settings.uris)])
        print(f"{removed} removed, {gallery.catalogue.count()} left")


class Info(Settings):
    """Options of ``svdraw index info``."""

    gallery: Path = Field(description=_GALLERY)
    as_json: _Json = Field(False, description="print JSON")


def info(*, settings: Options[Info]) -> None:
    """Prints what a gallery holds."""
    facts: dict[str, Any] = read_generation(settings.gallery).model_dump(mode="json")
    with closing(Gallery.open(settings.gallery)) as gallery:
        facts["catalogue_count"] = gallery.catalogue.count()
        facts["filterable"] = json.loads(gallery.catalogue.fact("filterable") or "[]")
        facts["up_to_date"] = facts["revision"] == gallery.catalogue.revision
        terms = terms_of(read_manifest(gallery.model_directory))
        facts["model_terms"] = f"{terms.name}: {terms.summary}" if terms else None
    print(json.dumps(facts) if settings.as_json else _aligned([(name, str(value)) for name, value in facts.items()]))


class Verify(Settings):
    """Options of ``svdraw index verify``."""

    gallery: Path = Field(description=_GALLERY)
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

    gallery: Path = Field(description=_GALLERY)
    sketch: Path = Field(description="image file of a sketch, or an SVG drawing")
    limit: int = Field(10, ge=1, description="number of photos to print")
    offset: int = Field(0, ge=0, description="number of best photos to skip")
    dimensions: int | None = Field(
        None,
        ge=1,
        description="number of leading coordinates to compare; by default as many as found most in training",
    )
    score_threshold: float | None = Field(None, description="leave out photos with a lower score")
    filter: str | None = Field(
        None, description="""JSON filter of photos, such as {"label": "castle", "year": {"gte": 1900}}"""
    )
    unique: bool = Field(False, description="keep one of each set of identical files")
    recall: float | None = Field(
        None, gt=0, le=1, description="recall to aim at; 1 is exact; by default the recall target of the gallery"
    )
    as_json: _Json = Field(False, description="print JSON")
    device: str = Field("auto", description=_DEVICE)


def search(*, settings: Options[Search]) -> None:
    """Finds the photos that a sketch depicts."""
    try:
        sketch = open_image(settings.sketch, drawing=True)
    except ImageError as error:
        raise IndexingError(f"{settings.sketch}: {error.reason}") from error
    searcher = Searcher.open(settings.gallery, settings.device)
    with closing(Gallery.open(settings.gallery)) as gallery:
        bundle = load_bundle(gallery.model_directory, settings.device)
        hits = searcher.search(
            bundle.encode_sketches([sketch]),
            settings.limit,
            dimensions=settings.dimensions or bundle.default_dimensions,
            offset=settings.offset,
            score_threshold=settings.score_threshold,
            recall=settings.recall,
            ids=None if settings.filter is None else gallery.catalogue.select(parse_filter(settings.filter)),
            unique=settings.unique,
        )[0]
        photos = gallery.catalogue.photos([hit.id for hit in hits])
    rows = [(hit, photos[hit.id]) for hit in hits if hit.id in photos]
    if settings.as_json:
        print(json.dumps({"results": [{"score": hit.score, **photo._asdict()} for hit, photo in rows]}))
    else:
        lines = [(f"{hit.score:.4f}", f"{photo.id}  {photo.label or ''}  {photo.uri}") for hit, photo in rows]
        print(_aligned(lines))


def _report(gallery: Gallery, report: object) -> None:
    manifest = read_generation(gallery.path)
    print(f"{report}\n{gallery.path}: {manifest.count} photos, generation {manifest.generation}")


def _aligned(rows: list[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
