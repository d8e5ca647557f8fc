"""The starter models, which ship with the project so that photos can be searched before anything is trained.

Beside the two files of its bundle, the folder of a model that ships has ``terms.json``: what the model was made from,
and under which licences.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from training.base.errors import BundleError
from training.model.hub import SHIPPED_MODELS
from training.model.manifest import BundleManifest, read_manifest

__all__ = ["STARTER_MODEL", "Source", "Terms", "read_terms", "terms_of"]

STARTER_MODEL = SHIPPED_MODELS[0]


class Source(BaseModel):
    """Something that a model was made from.

    Attributes:
        name: as people know it.
        what: what it is, and what it was used for.
        by: who made it.
        licence: as SPDX writes it; ``LicenseRef-research-only`` where the source is offered for research.
        url: where it is found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    what: str
    by: str
    licence: str
    url: str


class Terms(BaseModel):
    """Content of ``terms.json``.

    Attributes:
        name: name of the model.
        summary: what follows from its sources, in one line.
        sources: what it was made from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str
    sources: tuple[Source, ...]


def read_terms(directory: Path) -> Terms:
    """Reads the terms of a model that ships.

    Raises:
        BundleError: if the file is missing or damaged.
    """
    try:
        return Terms.model_validate_json((directory / "terms.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{directory / 'terms.json'} is missing or damaged; install svdraw again") from error


def terms_of(manifest: BundleManifest) -> Terms | None:
    """The terms of the shipped model that a model is, or that its training started from; None for any other model."""
    for directory in SHIPPED_MODELS:
        start = Path(str(manifest.training.settings.get("start")))
        # by its name, or by its folder, though svdraw may be installed elsewhere now
        started_here = str(start) == directory.name or start.parts[-3:] == directory.parts[-3:]
        if started_here or manifest.weights_sha256 == read_manifest(directory).weights_sha256:
            return read_terms(directory)
    return None
