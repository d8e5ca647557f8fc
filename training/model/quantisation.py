"""What a bundle says of its backbones in whole numbers of eight bits: ``int8.safetensors``, and how much that keeps."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from training.base.errors import BundleError

__all__ = ["INT8_NAME", "SHARED", "Comparison", "Int8", "Quantisation", "read_int8"]

INT8_NAME = "int8.safetensors"
SHARED = "shared"  # in front of the names of tensors, where both modalities have one backbone
_LARGEST_LOSS = 0.005  # of a figure, relative to single precision


class Comparison(BaseModel):
    """A figure of retrieval in both precisions.

    Attributes:
        fp32: both modalities in single precision.
        int8: both in eight bits.
        mixed: sketches in single precision, photos in eight bits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fp32: float
    int8: float
    mixed: float

    @property
    def loss(self) -> float:
        """Share of the figure that eight bits lose; negative if they find more."""
        return 1 - self.int8 / self.fp32 if self.fp32 else 0.0


class Quantisation(BaseModel):
    """Content of ``int8`` in ``model.json``.

    Attributes:
        sha256: SHA-256 of ``int8.safetensors``.
        cosines: mean cosine between the centred embeddings of both precisions, by modality.
        figures: what both precisions find on held-out classes: mAP, acc@1, and acc@10 of exact matches.
        queries: number of sketches that searched.
        instance_queries: how many of them depict a known photo.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    cosines: dict[str, float]
    figures: dict[str, Comparison]
    queries: int
    instance_queries: int

    @property
    def keeps_quality(self) -> bool:
        """Whether no figure loses more than half a percent, so that a CPU may take eight bits without being told."""
        return bool(self.figures) and all(each.loss <= _LARGEST_LOSS for each in self.figures.values())


class Int8(NamedTuple):
    """What turns an encoder's backbone into one of eight bits.

    Attributes:
        tensors: ranges and biases; see ``training.inference.quantised``. In a bundle, the modality and a slash stand in
            front of the names.
        sha256: of the file they are from.
        is_default: whether a CPU takes eight bits without being told.
    """

    tensors: Mapping[str, Tensor]
    sha256: str
    is_default: bool

    def part(self, modality: str) -> Self:
        """What belongs to the backbone of one modality; both have a shared one's."""
        found = {
            name.partition("/")[2]: tensor
            for name, tensor in self.tensors.items()
            if name.startswith((f"{modality}/", f"{SHARED}/"))
        }
        return self._replace(tensors=found)


def read_int8(directory: Path, record: Quantisation) -> Int8:
    """Reads the tensors of a bundle, which are checked against its manifest.

    Raises:
        BundleError: if the file is missing, or another one.
    """
    path = directory / INT8_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} is missing; copy all files of the bundle again") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != record.sha256:
        raise BundleError(f"{path} is not the file that model.json describes; copy all files of the bundle again")
    try:
        return Int8(load(content), sha256, record.keeps_quality)
    except SafetensorError as error:
        raise BundleError(f"{path} is damaged: {error}; copy all files of the bundle again") from error
