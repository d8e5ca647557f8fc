"""What ``model.json`` says of a bundle: how its encoders are rebuilt, and where they come from."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.base.artifacts import write_text
from training.base.errors import BundleError
from training.model.calibration import Calibration
from training.model.encoders import PairedEncodersConfig
from training.model.hub import local_bundle
from training.model.quantisation import INT8_NAME, Quantisation

__all__ = [
    "MANIFEST_NAME",
    "WEIGHTS_NAME",
    "BundleManifest",
    "TrainingRecord",
    "local_folder",
    "read_manifest",
    "write_manifest",
]

MANIFEST_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"


class TrainingRecord(BaseModel):
    """Where a model comes from.

    Attributes:
        classes: names of the classes that it was trained on, including those used for model selection.
        unseen: names of the classes that its split held out.
        settings: the settings of the run.
        figures: figures measured while training, by name.
        images: number of sketches and photos that it was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    figures: dict[str, float] = {}
    images: dict[str, int] = {}


class BundleManifest(BaseModel):
    """Content of ``model.json``.

    Attributes:
        encoders: configuration that rebuilds both encoders.
        spectrum: singular values of the learned operator on the training data, ``(dim,)``, descending.
        best_dimensions: number of dimensions that found most on held-out classes during training.
        sufficient_dimensions: fewest dimensions that kept 99% of the mAP of all of them there.
        calibration: map from scores to relevance, fitted there; None if it was not.
        int8: what eight bits keep of the model's quality; None if it was not quantised.
        weights_sha256: SHA-256 of ``model.safetensors``.
        training: where the model comes from.
        versions: versions of the packages that it was made with.
        created: UTC time in ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["svdraw-model"] = "svdraw-model"
    version: Literal[1] = 1
    created: str
    encoders: PairedEncodersConfig
    spectrum: tuple[float, ...]
    best_dimensions: int | None = None
    sufficient_dimensions: int | None = None
    calibration: Calibration | None = None
    int8: Quantisation | None = None
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    training: TrainingRecord = TrainingRecord()
    versions: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """SHA-256 of all that determines an embedding: equal digests mean equal embeddings in the same precision."""
        identity = [self.encoders.model_dump(mode="json"), self.weights_sha256]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def precisions(self) -> tuple[str, ...]:
        """What its backbones can run in: ``fp32``, and ``int8`` with the SHA-256 of the ranges if it was quantised."""
        return ("fp32", *([f"int8 {self.int8.sha256}"] if self.int8 else []))


def read_manifest(directory: Path) -> BundleManifest:
    """Reads only ``model.json``.

    Args:
        directory: folder of the bundle, or its name on a hub; see ``training.model.hub``.

    Raises:
        BundleError: if it is missing, damaged or of another version.
    """
    path = local_folder(directory) / MANIFEST_NAME
    try:
        return BundleManifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{directory} is not a model bundle: it has no {MANIFEST_NAME}; make one with `svdraw fit`"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{path} is damaged or of another version ({where}: {first['msg']}); train the model again"
        ) from error


def write_manifest(directory: Path, manifest: BundleManifest) -> None:
    """Writes ``model.json``, completely or not at all."""
    write_text(directory / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")


def local_folder(directory: Path) -> Path:
    """The folder of a bundle on this machine, which is fetched there if ``directory`` is its name on a hub."""
    return local_bundle(directory, MANIFEST_NAME, WEIGHTS_NAME, optional=(INT8_NAME,))
