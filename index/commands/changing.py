"""The commands that change a gallery: ``svdraw index build`` and its siblings."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Self

from cyclopts import Parameter
from pydantic import Field, model_validator

from index.accelerators.kinds import KindChoice
from index.colours import measure_colors
from index.commands.options import (
    DEVICE,
    FOLLOW_LINKS,
    GALLERY,
    MAX_PIXELS_HELP,
    MODEL,
    PHOTOS,
    VIEWS,
    PhotosOptions,
)
from index.errors import PartsError
from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.gallery.precision import PhotoPrecision
from index.jobs import ALLOW_REMOVING, index_photos, remove_photos, sync_photos
from index.jobs import compact as compact_gallery
from index.moves import relocate as relocate_photos
from index.names import ids_of
from training.base.command_line import Many, Options, Settings
from training.model.bundle import bundle_with_views
from training.model.encoders import Views
from training.model.images import MAX_PIXELS
from training.model.manifest import MANIFEST_NAME, read_manifest
from training.model.starter import STARTER_MODEL

__all__ = [
    "add",
    "build",
    "colors",
    "compact",
    "publish",
    "relocate",
    "remove",
    "sync",
]

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


@contextmanager
def _parts_needed() -> Iterator[None]:
    """Says what to install for parts, which nothing else here needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise PartsError(f'--parts needs {error.name}: pip install "svdraw[all]"') from error


class _Source(PhotosOptions):
    """Where photos come from."""

    photos: str | None = Field(None, description=PHOTOS)
    parts: str | None = Field(
        None, description="folder or URI of parts in place of --photos, written by `svdraw index embed` or `export`"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.photos is None) == (self.parts is None):
            raise ValueError("give either --photos or --parts")
        return self

    def prepared(self, precision: PhotoPrecision = "auto") -> Callable[[Gallery], object]:
        """What brings the photos into a gallery and returns what happened; they are listed before there is one."""
        if self.parts is not None:
            with _parts_needed():
                from index.parts.importing import import_parts
            return partial(import_parts, parts=self.parts)
        listing = self.listing(str(self.photos))
        return partial(
            index_photos, photos=listing, device=self.device, max_pixels=self.max_pixels, precision=precision
        )


class Build(_Source):
    """Options of ``svdraw index build``."""

    out: Path = Field(description="folder of the new gallery, or of one to bring up to date")
    model: Path = Field(STARTER_MODEL, description=MODEL)
    views: Views | None = Field(None, description=f"{VIEWS}, or of the gallery")
    precision: PhotoPrecision = Field(
        "auto",
        description="precision that photos are embedded in; auto chooses int8 on a CPU where the model's quality "
        "allows it and it is quicker, else fp32; the gallery keeps the choice",
    )
    kind: KindChoice | None = Field(None, description=_KIND)
    recall: float | None = Field(None, gt=0, le=1, description=_RECALL)
    neighbours: int | None = Field(None, ge=0, le=100, description=_NEIGHBOURS)
    filterable: Many[str] | None = Field(None, description=_FILTERABLE)
    shards: int | None = Field(
        None, ge=1, le=4096, description="make so many galleries of --parts, the shards, in place of one"
    )

    @model_validator(mode="after")
    def _shards_of_parts(self) -> Self:
        if self.shards is not None and (self.parts is None or self.neighbours):
            raise ValueError("--shards needs --parts, and no --neighbours, which would lie in other shards")
        return self


def build(*, settings: Options[Build]) -> None:
    """Embeds photos and builds a gallery; a further run goes on where one stopped, or brings it up to date."""
    if settings.shards is not None:
        _build_shards(settings)
        return
    bring_into = settings.prepared(settings.precision)
    with (
        bundle_with_views(settings.model, settings.views or _views_of(settings.out)) as model,
        closing(Gallery.create(settings.out, model)) as gallery,
    ):
        gallery.configure(settings.kind, settings.recall, settings.neighbours)
        gallery.make_filterable(settings.filterable)
        _report(gallery, bring_into(gallery))


def _build_shards(settings: Build) -> None:
    with _parts_needed():
        from index.shards.building import build_shards
        from index.shards.layout import shard_folder
    chosen = settings.model_dump(include={"out", "parts", "shards", "kind", "recall", "filterable"})
    with bundle_with_views(settings.model, settings.views or _views_of(shard_folder(settings.out, 0))) as model:
        print(f"{build_shards(model=model, **chosen)}\n{settings.out}: {settings.shards} shards")


def _views_of(gallery: Path) -> Views | None:
    """The views of the photos that a gallery has; None before it has any."""
    folder = gallery / "model"
    return read_manifest(folder).encoders.photo.views if (folder / MANIFEST_NAME).is_file() else None


class Add(_Source):
    """Options of ``svdraw index add``."""

    gallery: Path = Field(description=GALLERY)


def add(*, settings: Options[Add]) -> None:
    """Adds photos to a gallery."""
    bring_into = settings.prepared()
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        _report(gallery, bring_into(gallery))


class Sync(Settings):
    """Options of ``svdraw index sync``."""

    gallery: Path = Field(description=GALLERY)
    photos: Path = Field(description="folder of photos; photos of the gallery that lie elsewhere stay as they are")
    device: str = Field("auto", description=DEVICE)
    allow_removing: float = Field(
        ALLOW_REMOVING,
        ge=0,
        le=100,
        description="percentage of the gallery's photos in the folder that may be gone; with more nothing is removed",
    )
    follow_links: bool = Field(False, description=FOLLOW_LINKS)
    max_pixels: int = Field(MAX_PIXELS, ge=1, description=MAX_PIXELS_HELP)


def sync(*, settings: Options[Sync]) -> None:
    """Makes a gallery agree with a folder: adds new photos, embeds changed ones, and removes those that are gone."""
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        options = settings.model_dump(include={"allow_removing", "follow_links", "max_pixels"})
        report = sync_photos(gallery, settings.photos, settings.device, **options)
        _report(gallery, report)


class Relocate(Settings):
    """Options of ``svdraw index relocate``."""

    gallery: Path = Field(description=GALLERY)
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

    gallery: Path = Field(description=GALLERY)
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

    gallery: Path = Field(description=GALLERY)


def publish(*, settings: Options[Publish]) -> None:
    """Publishes what changed since the last generation, and builds a new base when that is due; a service does both."""
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        manifest = gallery.publish_changes()
        print(f"{settings.gallery}: {manifest.count} photos, generation {manifest.generation}")


class Remove(Settings):
    """Options of ``svdraw index remove``."""

    gallery: Path = Field(description=GALLERY)
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


class Colors(Settings):
    """Options of ``svdraw index colors``."""

    gallery: Path = Field(description=GALLERY)
    max_pixels: int = Field(MAX_PIXELS, ge=1, description=MAX_PIXELS_HELP)


def colors(*, settings: Options[Colors]) -> None:
    """Measures the colours of photos that were indexed before colours were; their files are read, and not embedded."""
    with closing(Gallery.open(settings.gallery, write=True)) as gallery:
        print(measure_colors(gallery, settings.max_pixels))


def _report(gallery: Gallery, report: object) -> None:
    manifest = read_generation(gallery.path)
    print(f"{report}\n{gallery.path}: {manifest.count} photos, generation {manifest.generation}")
