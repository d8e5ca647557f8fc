"""One training of paired encoders on given data: initialisation, gradient descent, and the final fit of the heads."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.features.paired import FeatureSet
from training.fit.checkpoints import EpochRecord
from training.fit.closed_form import Moments, feature_moments
from training.fit.distributed import gather_rows, own_file
from training.fit.head_parameters import apply_canonical_form, apply_closed_form, blend_heads, learned_form, standardise
from training.fit.image_batches import ImageBatches
from training.fit.optimisation import Optimization, ParameterGroup, minimise
from training.fit.recipe import Recipe
from training.fit.run_log import RunLog
from training.fit.sampling import Batch, FeatureBatches, PairSampler
from training.fit.teaching import Embedded, build_teacher
from training.model.canonical import CanonicalForm
from training.model.encoders import PairedEncoders

__all__ = ["DEFAULT_RIDGE", "Stage"]

logger = logging.getLogger(__name__)

DEFAULT_RIDGE = 8.0


@dataclass(frozen=True)
class Stage:
    """One training of paired encoders, with a checkpoint of its own.

    Attributes:
        name: name of the checkpoint, and of the stage in the figures.
        out: folder of the run.
        fingerprint: identifies the data and the settings; a checkpoint with another fingerprint is refused.
        recipe: the choices of the run.
        encoders: the encoders, which are trained in place.
        log: where the figures of each epoch are written.
        start: the model whose heads keep a share in the closed form, if any.
    """

    name: str
    out: Path
    fingerprint: str
    recipe: Recipe
    encoders: PairedEncoders
    log: RunLog
    start: PairedEncoders | None = None

    def train(self, features: FeatureSet) -> list[EpochRecord]:
        """Initialises the heads and trains the heads, or heads and backbones, as the recipe says.

        Args:
            features: training data, by the backbones as they are before training.

        Returns:
            One record for each epoch; none if the recipe trains nothing beyond the closed form.

        Raises:
            CheckpointError: if the checkpoint is damaged or belongs to another run.
            DivergenceError: if the loss diverges.
        """
        if self.recipe.tune == "none":
            return []  # the heads get all their values at the end
        self._initialise(features)
        if self.recipe.tune == "heads":
            return self._train_heads(features)
        return self._train_all(features)

    def standardised_moments(self, features: FeatureSet) -> Moments:
        """Sets the standardisation of the heads and computes the moments that a closed form needs.

        Args:
            features: training data, by the backbones as they are now.

        Returns:
            Second moments of the standardised features.
        """
        standardise(self.encoders, features, self.recipe.standardise)
        if self.start:  # its heads fit its own scales only
            self.encoders.sketch.head.scale.copy_(self.start.sketch.head.scale)
            self.encoders.photo.head.scale.copy_(self.start.photo.head.scale)
        return _moments(self.encoders, features)

    def refit(self, features: FeatureSet, ridge: float | None, moments: Moments | None = None) -> CanonicalForm:
        """Gives the heads their final values: a closed form or the trained ones, in canonical form.

        Args:
            features: training data, by the backbones as they are now.
            ridge: regularisation of a closed form that replaces the heads; None keeps the trained heads.
            moments: ``standardised_moments`` of the features, if they were computed already.

        Returns:
            The canonical form; it is applied to the heads if the recipe says so.

        Raises:
            DivergenceError: if an embedding is not finite.
        """
        if ridge is not None:
            moments = moments or self.standardised_moments(features)
            apply_closed_form(self.encoders, features, moments, ridge)
            if self.start:
                blend_heads(self.encoders, self.start, features, moments, self.recipe.start_heads)
        form = learned_form(self.encoders, features)
        if self.recipe.canonical:
            apply_canonical_form(self.encoders, form)
        return form

    def _initialise(self, features: FeatureSet) -> None:
        recipe = self.recipe
        if recipe.init == "closed-form":
            moments = self.standardised_moments(features)
            apply_closed_form(self.encoders, features, moments, recipe.ridge or DEFAULT_RIDGE)
            return
        standardise(self.encoders, features, self.recipe.standardise)
        torch.manual_seed(recipe.seed)
        for head in (self.encoders.sketch.head, self.encoders.photo.head):
            head.mu.fill_(recipe.mu)
            for layer in head.body.modules():
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()

    def _train_heads(self, features: FeatureSet) -> list[EpochRecord]:
        encoders, device = self.encoders, self.encoders.sketch.head.mean.device
        batches = FeatureBatches(
            PairSampler(features.data, self.recipe.batch_size, self.recipe.seed),
            torch.from_numpy(features.x).to(device),
            torch.from_numpy(features.y).to(device),
        )

        def embed(batch: Batch) -> Embedded:
            return _embedded(encoders, batch.x, batch.y)

        return self._train(features, batches, embed, self._head_groups())

    def _train_all(self, features: FeatureSet) -> list[EpochRecord]:
        encoders, recipe = self.encoders, self.recipe
        batches = ImageBatches(
            features.data,
            encoders,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            device=encoders.sketch.head.mean.device,
            class_pairs=recipe.class_pairs,
            rejects=own_file(self.out / "rejects.jsonl"),
        )

        def embed(batch: Batch) -> Embedded:
            return _embedded(encoders, *_features(encoders, batch))

        groups = self._backbone_groups()
        tuned = [parameter for group in groups for parameter in group.parameters]
        for parameter in tuned:
            parameter.requires_grad_(True)
        try:
            return self._train(features, batches, embed, [*self._head_groups(), *groups])
        finally:
            batches.close()
            for parameter in tuned:
                parameter.requires_grad_(False)

    def _backbone_groups(self) -> list[ParameterGroup]:
        """The backbone parameters that are trained; earlier stages learn more slowly by ``layer_decay``."""
        recipe, backbones = self.recipe, (self.encoders.sketch.backbone, self.encoders.photo.backbone)
        groups = []
        for backbone in dict.fromkeys(backbones):  # one, where it is shared
            stages = backbone.trained_stages(recipe.frozen_stages)
            rates = [recipe.backbone_learning_rate * recipe.layer_decay**depth for depth in range(len(stages))]
            groups += [ParameterGroup(stage, rate) for stage, rate in zip(reversed(stages), rates, strict=True)]
        return groups

    def _head_groups(self) -> list[ParameterGroup]:
        heads = nn.ModuleList([self.encoders.sketch.head, self.encoders.photo.head])
        return [ParameterGroup(list(heads.parameters()), self.recipe.learning_rate)]

    def _train(
        self,
        features: FeatureSet,
        batches: Callable[[int], Batch],
        embed: Callable[[Batch], Embedded],
        groups: Sequence[ParameterGroup],
    ) -> list[EpochRecord]:
        recipe, encoders = self.recipe, self.encoders
        device = encoders.sketch.head.mean.device
        module = encoders if recipe.tune == "all" else nn.ModuleList([encoders.sketch.head, encoders.photo.head])
        teacher = build_teacher(recipe, encoders, features)

        def loss(step: int) -> Tensor:
            batch = batches(step)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp and batch.x.is_cuda):
                own = embed(batch)
            union = Batch(batch.x, batch.y, *(gather_rows(part) for part in batch[2:]))
            return teacher(Embedded(*(gather_rows(part.float()) for part in own)), union)

        history = minimise(
            module,
            groups,
            loss,
            _optimization(recipe, len(features.y)),
            checkpoint=self.out / f"checkpoint-{self.name}.safetensors",
            fingerprint=self.fingerprint,
            on_epoch=lambda records: self.log.write(self.name, records),
        )
        self.log.write(self.name, history)
        return history


def _moments(encoders: PairedEncoders, features: FeatureSet) -> Moments:
    """Moments of the features as the heads standardise them."""
    data = features.data
    incidences = data.sketch_incidence(), data.photo_incidence()
    moments = feature_moments(features.x, features.y, *incidences, data.weights)
    return moments.scaled(encoders.sketch.head.scale.cpu().numpy(), encoders.photo.head.scale.cpu().numpy())


def _features(encoders: PairedEncoders, batch: Batch) -> tuple[Tensor, Tensor]:
    """Backbone features of both modalities; on a GPU, one backbone takes all images of a batch at once."""
    sketch, photo = encoders.sketch.backbone, encoders.photo.backbone
    x, y = (images.contiguous(memory_format=torch.channels_last) for images in (batch.x, batch.y))
    if sketch is photo and x.is_cuda:
        features_x, features_y = sketch(torch.cat([x, y])).chunk(2)
        return features_x, features_y
    return sketch(x), photo(y)


def _embedded(encoders: PairedEncoders, x: Tensor, y: Tensor) -> Embedded:
    return Embedded(encoders.sketch.head.bounded(x), encoders.photo.head.bounded(y), x, y)


def _optimization(recipe: Recipe, images: int) -> Optimization:
    return Optimization(
        epochs=recipe.epochs,
        steps=-(-images // recipe.batch_size),
        optimizer=recipe.optimizer,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        clip=recipe.clip,
        average=recipe.average,
    )
