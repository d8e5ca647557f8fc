"""A gallery on disk: catalogue, model and generations.

gallery/
    catalogue.sqlite     the truth: every photo's vector and facts
    model/               the bundle whose photo encoder made the vectors
    generations/000001/  photos.faiss, ids.npy, manifest.json: an accelerator, rebuildable
    CURRENT              name of the generation to serve, switched atomically
    rejects.jsonl        photos that the last job could not use, and why
    writer.lock
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from index.accelerators import PanoramaIndex
from index.catalogue import Catalogue
from index.errors import GalleryDamaged, GalleryError, GalleryLocked, ModelMismatch
from training.artifacts import file_sha256, write_text
from training.bundle import copy_bundle, read_manifest
from training.errors import BundleError

__all__ = ["Gallery", "Generation", "GenerationManifest", "load_generation", "read_generation"]

_KEPT = 2  # generations; the older one is for readers that are about to switch


class GenerationManifest(BaseModel):
    """Content of a generation's ``manifest.json``.

    Attributes:
        generation: number, growing.
        created: UTC time in ISO 8601.
        kind: of the accelerator.
        count: number of photos.
        dim: number of embedding coordinates.
        model: digest of the model.
        revision: of the catalogue it was built from.
        files: SHA-256 by file name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["svdraw-gallery"] = "svdraw-gallery"
    version: Literal[1] = 1
    generation: int
    created: str
    kind: Literal["exact"] = "exact"
    count: int
    dim: int
    model: str
    revision: int
    files: dict[str, str]


class Generation(NamedTuple):
    """A loaded generation: ``ids`` ``(n,)`` ascending, by position in the accelerator."""

    manifest: GenerationManifest
    ids: NDArray[np.int64]
    accelerator: PanoramaIndex


def read_generation(path: Path) -> GenerationManifest:
    """Manifest of a gallery's current generation.

    Raises:
        GalleryError: if ``path`` is no gallery.
        GalleryDamaged: if no generation is published, or it is half-written.
    """
    if not (path / "catalogue.sqlite").is_file():
        raise GalleryError(f"{path} is not a gallery; make one with `python -m index build`")
    pointer = path / "CURRENT"
    if not pointer.is_file():
        raise GalleryDamaged(f"{path} is half-written: no generation is published; run `python -m index build` again")
    file = path / "generations" / Path(pointer.read_text().strip()).name / "manifest.json"
    try:
        return GenerationManifest.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise GalleryDamaged(f"{file} is missing or damaged; run `python -m index verify --repair`") from error


def load_generation(path: Path) -> Generation:
    """Reads a gallery's current generation, verified against its checksums.

    Raises:
        GalleryError: if ``path`` is no gallery.
        GalleryDamaged: if a file is missing or corrupted; the message names it.
    """
    manifest = read_generation(path)
    folder = path / "generations" / f"{manifest.generation:06d}"
    for name, expected in manifest.files.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != expected:
            raise GalleryDamaged(
                f"{folder / name} is missing or corrupted; run `python -m index verify --repair` to rebuild it"
            )
    accelerator = PanoramaIndex.read(folder / "photos.faiss")
    return Generation(manifest, np.load(folder / "ids.npy", allow_pickle=False), accelerator)


class Gallery:
    """An existing gallery; use ``create`` or ``open``.

    Args:
        path: directory.
        catalogue: opened.
    """

    def __init__(self, path: Path, catalogue: Catalogue) -> None:
        self.path = path
        self.catalogue = catalogue

    @classmethod
    def create(cls, path: Path, model: Path) -> "Gallery":
        """Opens a gallery for writing, made if missing.

        Args:
            path: directory.
            model: bundle to embed photos with.

        Raises:
            ModelMismatch: if the gallery was built with another model.
            GalleryError: if ``path`` is something else than a gallery.
            BundleError: if the bundle cannot be used.
        """
        manifest = read_manifest(model)
        if path.exists() and not (path / "catalogue.sqlite").exists() and any(path.iterdir()):
            raise GalleryError(f"{path} is not empty and not a gallery; choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        gallery = cls(path, Catalogue(path / "catalogue.sqlite", create=True))
        try:
            gallery._adopt(model, manifest.digest)
        except BaseException:
            gallery.close()
            raise
        return gallery

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> "Gallery":
        """Opens an existing gallery.

        Raises:
            GalleryError: if there is none.
            GalleryDamaged: if its catalogue is unreadable.
        """
        if not (path / "catalogue.sqlite").is_file():
            raise GalleryError(f"{path} is not a gallery; make one with `python -m index build`")
        return cls(path, Catalogue(path / "catalogue.sqlite", create=write))

    def close(self) -> None:
        """Closes the catalogue."""
        self.catalogue.close()

    @property
    def model_directory(self) -> Path:
        """The bundle that belongs to the gallery."""
        return self.path / "model"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Excludes other writers.

        Raises:
            GalleryLocked: if another process is writing.
        """
        with (self.path / "writer.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise GalleryLocked(f"another process is writing to {self.path}; wait for it to end") from error
            yield

    def publish(self) -> GenerationManifest:
        """Builds a generation from the catalogue and switches to it; readers see the old or the new one.

        Raises:
            GalleryDamaged: if the catalogue is.
            GalleryError: if it cannot be written.
        """
        dim = int(self.catalogue.fact("dim") or 0)
        revision = self.catalogue.revision
        ids, vectors = self.catalogue.vectors(dim)
        number = max([0, *(int(folder.name) for folder in self._generations())]) + 1
        staging = self.path / "generations" / f".{number:06d}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            PanoramaIndex.build(vectors).write(staging / "photos.faiss")
            np.save(staging / "ids.npy", ids, allow_pickle=False)
            manifest = GenerationManifest(
                generation=number,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                count=len(ids),
                dim=dim,
                model=self.catalogue.fact("model") or "",
                revision=revision,
                files={name: file_sha256(staging / name) for name in ("photos.faiss", "ids.npy")},
            )
            write_text(staging / "manifest.json", manifest.model_dump_json(indent=2) + "\n")
            _sync_folder(staging)
        except (OSError, RuntimeError) as error:  # FAISS raises RuntimeError for a full disk
            shutil.rmtree(staging, ignore_errors=True)
            raise GalleryError(
                f"{staging} cannot be written ({_first_line(error)}); free some space, run again"
            ) from error
        staging.rename(self._generation(f"{number:06d}"))
        write_text(self.path / "CURRENT", f"{number:06d}\n")
        self._drop_old(number)
        return manifest

    def problems(self) -> list[str]:
        """Everything that is wrong with the gallery, one line each."""
        found = self.catalogue.problems()
        if found:
            return found
        try:
            if read_manifest(self.model_directory).digest != self.catalogue.fact("model"):
                found.append(f"{self.model_directory} holds another model than the vectors were made with")
        except BundleError as error:
            found.append(str(error))
        try:
            generation = load_generation(self.path)
            ids, vectors = self.catalogue.vectors(generation.manifest.dim)
        except GalleryDamaged as error:
            return [*found, str(error)]
        if generation.manifest.revision != self.catalogue.revision:
            found.append(f"{self.path}: the published generation is older than the catalogue")
        elif not (np.array_equal(ids, generation.ids) and np.array_equal(vectors, generation.accelerator.vectors())):
            found.append(f"{self.path}: the published generation differs from the catalogue")
        return found

    def _adopt(self, model: Path, digest: str) -> None:
        known = self.catalogue.fact("model")
        if known is not None and known != digest:
            raise ModelMismatch(
                f"{self.path} was built with another model ({known[:12]}, not {digest[:12]}); "
                "vectors of two models cannot be mixed: build a new gallery with another --out"
            )
        if known is None:
            with self.writing():
                copied = copy_bundle(model, self.model_directory)
                self.catalogue.set_fact("dim", str(len(copied.spectrum)))
                self.catalogue.set_fact("model", digest)  # last: it says that the model is there

    def _generation(self, name: str) -> Path:
        return self.path / "generations" / Path(name).name

    def _generations(self) -> list[Path]:
        return sorted(folder for folder in (self.path / "generations").glob("[0-9]*") if folder.is_dir())

    def _drop_old(self, newest: int) -> None:
        for folder in self._generations():
            if int(folder.name) <= newest - _KEPT:
                shutil.rmtree(folder, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
