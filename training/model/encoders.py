"""Paired encoders: a backbone and a head for each modality, which may share parameters."""

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn
from torch.nn import functional

from training.base.errors import BundleError
from training.model.backbones import Backbone, Pooling
from training.model.heads import Head, HeadConfig
from training.model.preprocessing import Preprocessing

__all__ = [
    "Encoder",
    "EncoderConfig",
    "Modality",
    "PairedEncoders",
    "PairedEncodersConfig",
    "Views",
    "build_encoders",
]

Modality = Literal["sketch", "photo"]
Views = Annotated[Literal[1, 2, 4], BeforeValidator(lambda value: {"1": 1, "2": 2, "4": 4}.get(str(value), value))]

_MARGIN = 0.09  # of the side, which the view of an image's centre leaves out at each edge


class EncoderConfig(BaseModel):
    """Configuration of one encoder, from which it can be rebuilt.

    Attributes:
        preprocessing: how an image becomes an input tensor.
        head: how backbone features become an embedding.
        flip: whether to average the features of each image and its mirror image.
        views: see ``Encoder.views``; 1 is left out of the JSON, so that a model of before there was a choice keeps its
            digest, on which galleries depend.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprocessing: Preprocessing
    head: HeadConfig
    flip: bool = False
    views: Views = 1

    @model_serializer(mode="wrap")
    def _without_one(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialise(self)
        if self.views == 1:
            del fields["views"]
        return fields


class PairedEncodersConfig(BaseModel):
    """Configuration of both encoders, from which they can be rebuilt.

    Attributes:
        backbone: name of a timm model.
        multi_scale: whether features of several stages are used; see ``Backbone``.
        pooling: what of each channel of these stages is used; ``mean`` is left out of the JSON, so that a model of
            before there was a choice keeps its digest, on which galleries depend.
        sketch: configuration of the sketch encoder.
        photo: configuration of the photo encoder.
        share_backbone: whether both modalities have one backbone.
        share_head: whether both modalities have one trainable map; each keeps its own standardisation, norm and
            canonical transformation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    multi_scale: bool = False
    pooling: Pooling = "mean"
    sketch: EncoderConfig
    photo: EncoderConfig
    share_backbone: bool = True
    share_head: bool = False

    @property
    def has_one_linear_head(self) -> bool:
        """Whether one linear map serves both modalities."""
        return self.share_head and not self.sketch.head.hidden

    @model_serializer(mode="wrap")
    def _without_mean(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialise(self)
        if self.pooling == "mean":
            del fields["pooling"]
        return fields


class Encoder(nn.Module):
    """Maps images of one modality to embeddings.

    Args:
        config: configuration of preprocessing and head.
        backbone: maps images ``(n, 3, size, size)`` to features ``(n, features)``.
        head: maps features ``(n, features)`` to embeddings ``(n, dim)``.
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
        """How an image becomes an input tensor."""
        return self.config.preprocessing

    @property
    def device(self) -> torch.device:
        """The device that it is on."""
        return self.head.mean.device

    def views(self, images: Tensor) -> list[Tensor]:
        """The images whose features are averaged in place of each image's own: test-time augmentation.

        One view is the image; two are the image and its mirror image; four are these of its centre, enlarged, as well.
        Unlike ``flip``, with which a model is trained and exported, views can be chosen for a model that exists.

        Args:
            images: ``(n, 3, size, size)``.

        Returns:
            As many tensors of the same shape as the configuration says.
        """
        found = [images]
        if self.config.views == 4:
            side = images.shape[-1]
            inside = slice(round(_MARGIN * side), side - round(_MARGIN * side))
            centre = images[..., inside, inside]
            found.append(functional.interpolate(centre, (side, side), mode="bicubic", align_corners=False))
        return found if self.config.views == 1 else [*found, *(view.flip(-1) for view in found)]

    def features(self, images: Tensor) -> Tensor:
        """Backbone features of ``(n, 3, size, size)``, of one view alone, shape ``(n, features)``."""
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(images)
        if self.config.flip:
            features = (features + self.backbone(images.flip(-1))) / 2
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings ``(n, dim)`` of ``(n, 3, size, size)``."""
        views = self.views(images)
        embeddings: Tensor = self.head(sum(self.features(view) for view in views) / len(views))
        return embeddings


class PairedEncoders(nn.Module):
    """A sketch encoder and a photo encoder; the inner product of their embeddings is the retrieval score.

    Args:
        config: configuration of both encoders.
        sketch: the sketch encoder.
        photo: the photo encoder.

    Example:
        >>> from training.model.backbones import build_backbone
        >>> encoder = EncoderConfig(preprocessing=Preprocessing(size=64), head=HeadConfig(features=256, dim=16))
        >>> config = PairedEncodersConfig(backbone="test_efficientnet", sketch=encoder, photo=encoder)
        >>> encoders = build_encoders(config, build_backbone(config.backbone, multi_scale=False)).eval()
        >>> sketches, photos = torch.rand(2, 3, 64, 64), torch.rand(5, 3, 64, 64)
        >>> (encoders.sketch(sketches) @ encoders.photo(photos).T).shape  # a score for each sketch and photo
        torch.Size([2, 5])
    """

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
        """Makes both encoders take images of another size, in pixels, unless their backbones take only one."""
        for encoder in (self.sketch, self.photo):
            chosen = encoder.backbone.fixed_size or size
            preprocessing = encoder.preprocessing.model_copy(update={"size": chosen})
            encoder.config = encoder.config.model_copy(update={"preprocessing": preprocessing})
        self.config = self.config.model_copy(update={"sketch": self.sketch.config, "photo": self.photo.config})


def build_encoders(
    config: PairedEncodersConfig, sketch_backbone: Backbone, photo_backbone: Backbone | None = None
) -> PairedEncoders:
    """Assembles encoders around backbones.

    Args:
        config: configuration of both encoders.
        sketch_backbone: backbone of the sketch encoder, and of the photo encoder if they share one.
        photo_backbone: backbone of the photo encoder; needed only if they do not share one.

    Raises:
        ValueError: if backbones are not shared and only one is given.
        BundleError: if a backbone gives other features than the heads were made for.
    """
    if config.share_backbone:
        photo_backbone = sketch_backbone
    elif photo_backbone is None:
        raise ValueError("without a shared backbone, the photo encoder needs a backbone of its own")
    for backbone, head in ((sketch_backbone, config.sketch.head), (photo_backbone, config.photo.head)):
        if backbone.num_features != head.features:
            raise BundleError(
                f"{config.backbone} gives {backbone.num_features} features, and the head takes {head.features}: the "
                "model was made by a version of svdraw, or of timm, that chose other stages; train it again"
            )
    sketch_backbone.to(memory_format=torch.channels_last)
    photo_backbone.to(memory_format=torch.channels_last)
    sketch_head = Head(config.sketch.head)
    photo_head = Head(config.photo.head, body=sketch_head.body if config.share_head else None)
    return PairedEncoders(
        config,
        Encoder(config.sketch, sketch_backbone, sketch_head),
        Encoder(config.photo, photo_backbone, photo_head),
    )
