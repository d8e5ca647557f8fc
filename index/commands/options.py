"""What the options of several commands have in common."""

from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from index.sources import Listing, list_photos
from training.base.command_line import Settings
from training.model.images import MAX_PIXELS

__all__ = [
    "DEVICE",
    "FOLLOW_LINKS",
    "GALLERY",
    "MAX_PIXELS_HELP",
    "MODEL",
    "PHOTOS",
    "VIEWS",
    "JsonFlag",
    "PhotosOptions",
]

GALLERY = "folder of the gallery"
DEVICE = "device to compute on: auto, cpu, cuda or cuda:N"
MAX_PIXELS_HELP = "largest photo that is decoded, width times height"
PHOTOS = (
    "photos: a folder or its URI, a list of paths or URIs, or a table (.csv, .tsv, .jsonl, .parquet) with a column uri"
)
FOLLOW_LINKS = "also search folders that links in the folder lead to"
VIEWS = (
    "views of each photo whose features are averaged: 1, the photo; 2, its mirror image too; 4, both of its centre as "
    "well; by default those of the model"
)
MODEL = "model bundle, made by `svdraw fit`; by default the one that ships with svdraw"

JsonFlag = Annotated[bool, Parameter(name="--json")]


class PhotosOptions(Settings):
    """How photos are listed, and what embeds them."""

    encoding: str | None = Field(
        None, description="encoding of a list or a CSV table, such as shift_jis; by default UTF-8, else Windows-1252"
    )
    follow_links: bool = Field(False, description=FOLLOW_LINKS)
    max_pixels: int = Field(MAX_PIXELS, ge=1, description=MAX_PIXELS_HELP)
    device: str = Field("auto", description=DEVICE)

    def listing(self, photos: str) -> Listing:
        """Lists the photos of a source."""
        return list_photos(photos, encoding=self.encoding, follow_links=self.follow_links)
