"""Batches of pairs drawn from p(x, y) = sum_g p(g) p(x|g) p(y|g), reproducible by step number."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.pairs import PairedData
from training.fit.distributed import own_rows

__all__ = ["Batch", "FeatureBatches", "PairSampler"]


class Batch(NamedTuple):
    """A batch of pairs.

    Attributes:
        x: inputs of the sketch encoder, or of its head; ``(batch, ...)``.
        y: inputs of the photo encoder, or of its head, paired row by row with ``x``; ``(batch, ...)``.
        labels: number of the group that each pair was drawn from, ``(batch,)``.
        sketches: position of each sketch in the data, ``(batch,)``.
        photos: position of each photo, ``(batch,)``.
    """

    x: Tensor
    y: Tensor
    labels: Tensor
    sketches: Tensor
    photos: Tensor


class PairSampler:
    """Draws pairs; the draw of a step depends on nothing but the seed and the step, so a run can resume anywhere.

    Args:
        data: sketches, photos and the groups that pairs are drawn from.
        batch_size: number of pairs in a batch.
        seed: seed of all draws.
        class_pairs: pairs of the same class that are drawn together. Each pair is as probable as ever, but a batch has
            fewer classes, and more pairs of each to be told apart.
    """

    def __init__(self, data: PairedData, batch_size: int, seed: int, class_pairs: int = 1) -> None:
        self.batch_size = batch_size
        self._weights = data.weights
        self._cumulative = self._weights.cumsum()
        self._cumulative /= self._cumulative[-1]
        self._class_pairs = class_pairs
        _, self._classes = np.unique([group.label for group in data.groups], return_inverse=True)
        self._sketches = [np.asarray(group.sketches) for group in data.groups]
        self._photos = [np.asarray(group.photos) for group in data.groups]
        self._seed = seed

    def draw(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Draws the pairs of one step.

        Returns:
            Positions of the sketches, positions of the photos, and numbers of the groups; each ``(batch_size,)``.
        """
        random = np.random.default_rng([self._seed, step])
        groups = self._draw_groups(random)
        sketches = np.array([random.choice(self._sketches[group]) for group in groups])
        photos = np.array([random.choice(self._photos[group]) for group in groups])
        return sketches, photos, groups

    def _draw_groups(self, random: np.random.Generator) -> NDArray[np.int64]:
        if self._class_pairs == 1:
            return self._by_weight(random, self.batch_size)
        chosen = self._by_weight(random, -(-self.batch_size // self._class_pairs))
        groups = []
        for label in self._classes[chosen]:
            members = np.flatnonzero(self._classes == label)
            weights = self._weights[members]
            groups.append(random.choice(members, self._class_pairs, p=weights / weights.sum()))
        return np.concatenate(groups)[: self.batch_size]

    def _by_weight(self, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        """What ``random.choice`` draws with ``p``, without a pass over all groups."""
        return np.searchsorted(self._cumulative, random.random(count), side="right")


class FeatureBatches:
    """Batches of backbone features held in memory, or of each batch the rows of this process.

    Args:
        sampler: draws the pairs of each step.
        x: features of the sketches, ``(sketches, features)``, on the device that trains.
        y: features of the photos, ``(photos, features)``, on the same device.
    """

    def __init__(self, sampler: PairSampler, x: Tensor, y: Tensor) -> None:
        self._sampler = sampler
        self._x = x
        self._y = y
        self._own = own_rows(sampler.batch_size)

    def __call__(self, step: int) -> Batch:
        """The batch of a step: the features of the pairs that the sampler draws."""
        drawn = self._sampler.draw(step)
        sketches, photos, groups = (torch.from_numpy(part[self._own]).to(self._x.device) for part in drawn)
        return Batch(self._x[sketches], self._y[photos], groups, sketches, photos)
