"""The command line of the index package; every option is also an environment variable."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, CliApp, CliSubCommand

from index.accelerators.kinds import KindChoice
from index.errors import GalleryDamaged, IndexingError
from index.gallery.directory import Gallery
from index.gallery.filters import parse_filter
from index.gallery.generations import read_generation
from index.gallery.searcher import Searcher
from index.gallery.snapshots import restore, snapshot
from index.jobs import compact, index_photos, remove_photos, sync_photos
from index.sources import list_photos
from training.base.command_line import command_config
from training.base.errors import ImageError
from training.model.bundle import load_bundle
from training.model.images import open_image
from training.model.starter import STARTER_MODEL

__all__ = ["Add", "Build", "Compact", "Index", "Info", "Remove", "Restore", "Search", "Snapshot", "Sync", "Verify"]

_PHOTOS = "folder or its URI, text list of paths or URIs, or table (.csv, .parquet) with a column uri"
_DEVICE = "auto, cpu, cuda or cuda:N"
_KIND = "auto (by size), exact, ivf, fp16, sq8 or hnsw; kept until chosen again"
_RECALL = "recall of the first 10 that searches aim at, 1 is exact; kept until chosen again"


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Build(_Command):
    """Embed photos and build a gallery; run again, it goes on and brings the gallery up to date."""

    model: Path = Field(
        STARTER_MODEL, description="model bundle, made by `python -m training fit`; the one that ships when omitted"
    )
    photos: str = Field(description=_PHOTOS)
    out: Path = Field(description="folder of the gallery")
    device: str = Field("auto", description=_DEVICE)
    kind: KindChoice | None = Field(None, description=_KIND)
    recall: float | None = Field(None, gt=0, le=1, description=_RECALL)

    def cli_cmd(self) -> None:
        """Runs the command."""
        candidates = list_photos(self.photos)
        with closing(Gallery.create(self.out, self.model)) as gallery:
            gallery.configure(self.kind, self.recall)
            _report(gallery, index_photos(gallery, candidates, self.device))


class Add(_Command):
    """Add photos to a gallery."""

    gallery: Path = Field(description="folder of the gallery")
    photos: str = Field(description=_PHOTOS)
    device: str = Field("auto", description=_DEVICE)

    def cli_cmd(self) -> None:
        """Runs the command."""
        candidates = list_photos(self.photos)
        with closing(Gallery.open(self.gallery, write=True)) as gallery:
            _report(gallery, index_photos(gallery, candidates, self.device))


class Sync(_Command):
    """Make a gallery agree with a folder: add what is new, embed what changed, remove what is gone."""

    gallery: Path = Field(description="folder of the gallery")
    photos: Path = Field(description="folder of photos; photos of the gallery that are elsewhere stay")
    device: str = Field("auto", description=_DEVICE)

    def cli_cmd(self) -> None:
        """Runs the command."""
        with closing(Gallery.open(self.gallery, write=True)) as gallery:
            _report(gallery, sync_photos(gallery, self.photos, self.device))


class Compact(_Command):
    """Rebuild what searches run on from the catalogue, and free the room of removed photos."""

    gallery: Path = Field(description="folder of the gallery")
    kind: KindChoice | None = Field(None, description=_KIND)
    recall: float | None = Field(None, gt=0, le=1, description=_RECALL)

    def cli_cmd(self) -> None:
        """Runs the command."""
        with closing(Gallery.open(self.gallery, write=True)) as gallery:
            gallery.configure(self.kind, self.recall)
            manifest = compact(gallery)
            print(f"{self.gallery}: {manifest.count} photos, kind {manifest.kind}, generation {manifest.generation}")


class Snapshot(_Command):
    """Copy catalogue and model, from which the rest is rebuilt, but no photos; jobs may go on meanwhile."""

    gallery: Path = Field(description="folder of the gallery")
    out: Path = Field(description="new folder")

    def cli_cmd(self) -> None:
        """Runs the command."""
        with closing(Gallery.open(self.gallery)) as gallery:
            print(f"{self.out}: {snapshot(gallery, self.out).count} photos")


class Restore(_Command):
    """Make a gallery of a snapshot."""

    snapshot: Path = Field(description="folder of the snapshot")
    out: Path = Field(description="folder of the new gallery")

    def cli_cmd(self) -> None:
        """Runs the command."""
        print(f"{self.out}: {restore(self.snapshot, self.out).count} photos")


class Remove(_Command):
    """Remove photos from a gallery; their files are left alone."""

    gallery: Path = Field(description="folder of the gallery")
    ids: list[int] = Field([], description="ids of photos, joined by commas: --ids 17,18")
    uris: list[str] = Field(
        [], description='paths or URIs of photos, as the gallery has them; one with a comma goes in quotes: "a,b.jpg"'
    )

    @model_validator(mode="after")
    def _names_something(self) -> "Remove":
        if not self.ids and not self.uris:
            raise ValueError("name the photos with --ids or --uris")
        return self

    def cli_cmd(self) -> None:
        """Runs the command."""
        with closing(Gallery.open(self.gallery, write=True)) as gallery:
            found = gallery.catalogue.ids(self.uris)
            if missing := [uri for uri in self.uris if uri not in found]:
                raise IndexingError(f"{self.gallery} has no photo {missing[0]!r}; nothing was removed")
            removed = remove_photos(gallery, [*self.ids, *found.values()])
            print(f"{removed} removed, {gallery.catalogue.count()} left")


class Info(_Command):
    """Say what a gallery holds."""

    gallery: Path = Field(description="folder of the gallery")
    json_out: bool = Field(False, alias="json", description="print JSON")

    def cli_cmd(self) -> None:
        """Runs the command."""
        facts: dict[str, Any] = read_generation(self.gallery).model_dump(mode="json")
        with closing(Gallery.open(self.gallery)) as gallery:
            facts["catalogue_count"] = gallery.catalogue.count()
            facts["up_to_date"] = facts["revision"] == gallery.catalogue.revision
        print(json.dumps(facts) if self.json_out else _aligned([(name, str(value)) for name, value in facts.items()]))


class Verify(_Command):
    """Check catalogue, model and generation against each other."""

    gallery: Path = Field(description="folder of the gallery")
    repair: bool = Field(False, description="rebuild what the catalogue can rebuild")

    def cli_cmd(self) -> None:
        """Runs the command."""
        with closing(Gallery.open(self.gallery, write=self.repair)) as gallery:
            problems = gallery.problems()
            if problems and self.repair:
                print("\n".join(problems))
                with gallery.writing():
                    gallery.publish()
                problems = gallery.problems()
            if problems:
                raise GalleryDamaged("; ".join(problems))
            print(f"{self.gallery} is whole: {gallery.catalogue.count()} photos")


class Search(_Command):
    """Find the photos that a sketch depicts."""

    gallery: Path = Field(description="folder of the gallery")
    sketch: Path = Field(description="image file of a sketch")
    limit: int = Field(10, ge=1, description="number of photos")
    offset: int = Field(0, ge=0, description="skip so many photos")
    dimensions: int | None = Field(
        None, ge=1, description="compare only so many leading coordinates; those that suffice when omitted"
    )
    score_threshold: float | None = Field(None, description="leave out photos with a lower score")
    filter: str | None = Field(None, description="""JSON, such as {"label": "castle", "year": {"gte": 1900}}""")
    unique: bool = Field(False, description="of photos with the same content only the first")
    recall: float | None = Field(
        None, gt=0, le=1, description="share of the true best to aim at; 1 is exact; the gallery's own when left out"
    )
    exact: bool = Field(False, description="the same as --recall 1")
    json_out: bool = Field(False, alias="json", description="print JSON")
    device: str = Field("auto", description=_DEVICE)

    def cli_cmd(self) -> None:
        """Runs the command."""
        try:
            sketch = open_image(self.sketch)
        except ImageError as error:
            raise IndexingError(f"{self.sketch}: {error.reason}") from error
        searcher = Searcher.open(self.gallery, self.device)
        with closing(Gallery.open(self.gallery)) as gallery:
            bundle = load_bundle(gallery.model_directory, self.device)
            query = bundle.encode_sketches([sketch])
            chosen = None if self.filter is None else gallery.catalogue.select(parse_filter(self.filter))
            hits = searcher.search(
                query,
                self.limit,
                dimensions=self.dimensions or bundle.default_dimensions,
                offset=self.offset,
                score_threshold=self.score_threshold,
                recall=1 if self.exact else self.recall,
                ids=chosen,
                unique=self.unique,
            )[0]
            photos = gallery.catalogue.photos([hit.id for hit in hits])
        rows = [(hit, photos[hit.id]) for hit in hits if hit.id in photos]
        if self.json_out:
            print(json.dumps({"results": [{"score": hit.score, **photo._asdict()} for hit, photo in rows]}))
        else:
            print(
                _aligned([(f"{hit.score:.4f}", f"{photo.id}  {photo.label or ''}  {photo.uri}") for hit, photo in rows])
            )


class Index(BaseSettings):
    """Build, change and search galleries of photos."""

    model_config = command_config("python -m index")

    build: CliSubCommand[Build]
    add: CliSubCommand[Add]
    sync: CliSubCommand[Sync]
    remove: CliSubCommand[Remove]
    compact: CliSubCommand[Compact]
    snapshot: CliSubCommand[Snapshot]
    restore: CliSubCommand[Restore]
    info: CliSubCommand[Info]
    verify: CliSubCommand[Verify]
    search: CliSubCommand[Search]

    def cli_cmd(self) -> None:
        """Runs the chosen command."""
        CliApp.run_subcommand(self)


def _report(gallery: Gallery, report: object) -> None:
    manifest = read_generation(gallery.path)
    print(f"{report}\n{gallery.path}: {manifest.count} photos, generation {manifest.generation}")


def _aligned(rows: list[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
