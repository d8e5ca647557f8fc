"""A training run from data to model bundle: features, choices on held-out classes, final fit, canonical form."""

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.artifacts import write_text
from training.backbones import default_preprocessing, load_pretrained
from training.bundle import MANIFEST_NAME, BundleManifest, TrainingRecord, read_manifest, save_bundle
from training.checkpoints import EpochRecord
from training.data import PairedData, load_data
from training.encoders import EncoderConfig, PairedEncoders, PairedEncodersConfig, build_encoders
from training.errors import CheckpointError, TrainingError
from training.feature_set import FeatureSet
from training.features import FeatureCache, extract_features
from training.heads import HeadConfig, Norm
from training.initialisation import apply_canonical_form, apply_closed_form, learned_form, standardise
from training.losses import NestedLoRALoss
from training.recipe import Recipe
from training.run_log import RunLog, report_rejects
from training.sampling import Batch, FeatureBatches, PairSampler
from training.splits import ClassSplit, hold_out, load_split
from training.trainer import Optimization, train

__all__ = ["fit", "paired_features"]

logger = logging.getLogger(__name__)

RIDGES = (0.3, 1.0, 2.0, 4.0, 8.0, 16.0)
_RUN_NAME = "run.json"


@dataclass(frozen=True)
class _Choice:
    """What held-out classes decided, and how well it did on them."""

    ridge: float
    epochs: int
    validation_map: float | None


def fit(
    data_path: Path, out: Path, recipe: Recipe, *, split: str | None, cache: Path, device: torch.device
) -> BundleManifest:
    """Trains paired encoders and writes a model bundle; killed at any point, the same call goes on.

    Ridge and number of epochs are chosen on classes held out from the seen ones, whose sketches query all seen
    photos; the final model is then
    fitted on all seen classes. Unseen classes of the split are never opened.

    Args:
        data_path: folders or pairs table; see ``load_data``.
        out: becomes the bundle; also holds metrics, checkpoints and the list of rejected images.
        recipe: every other choice.
        split: see ``load_split``; every class is seen when omitted.
        cache: directory of cached features.
        device: where to compute.

    Raises:
        TrainingError: for data, split, backbone or checkpoint that cannot be used.
    """
    started = time.monotonic()
    data = load_data(data_path)
    classes = load_split(split, data.classes) if split else ClassSplit(data.classes, ())
    seen = data.select(classes.seen)
    fingerprint = _fingerprint(seen, recipe, classes)
    if finished := _finished(out, fingerprint):
        logger.info("%s is finished already; nothing to do", out)
        return finished
    write_text(out / _RUN_NAME, json.dumps({"fingerprint": fingerprint, "recipe": recipe.model_dump(mode="json")}))
    torch.manual_seed(recipe.seed)
    encoders = _build(recipe, seen).to(device).eval()
    features = paired_features(seen, encoders, cache, device, rejects=out / "rejects.jsonl")
    run = _Run(out, fingerprint, recipe, encoders)
    choice = run.choose(features)
    history = run.train(features, choice.ridge, "final", stop_after=choice.epochs)
    form = learned_form(encoders, features)
    if recipe.canonical:
        apply_canonical_form(encoders, form)
    record = TrainingRecord(
        classes=features.data.classes,
        unseen=classes.unseen,
        settings=recipe.model_dump(mode="json"),
        figures={
            "ridge": choice.ridge,
            "epochs": choice.epochs,
            **({"validation_map": choice.validation_map} if choice.validation_map is not None else {}),
            **({"final_loss": history[-1].loss} if history[-1].loss is not None else {}),
            "seconds": time.monotonic() - started,
        },
        images={"sketches": len(features.x), "photos": len(features.y)},
    )
    return save_bundle(out, encoders, form.spectrum.tolist(), record)


def paired_features(
    data: PairedData, encoders: PairedEncoders, cache: Path, device: torch.device, *, rejects: Path | None = None
) -> FeatureSet:
    """Backbone features of every usable image of a data set.

    Args:
        data: files and groups.
        encoders: their backbones and preprocessing are used.
        cache: directory of cached features.
        device: where backbones run.
        rejects: file that lists the images left out.

    Raises:
        DataError: if too little is usable.
        TrainingError: if the cache cannot be read or written.
    """
    try:
        with closing(FeatureCache(cache)) as store:
            x = extract_features(data.sketches, encoders.sketch, store, device, title="sketch features")
            y = extract_features(data.photos, encoders.photo, store, device, title="photo features")
    except sqlite3.Error as error:
        raise TrainingError(
            f"the feature cache in {cache} cannot be used ({error}); free some space, or name another --cache"
        ) from error
    reasons = {str(data.sketches[row]): reason for row, reason in x.rejected.items()}
    reasons |= {str(data.photos[row]): reason for row, reason in y.rejected.items()}
    report_rejects(rejects, reasons, len(data.sketches) + len(data.photos))
    everything = FeatureSet(data, x.values, y.values)
    return everything.without(x.rejected, y.rejected) if reasons else everything


class _Run:
    """One run's choices and training; each stage has a checkpoint of its own."""

    def __init__(self, out: Path, fingerprint: str, recipe: Recipe, encoders: PairedEncoders) -> None:
        self.out = out
        self.fingerprint = fingerprint
        self.recipe = recipe
        self.encoders = encoders
        self.log = RunLog(out)
        self.heads = nn.ModuleList([encoders.sketch.head, encoders.photo.head])

    def choose(self, features: FeatureSet) -> _Choice:
        """Decides ridge and epochs on held-out classes, unless both are given."""
        recipe = self.recipe
        if len(features.data.classes) < 3 or (recipe.ridge is not None and not recipe.epochs):
            return _Choice(recipe.ridge or 2.0, recipe.epochs, None)
        held_out = hold_out(features.data.classes, recipe.validation, recipe.seed)
        training = features.select(held_out.seen)

        def validate() -> float:
            return features.mean_average_precision(self.encoders, frozenset(held_out.unseen))

        ridge = recipe.ridge or self._best_ridge(training, validate)
        history = self.train(training, ridge, "choose", validate=validate)
        best = max(history, key=lambda record: record.validation_map or 0.0)
        logger.info(
            "chosen on %d held-out classes: ridge %g, %d epochs (mAP %.4f)",
            len(held_out.unseen),
            ridge,
            best.epoch,
            best.validation_map or 0.0,
        )
        return _Choice(ridge, best.epoch, best.validation_map)

    def train(
        self,
        features: FeatureSet,
        ridge: float,
        stage: str,
        *,
        validate: Callable[[], float] | None = None,
        stop_after: int | None = None,
    ) -> list[EpochRecord]:
        """Initialises the heads and trains them."""
        recipe, device = self.recipe, self.encoders.sketch.head.mean.device
        self._initialise(features, ridge)
        batches = FeatureBatches(
            PairSampler(features.data, recipe.batch_size, recipe.seed),
            torch.from_numpy(features.x).to(device),
            torch.from_numpy(features.y).to(device),
        )
        history = train(
            self.heads,
            self._embed,
            batches,
            NestedLoRALoss(self.encoders.dim, recipe.nesting, step=recipe.nesting_step).to(device),
            self._optimization(features),
            checkpoint=self.out / f"checkpoint-{stage}.safetensors",
            fingerprint=self.fingerprint,
            stop_after=stop_after,
            validate=validate,
            on_epoch=lambda records: self.log.write(stage, records),
        )
        self.log.write(stage, history)
        return history

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.encoders.sketch.head.bounded(batch.x), self.encoders.photo.head.bounded(batch.y)

    def _initialise(self, features: FeatureSet, ridge: float) -> None:
        standardise(self.encoders, features)
        if self.recipe.init == "closed-form":
            apply_closed_form(self.encoders, features, features.moments(self.encoders), ridge)
            return
        torch.manual_seed(self.recipe.seed)
        for head in (self.encoders.sketch.head, self.encoders.photo.head):
            head.mu.fill_(self.recipe.mu)
            for layer in head.body.modules():
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()

    def _best_ridge(self, training: FeatureSet, validate: Callable[[], float]) -> float:
        if self.recipe.init != "closed-form":
            return 2.0
        standardise(self.encoders, training)
        moments = training.moments(self.encoders)
        scores = {}
        for ridge in RIDGES:
            apply_closed_form(self.encoders, training, moments, ridge)
            scores[ridge] = validate()
        logger.info("mAP on held-out classes by ridge: %s", ", ".join(f"{r:g}: {s:.4f}" for r, s in scores.items()))
        return max(scores, key=lambda ridge: scores[ridge])

    def _optimization(self, features: FeatureSet) -> Optimization:
        recipe = self.recipe
        return Optimization(
            epochs=recipe.epochs,
            steps=-(-max(len(features.x), len(features.y)) // recipe.batch_size),
            optimizer=recipe.optimizer,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            clip=recipe.clip,
            amp=recipe.amp,
        )


def _build(recipe: Recipe, data: PairedData) -> PairedEncoders:
    backbone = load_pretrained(recipe.backbone, multi_scale=recipe.multi_scale)
    preprocessing = default_preprocessing(backbone, recipe.image_size)
    dim = min(recipe.dim, len(data.groups) - 1) if recipe.init == "closed-form" else recipe.dim

    def head(norm: Norm) -> HeadConfig:
        return HeadConfig(features=backbone.num_features, dim=dim, hidden=recipe.hidden, norm=norm)

    sketch = preprocessing.model_copy(update={"crop_to_ink": recipe.crop_to_ink})
    photo = preprocessing.model_copy(update={"grayscale": recipe.grayscale})
    config = PairedEncodersConfig(
        backbone=recipe.backbone,
        multi_scale=recipe.multi_scale,
        sketch=EncoderConfig(preprocessing=sketch, head=head(recipe.sketch_norm), flip=recipe.flip),
        photo=EncoderConfig(preprocessing=photo, head=head(recipe.photo_norm), flip=recipe.flip),
        share_head=recipe.share_head,
    )
    encoders = build_encoders(config, backbone)
    backbone.requires_grad_(False)
    return encoders


def _fingerprint(data: PairedData, recipe: Recipe, classes: ClassSplit) -> str:
    """Identifies what a run depends on: recipe, classes, and every file's name, size and time."""
    files = [
        (str(file), stat.st_size, stat.st_mtime_ns) for file in (*data.sketches, *data.photos) if (stat := file.stat())
    ]
    content = [recipe.model_dump(mode="json"), classes, files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _finished(out: Path, fingerprint: str) -> BundleManifest | None:
    """The manifest if this very run is finished already.

    Raises:
        CheckpointError: if the folder belongs to another run.
    """
    path = out / _RUN_NAME
    if not path.exists():
        return None
    try:
        same = json.loads(path.read_text())["fingerprint"] == fingerprint
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged; remove {out} to train again") from error
    if not same:
        raise CheckpointError(f"{out} holds a run with other data or settings; use another --out, or remove the folder")
    return read_manifest(out) if (out / MANIFEST_NAME).exists() else None
