"""Runs of a retrieval benchmark on disk, and their embeddings of unseen sketches and photos."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.pairs import load_data
from training.data.splits import load_split
from training.features.paired import FeatureSet, head_embeddings, paired_features
from training.model.bundle import load_bundle
from training.model.encoders import PairedEncoders

__all__ = ["CPU", "Embedded", "Runs"]

CPU = torch.device("cpu")


class Embedded(NamedTuple):
    """Embeddings of sketches ``(n, dim)`` and of photos ``(m, dim)``, and the set of images that they belong to.

    The spectrum ``(dim,)`` is that of the model; raw features have none.
    """

    f: NDArray[np.float32]
    g: NDArray[np.float32]
    unseen: FeatureSet
    spectrum: tuple[float, ...] = ()


class Runs(NamedTuple):
    """The folder of the runs, and the data that they were trained on."""

    data: Path
    out: Path
    cache: Path

    def folder(self, split: str, method: str, seed: int) -> Path:
        """Folder of a run."""
        name = method.replace(",", "").replace("'", "").replace(" ", "-")
        return self.out / Path(split).stem / name / str(seed)

    def embedded(self, folder: Path, split: str) -> Embedded:
        """Embeds the unseen classes with the encoders of a run."""
        bundle = load_bundle(folder, "cpu")
        unseen = self._unseen(bundle.encoders, split)
        f, g = head_embeddings(bundle.sketch, unseen.x), head_embeddings(bundle.photo, unseen.y)
        return Embedded(f, g, unseen, bundle.spectrum)

    def raw(self, folder: Path, split: str) -> Embedded:
        """Backbone features of unit length, centred on the training data of each modality."""
        encoders = load_bundle(folder, "cpu").encoders
        unseen = self._unseen(encoders, split)
        centred = (unseen.x - encoders.sketch.head.mean.numpy(), unseen.y - encoders.photo.head.mean.numpy())
        f, g = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in centred)
        return Embedded(f, g, unseen)

    def _unseen(self, encoders: PairedEncoders, split: str) -> FeatureSet:
        everything = load_data(self.data)
        unseen = everything.select(load_split(split, everything.classes).unseen)
        return paired_features(unseen, encoders, self.cache, CPU)
