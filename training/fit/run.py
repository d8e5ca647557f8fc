"""A training run: from data to features, through choices on held-out classes, to the final model bundle."""

import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch

from training.base.artifacts import write_text
from training.base.errors import BundleError, CheckpointError, DataError, DivergenceError
from training.data.instances import DRAWINGS, with_instances, with_line_drawings
from training.data.pairs import PairedData, load_data
from training.data.splits import ClassSplit, hold_out, load_split
from training.evaluation.calibration import fit_calibration
from training.features.paired import FeatureSet, paired_features
from training.fit.beginning import check_backbone, first_encoders
from training.fit.checkpoints import EpochRecord
from training.fit.closed_form import Moments
from training.fit.distributed import broadcast, extract_together, first_alone, is_first
from training.fit.eight_bits import EightBits, measure_eight_bits, with_ranges_of
from training.fit.memory import keep_freed_memory
from training.fit.recipe import Recipe
from training.fit.run_log import RunLog
from training.fit.selection import Dimensions, choose_dimensions, climb, held_out_score
from training.fit.stage import DEFAULT_RIDGE, Stage
from training.model.bundle import load_bundle, save_bundle
from training.model.calibration import Calibration
from training.model.canonical import CanonicalForm
from training.model.encoders import PairedEncoders
from training.model.manifest import MANIFEST_NAME, BundleManifest, TrainingRecord, read_manifest

__all__ = ["fit"]

logger = logging.getLogger(__name__)

RIDGES = (0.3, 1.0, 2.0, 4.0, 8.0, 16.0)
_RUN_NAME = "run.json"
_REJECTS_NAME = "rejects.jsonl"


class _Ending(NamedTuple):
    """A way for the heads to end: ``ridge`` of the closed form, or None as they were trained; and what comes of it."""

    ridge: float | None
    score: float
    encoders: PairedEncoders
    spectrum: list[float]


@dataclass(frozen=True)
class _Choice:
    """What held-out classes decided, and how well it did on them.

    Attributes:
        ridge: of the closed form that the heads end as; None keeps them as trained.
        score: see ``held_out_score``.
        dimensions: see ``choose_dimensions``.
        calibration: see ``fit_calibration``.
        int8: see ``measure_eight_bits``.
    """

    ridge: float | None
    score: float | None
    dimensions: Dimensions | None
    calibration: Calibration | None = None
    int8: EightBits | None = None


def fit(
    data_path: Path, out: Path, recipe: Recipe, *, split: str | None, cache: Path, device: torch.device
) -> BundleManifest:
    """Trains paired encoders and writes a model bundle; killed at any point, the same call goes on.

    Some of the seen classes are held out first. On them the run decides whether the heads stay as trained or are
    replaced by a closed form, and with which ridge, and how many dimensions to search; see ``held_out_score``. The
    final model is then trained on all seen classes. Images of the split's unseen classes are never opened.

    Args:
        data_path: folders or pairs table; see ``load_data``.
        out: becomes the bundle; also holds metrics, checkpoints and the list of rejected images.
        recipe: all other choices.
        split: see ``load_split``; every class is seen when omitted.
        cache: directory of cached features and line drawings.
        device: where to compute.

    Raises:
        TrainingError: for data, split, backbone or checkpoint that cannot be used.
        DivergenceError: if the loss diverges.
    """
    started = time.monotonic()
    keep_freed_memory()
    data = load_data(data_path, recipe.pairing)
    classes = load_split(split, data.classes, training=True) if split else ClassSplit(data.classes, ())
    seen = data.select(classes.seen)
    fingerprint = _fingerprint(seen, recipe, classes)
    if finished := _finished(out, fingerprint):
        logger.info("%s is finished already; nothing to do", out)
        return finished
    check_backbone(recipe)
    if is_first():
        write_text(out / _RUN_NAME, json.dumps({"fingerprint": fingerprint, "recipe": recipe.model_dump(mode="json")}))
        write_text(out / _REJECTS_NAME, "")
    logger.info(seen.instances.describe(seen.sketches))
    run = _Run(out, fingerprint, recipe, seen, cache, device)
    choice = broadcast(run.choose())
    encoders, form, history, used = run.finish(choice)
    is_other = recipe.tune == "all" and is_first()  # the backbone, than the one that was measured
    int8 = with_ranges_of(encoders, seen, choice.int8, run.exports) if is_other else choice.int8
    record = TrainingRecord(
        classes=used.classes,
        unseen=classes.unseen,
        settings=recipe.model_dump(mode="json"),
        figures={
            **({"ridge": choice.ridge} if choice.ridge is not None else {}),
            **({"held_out_score": choice.score} if choice.score is not None else {}),
            **({"final_loss": history[-1].loss} if history and history[-1].loss is not None else {}),
            "seconds": time.monotonic() - started,
        },
        images={"sketches": len(used.sketches), "photos": len(used.photos)},
    )
    manifest = is_first() and save_bundle(
        out,
        encoders,
        form.spectrum.tolist(),
        record,
        best_dimensions=choice.dimensions and choice.dimensions.best,
        sufficient_dimensions=choice.dimensions and choice.dimensions.sufficient,
        calibration=choice.calibration,
        int8=int8,
        half=recipe.half,
    )
    return cast(BundleManifest, broadcast(manifest))


class _Run:
    """The two stages of a run: one on part of the seen classes, to choose on the others, and one on all.

    Backbones are trained on ``tuning``, the classes and the line drawings. The heads are fitted last, on ``pairs``,
    which has more of the instance pairs: training backbones on those as well made held-out classes worse.
    """

    def __init__(
        self, out: Path, fingerprint: str, recipe: Recipe, seen: PairedData, cache: Path, device: torch.device
    ) -> None:
        self.out = out
        self.fingerprint = fingerprint
        self.recipe = recipe
        self.seen = seen
        self.cache = cache
        self.exports = cache / "onnx"
        self.device = device
        self.log = RunLog(out)
        with first_alone():
            drawn = with_line_drawings(seen, recipe.line_drawings, cache / DRAWINGS)
        self.tuning = with_instances(drawn, recipe.tuning_instances)
        self.pairs = with_instances(drawn, recipe.instances)
        self.start = load_bundle(recipe.start, "cpu").encoders.to(device) if recipe.start else None
        if recipe.start_heads and self.start and not self.start.config.has_one_linear_head:
            raise BundleError(
                f"{recipe.start} has no linear head for both modalities; set start_heads to 0 in the recipe"
            )

    def choose(self) -> _Choice:
        """Decides how the heads end and how many dimensions are needed, on held-out classes."""
        unchosen = _Choice((self.recipe.ridge or DEFAULT_RIDGE) if self._may_be_closed else None, None, None)
        if len(self.seen.classes) < 3 or self.recipe.validation == 0:
            return unchosen
        stage, features = self._stage("choose")
        usable = features.restricted(self.seen).data.classes
        if len(usable) < 3:
            return unchosen
        held_out = hold_out(usable, self.recipe.validation, self.recipe.seed)
        stage.train(features.restricted(self.tuning).select(held_out.seen))
        tuned = self._tuned(stage, features)
        training, queries = tuned.select(held_out.seen), frozenset(held_out.unseen)
        tuned = tuned.restricted(self.seen)  # no line drawings among the queries
        if not queries.intersection(tuned.data.classes):
            raise DataError(f"no held-out class has usable images any more; see {self.out / _REJECTS_NAME}")
        best = self._best_ending(stage, training, lambda: held_out_score(tuned, stage.encoders, queries))
        dimensions = choose_dimensions(tuned, best.encoders, best.spectrum, queries)
        logger.info(
            "chosen on %d held-out classes: %s; score %.4f; %d dimensions serve best, %d keep 99%% of mAP",
            len(queries),
            _ending(best.ridge),
            best.score,
            *dimensions,
        )
        calibration = fit_calibration(tuned, best.encoders, best.spectrum, queries)
        return _Choice(best.ridge, best.score, dimensions, calibration, self._eight_bits(best.encoders, tuned, queries))

    def _best_ending(self, stage: Stage, training: FeatureSet, score: Callable[[], float]) -> _Ending:
        """The way for the heads to end that scores best: as trained, or as the closed form with a ridge."""
        best: list[_Ending] = []

        def end(ridge: float | None, moments: Moments | None = None) -> float:
            form = stage.refit(training, ridge, moments)
            found = score()
            logger.info("score on held-out classes, %s: %.4f", _ending(ridge), found)
            if not best or found > best[0].score:
                best[:] = [_Ending(ridge, found, copy.deepcopy(stage.encoders), form.spectrum.tolist())]
            return found

        if self.recipe.tune != "none" and not self.recipe.is_contrastive:
            end(None)
        if self._may_be_closed:
            moments = stage.standardised_moments(training)
            climb(lambda ridge: end(ridge, moments), (self.recipe.ridge,) if self.recipe.ridge else RIDGES)
        return best[0]

    def _eight_bits(self, encoders: PairedEncoders, features: FeatureSet, queries: Collection[str]) -> EightBits | None:
        if not is_first() or not self.recipe.quantizes(len(self.seen.sketches) + len(self.seen.photos)):
            return None
        return measure_eight_bits(encoders, features, queries, self.exports)

    def finish(self, choice: _Choice) -> tuple[PairedEncoders, CanonicalForm, list[EpochRecord], PairedData]:
        """Trains on all seen classes."""
        stage, features = self._stage("final")
        history = stage.train(features.restricted(self.tuning))
        form = stage.refit(self._tuned(stage, features), choice.ridge)
        if self.recipe.sketch_mean == "start" and self.start:
            stage.encoders.sketch.head.mean.copy_(self.start.sketch.head.mean)
        return stage.encoders, form, history, features.data

    def _stage(self, name: str) -> tuple[Stage, FeatureSet]:
        torch.manual_seed(self.recipe.seed)
        encoders = first_encoders(self.recipe, len(self.pairs.groups)).to(self.device).eval()
        if self.recipe.tune == "all":
            encoders.resize(self.recipe.training_size or self.recipe.image_size)
        features = self._features(self.pairs, encoders, self.cache)
        if len(features.restricted(self.seen).data.groups) < 2:
            raise DataError(f"fewer than two classes or pairs have usable images; see {self.out / _REJECTS_NAME}")
        start = self.start if self.recipe.start_heads else None
        return Stage(name, self.out, self.fingerprint, self.recipe, encoders, self.log, start), features

    def _tuned(self, stage: Stage, features: FeatureSet) -> FeatureSet:
        """Features by the backbones as training left them.

        Raises:
            DivergenceError: if one is not finite.
        """
        if self.recipe.tune != "all":
            return features
        stage.encoders.resize(self.recipe.image_size)
        tuned = self._features(features.data, stage.encoders, None)
        if not (np.isfinite(tuned.x).all() and np.isfinite(tuned.y).all()):
            raise DivergenceError("the trained backbone gives features that are not finite; lower the learning rate")
        return tuned

    def _features(self, data: PairedData, encoders: PairedEncoders, cache: Path | None) -> FeatureSet:
        rejects = self.out / _REJECTS_NAME if is_first() else None
        return paired_features(data, encoders, cache, self.device, rejects=rejects, extract=extract_together)

    @property
    def _may_be_closed(self) -> bool:
        return self.recipe.init == "closed-form" and self.recipe.tune != "heads"


def _ending(ridge: float | None) -> str:
    return "heads as trained" if ridge is None else f"closed form with ridge {ridge:g}"


def _fingerprint(data: PairedData, recipe: Recipe, classes: ClassSplit) -> str:
    """Identifies what a run depends on: recipe, classes, and every file's name, size and time."""
    files = [(str(file), *_version(file)) for file in (*data.sketches, *data.photos)]
    content = [recipe.model_dump(mode="json"), classes, files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _version(file: Path) -> tuple[int, int]:
    """Size and time of change; zeros for a file that is not there, which will be rejected when it is opened."""
    try:
        stat = file.stat()
    except OSError:
        return (0, 0)
    return stat.st_size, stat.st_mtime_ns


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
