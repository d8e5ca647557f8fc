"""Soft targets from the classifier that a backbone was pretrained with, so that training keeps what it knows.

The classes of a sketch data set are few, and training on them alone makes a backbone forget how it told other things
apart, which unseen classes need. The untrained backbone and its classifier say how much each photo looks like each of
the classes of the pretraining. The backbone in training, with the same classifier, learns to say it of augmented photos
still, and of sketches as well: a sketch should look like the photos of its class do on average, and like the photo it
depicts where that is known (compare Liu et al., Semantic-Aware Knowledge prEservation, ICCV 2019).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.memberships import class_memberships, depicted_photos
from training.data.pairs import PairedData
from training.features.paired import FeatureSet

__all__ = ["SoftTargets", "sketch_targets"]


class SoftTargets(nn.Module):
    """Cross-entropy to what the untrained backbone sees in the photos of a data set.

    Args:
        classifier: maps the backbone's own pooled output, the first block of its features, to scores of classes; it is
            not trained.
        features: the data, and its photos by the untrained backbone.
    """

    photos: Tensor
    sketches: Tensor

    def __init__(self, classifier: nn.Linear, features: FeatureSet) -> None:
        super().__init__()
        self.classifier = classifier.requires_grad_(False)
        with torch.no_grad():
            photos = self._log_beliefs(torch.from_numpy(features.y).to(classifier.weight.device)).exp()
        sketches = torch.from_numpy(sketch_targets(features.data, photos.cpu().numpy())).to(photos.device)
        self.register_buffer("photos", photos, persistent=False)
        self.register_buffer("sketches", sketches, persistent=False)

    def forward(self, x: Tensor, y: Tensor, sketches: Tensor, photos: Tensor) -> Tensor:
        """Loss of one batch, the mean of both modalities.

        Args:
            x: ``(batch, features)``, features of sketches by the backbone in training.
            y: ``(batch, features)``, features of photos.
            sketches: ``(batch,)``, positions of the sketches in the data.
            photos: ``(batch,)``, positions of the photos.

        Returns:
            Scalar.
        """
        seen_in_sketches = (self.sketches[sketches] * self._log_beliefs(x)).sum(dim=1).mean()
        seen_in_photos = (self.photos[photos] * self._log_beliefs(y)).sum(dim=1).mean()
        return -(seen_in_sketches + seen_in_photos) / 2

    def _log_beliefs(self, features: Tensor) -> Tensor:
        scores: Tensor = self.classifier(features[:, : self.classifier.in_features])
        return scores.log_softmax(dim=1)


def sketch_targets(data: PairedData, beliefs: NDArray[np.float32]) -> NDArray[np.float32]:
    """What should be seen in sketches: the mean over the photos of their class.

    Half of it is what is seen in the photo that a sketch depicts, where that is known.

    Args:
        data: sketches, photos and their groups.
        beliefs: probabilities of the classifier's classes for each photo, ``(photos, classes)``.

    Returns:
        ``(sketches, classes)``; each row sums to one.
    """
    sketches, photos = class_memberships(data)
    of_classes = (photos.T @ beliefs) / photos.sum(axis=0)[:, None]
    targets = (sketches @ of_classes) / sketches.sum(axis=1)[:, None]
    depicted = depicted_photos(data)
    known = depicted >= 0
    targets[known] = (targets[known] + beliefs[depicted[known]]) / 2
    return np.asarray(targets, dtype=np.float32)
