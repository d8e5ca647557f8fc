"""The commands that write parts: ``svdraw index embed`` and ``export``."""

from contextlib import closing
from pathlib import Path

from pydantic import Field

from index.commands.options import GALLERY, MODEL, PHOTOS, PhotosOptions
from index.gallery.directory import Gallery
from index.parts.embedding import PART_SIZE, embed_photos
from index.parts.exporting import export_gallery
from training.base.command_line import Options, Settings
from training.model.starter import STARTER_MODEL

__all__ = ["embed", "export"]

_PART_SIZE = "number of photos in a part"


class Embed(PhotosOptions):
    """Options of ``svdraw index embed``."""

    photos: str = Field(description=PHOTOS)
    out: str = Field(description="folder or URI for the parts; photos that are there already are left out")
    model: Path = Field(STARTER_MODEL, description=MODEL)
    part_size: int = Field(PART_SIZE, ge=1, le=65536, description=f"{_PART_SIZE}, and the most that a killed job loses")


def embed(*, settings: Options[Embed]) -> None:
    """Embeds photos into Parquet files, without a gallery; a further run goes on where one stopped."""
    photos, options = settings.listing(settings.photos), settings.model_dump(include={"max_pixels", "part_size"})
    print(f"{settings.out}: {embed_photos(photos, settings.model, settings.out, settings.device, **options)}")


class Export(Settings):
    """Options of ``svdraw index export``."""

    gallery: Path = Field(description=GALLERY)
    out: str = Field(description="folder or URI for the parts")
    part_size: int = Field(PART_SIZE, ge=1, le=65536, description=_PART_SIZE)


def export(*, settings: Options[Export]) -> None:
    """Writes the photos of a gallery with their vectors into Parquet files; jobs may run at the same time."""
    with closing(Gallery.open(settings.gallery)) as gallery:
        print(f"{settings.out}: {export_gallery(gallery, settings.out, settings.part_size)} photos")
