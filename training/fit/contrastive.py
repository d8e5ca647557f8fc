"""The supervised contrastive loss between sketches and photos, which trains backbones before embeddings are made.

    L = 1/2 mean_i H(P_i, softmax_j s_ij) + 1/2 mean_j H(P'_j, softmax_i s_ij),    s_ij = cos(f_i, g_j) / temperature

H is the cross-entropy, and P_i spreads over the photos that belong to sketch i (P'_j: over the sketches of photo j).
This is the loss of CLIP with more than one match in a row (Khosla et al., NeurIPS 2020, the sum outside of the
logarithm). At its optimum s_ij is a log density ratio, where NestedLoRA fits the ratio itself: gradients do not shrink
with the singular values, but the coordinates have no order. The embeddings are therefore fitted afterwards.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.memberships import class_memberships, depicted_photos
from training.data.pairs import PairedData

__all__ = ["ContrastiveLoss", "Matches"]


class ContrastiveLoss(nn.Module):
    """The loss of this module's docstring.

    Args:
        temperature: what cosines are divided by; the smaller, the more the hardest photos count.

    Example:
        >>> f, g = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
        >>> labels = torch.tensor([0, 0, 1, 2])
        >>> loss = ContrastiveLoss(temperature=0.1)(f, g, labels[:, None] == labels)
        >>> loss.backward()
        >>> loss.shape, f.grad.shape
        (torch.Size([]), torch.Size([4, 8]))
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, f: Tensor, g: Tensor, matches: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            f: ``(sketches, dim)``, at least in single precision.
            g: ``(photos, dim)``.
            matches: ``(sketches, photos)``, how much each photo belongs to each sketch; not negative, and something in
                each row and column is positive.

        Returns:
            Scalar.

        Raises:
            ValueError: if the shapes do not fit each other, or a row or column has no match.
        """
        if f.ndim != 2 or g.ndim != 2 or f.shape[1] != g.shape[1] or matches.shape != (len(f), len(g)):
            shapes = f"{tuple(f.shape)}, {tuple(g.shape)} and {tuple(matches.shape)}"
            raise ValueError(f"f, g and matches must be (n, dim), (m, dim) and (n, m), not {shapes}")
        matches = matches.to(f.dtype)
        if not (matches.sum(dim=1).all() and matches.sum(dim=0).all()):
            raise ValueError("every sketch and every photo of a batch needs a match")
        scores = functional.normalize(f, dim=1) @ functional.normalize(g, dim=1).T / self.temperature
        return (_cross_entropy(scores, matches) + _cross_entropy(scores.T, matches.T)) / 2


class Matches:
    """How much the photos of a data set belong to its sketches: 1 if they are of the same class.

    The photo that a sketch depicts, or that a line drawing was made from, has ``depicted`` more.

    Args:
        data: sketches, photos and their groups, whose labels are the classes.
        depicted: see above.
    """

    def __init__(self, data: PairedData, *, depicted: float = 2.0) -> None:
        self._sketches, self._photos = class_memberships(data)
        self._own = depicted_photos(data)
        self._depicted = depicted

    def __call__(self, sketches: Tensor, photos: Tensor) -> Tensor:
        """The matches of a batch.

        Args:
            sketches: ``(n,)`` positions of sketches in the data.
            photos: ``(m,)`` positions of photos.

        Returns:
            ``(n, m)`` float32 on the device of ``sketches``.
        """
        rows, columns = sketches.cpu().numpy(), photos.cpu().numpy()
        of_class = (self._sketches[rows] @ self._photos[columns].T).toarray() > 0
        own = self._own[rows, None] == columns
        return torch.from_numpy((of_class + self._depicted * own).astype(np.float32)).to(sketches.device)


def _cross_entropy(scores: Tensor, matches: Tensor) -> Tensor:
    wanted = matches / matches.sum(dim=1, keepdim=True)
    return -(wanted * scores.log_softmax(dim=1)).sum(dim=1).mean()
