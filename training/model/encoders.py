"""Paired encoders: a backbone and a head for each modality, sharing what the configuration says."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from training.model.backbones import Backbone
from training.model.heads import Head, HeadConfig
from training.model.preprocessing import Preprocessing

__all__ = ["Encoder", "EncoderConfig", "Modality", "PairedEncoders", "PairedEncodersConfig", "build_encoders"]

Modality = Literal["sketch", "photo"]


class EncoderConfig(BaseModel):
    """What rebuilds one encoder.

    Attributes:
        preprocessing: from image to input tensor.
        head: from features to embedding.
        flip: average the features of each image and its mirror image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprocessing: Preprocessing
    head: HeadConfig
    flip: bool = False


class PairedEncodersConfig(BaseModel):
    """What rebuilds both encoders.

    Attributes:
        backbone: timm model name.
        multi_scale: features of several stages; see ``Backbone``.
        sketch: of sketches.
        photo: of photos.
        share_backbone: one backbone for both modalities.
        share_head: one trainable map for both modalities; standardisation, norm and canonical
            transformation stay each modality's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    multi_scale: bool = False
    sketch: EncoderConfig
    photo: EncoderConfig
    share_backbone: bool = True
    share_head: bool = False

    @property
    def has_one_linear_head(self) -> bool:
        """Whether one linear map serves both modalities."""
        return self.share_head and not self.sketch.head.hidden


class Encoder(nn.Module):
    """Images of one modality to embeddings.

    Args:
        config: preprocessing and head.
        backbone: ``(n, 3, size, size)`` to ``(n, features)``.
        head: ``(n, features)`` to ``(n, dim)``.
    """

    def __init__(self, config: EncoderConfig, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head = head

    @property
    def dim(self) -> int:
        """Number of embedding coordinates."""
        return self.config.head.dim

    @property
    def preprocessing(self) -> Preprocessing:
        """From image to input tensor."""
        return self.config.preprocessing

    def features(self, images: Tensor) -> Tensor:
        """Backbone features of ``(n, 3, size, size)``, shape ``(n, features)``."""
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(images)
        if self.config.flip:
            features = (features + self.backbone(images.flip(-1))) / 2
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings ``(n, dim)`` of ``(n, 3, size, size)``."""
        embeddings: Tensor = self.head(self.features(images))
        return embeddings


class PairedEncoders(nn.Module):
    """A sketch encoder and a photo encoder whose inner product is the retrieval score."""

    def __init__(self, config: PairedEncodersConfig, sketch: Encoder, photo: Encoder) -> None:
        super().__init__()
        self.config = config
        self.sketch = sketch
        self.photo = photo

    @property
    def dim(self) -> int:
        """Number of embedding coordinates."""
        return self.sketch.dim

    def encoder(self, modality: Modality) -> Encoder:
        """The encoder of ``sketch`` or ``photo``."""
        return self.sketch if modality == "sketch" else self.photo

    def resize(self, size: int) -> None:
        """Makes both encoders take images of another size, in pixels."""
        for encoder in (self.sketch, self.photo):
            preprocessing = encoder.preprocessing.model_copy(update={"size": size})
            encoder.config = encoder.config.model_copy(update={"preprocessing": preprocessing})
        self.config = self.config.model_copy(update={"sketch": self.sketch.config, "photo": self.photo.config})


def build_encoders(
    config: PairedEncodersConfig, sketch_backbone: Backbone, photo_backbone: Backbone | None = None
) -> PairedEncoders:
    """Assembles encoders around backbones.

    Args:
        config: what to build.
        sketch_backbone: also the photo backbone when shared.
        photo_backbone: needed only when backbones are not shared.

    Raises:
        ValueError: if backbones are not shared and only one is given.
    """
    if config.share_backbone:
        photo_backbone = sketch_backbone
    elif photo_backbone is None:
        raise ValueError("separate backbones need two modules")
    sketch_backbone.to(memory_format=torch.channels_last)
    photo_backbone.to(memory_format=torch.channels_last)
    sketch_head = Head(config.sketch.head)
    photo_head = Head(config.photo.head, body=sketch_head.body if config.share_head else None)
    return PairedEncoders(
        config,
        Encoder(config.sketch, sketch_backbone, sketch_head),
        Encoder(config.photo, photo_backbone, photo_head),
    )
