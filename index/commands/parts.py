"""The commands that write parts: ``svdraw index embed`` and ``export``."""

from contextlib import closing
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from index.commands.options import GALLERY, MODEL, PHOTOS, VIEWS, PhotosOptions
from index.gallery.directory import Gallery
from index.parts.cluster import embed_on_cluster
from index.parts.embedding import PART_SIZE, embed_photos
from index.parts.exporting import export_gallery
from training.base.command_line import Options, Settings
from training.model.bundle import bundle_with_views
from training.model.encoders import Views
from training.model.starter import STARTER_MODEL

__all__ = ["embed", "export"]

_GPUS = {"auto": None, "cpu": False, "cuda": True}  # what each actor of a cluster gets, by the device
_PART_SIZE = "number of photos in a part"


class Embed(PhotosOptions):
    """Options of ``svdraw index embed``."""

    photos: str = Field(description=PHOTOS)
    out: str = Field(description="folder or URI for the parts; photos that are there already are left out")
    model: Path = Field(STARTER_MODEL, description=MODEL)
    views: Views | None = Field(None, description=VIEWS)
    part_size: int = Field(PART_SIZE, ge=1, le=65536, description=f"{_PART_SIZE}, and the most that a killed job loses")

    ray: str | None = Field(
        None, description="address of a Ray cluster to embed on, such as 10.0.0.1:6379; needs the extra cluster"
    )
    processors: int = Field(1, ge=1, description="processors that each actor of the cluster gets")

    @model_validator(mode="after")
    def _device_of_actors(self) -> Self:
        if self.ray is not None and self.device not in _GPUS:
            raise ValueError("with --ray, --device is auto, cpu or cuda: Ray chooses which GPU")
        return self


def embed(*, settings: Options[Embed]) -> None:
    """Embeds photos into Parquet files, without a gallery; a further run goes on where one stopped."""
    photos, options = settings.listing(settings.photos), settings.model_dump(include={"max_pixels", "part_size"})
    with bundle_with_views(settings.model, settings.views) as model:
        if settings.ray is None:
            report = embed_photos(photos, model, settings.out, settings.device, **options)
        else:
            options |= {"processors": settings.processors, "gpus": _GPUS[settings.device]}
            report = embed_on_cluster(photos, model, settings.out, settings.ray, **options)
    print(f"{settings.out}: {report}")


class Export(Settings):
    """Options of ``svdraw index export``."""

    gallery: Path = Field(description=GALLERY)
    out: str = Field(description="folder or URI for the parts")
    part_size: int = Field(PART_SIZE, ge=1, le=65536, description=_PART_SIZE)


def export(*, settings: Options[Export]) -> None:
    """Writes the photos of a gallery with their vectors into Parquet files; jobs may run at the same time."""
    with closing(Gallery.open(settings.gallery)) as gallery:
        print(f"{settings.out}: {export_gallery(gallery, settings.out, settings.part_size)} photos")
