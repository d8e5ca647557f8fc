"""Peak memory and processor time of each step from a pairs table to the figures, on synthetic features."""

import csv
import resource
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.base.row_blocks import row_blocks
from training.data.pairs import PairedData, load_data
from training.data.relevance import class_relevance
from training.evaluation.figures import mean_average_precision
from training.evaluation.report import Searches, retrieval_report
from training.features.paired import FeatureSet, head_embeddings
from training.fit.losses import NestedLoRALoss
from training.fit.recipe import Recipe
from training.fit.run_log import RunLog
from training.fit.sampling import FeatureBatches, PairSampler
from training.fit.stage import Stage
from training.model.backbones import Backbone
from training.model.encoders import EncoderConfig, PairedEncoders, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.neighbours import STRENGTH, gallery_strength, with_neighbours
from training.model.preprocessing import Preprocessing

__all__ = ["measure_memory"]

_RIDGE = 8.0
_BATCH = 64
_NOISE = 2.0  # of a feature, where the centres of classes have 1


class _Features(Backbone):
    """What stands for a backbone whose features are known."""

    def __init__(self, features: int) -> None:
        torch.nn.Module.__init__(self)
        self.widths = (features,)


def measure_memory(options: Namespace) -> None:
    """Prints the peak of the process so far, and the processor time of each step."""
    print("| step | | peak of the process, GB | processor time, s |\n| --- | --- | --- | --- |", flush=True)
    sketches = max(1, options.sketches // options.classes) * options.classes  # so many of each class
    with _step("features") as facts:
        x, y = _features(sketches, options)
        facts.append(f"{(x.nbytes + y.nbytes) / 1e9:.1f} GB")
    with tempfile.TemporaryDirectory() as folder:
        table = _write_table(Path(folder) / "pairs.csv", sketches, options)
        with _step("reading the pairs table") as facts:
            data = load_data(table)
            facts.append(f"{len(data.groups):,} rows")
        embeddings = _trained(FeatureSet(data, x, y), options, Path(folder))
    del x, y
    _evaluate(data, *embeddings, options)


def _features(sketches: int, options: Namespace) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of sketches and of photos; the first photos are those that the sketches depict."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((options.classes, options.features), np.float32)
    y = np.empty((options.photos, options.features), np.float32)
    for rows in row_blocks(len(y)):
        random.standard_normal(out=y[rows], dtype=np.float32)
        y[rows] *= _NOISE
        y[rows] += centres[np.arange(rows.start, rows.stop) % options.classes]
    x = y[:sketches].copy()
    for rows in row_blocks(len(x)):
        x[rows] += _NOISE * random.standard_normal(x[rows].shape, np.float32)
    return x, y


def _write_table(path: Path, sketches: int, options: Namespace) -> Path:
    """A row for each photo, with a sketch of its class; the files need not exist."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sketch", "photo", "class"))
        for photo in range(options.photos):
            label = f"class-{photo % options.classes:05}"
            # The names are in the order of the features, because files are sorted by name.
            writer.writerow((f"sketch/{photo % sketches:09}.png", f"photo/{photo:09}.jpg", label))
    return path


def _trained(features: FeatureSet, options: Namespace, out: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings of some sketches and of all photos, by a closed form."""
    recipe = Recipe(tune="none", dim=options.dim)
    head = HeadConfig(features=options.features, dim=options.dim, norm=recipe.photo_norm)
    config = EncoderConfig(preprocessing=Preprocessing(size=32), head=head)
    paired = PairedEncodersConfig(backbone="none", sketch=config, photo=config, share_head=recipe.share_head)
    encoders = build_encoders(paired, _Features(options.features))
    stage = Stage("million", out, "million", recipe, encoders, RunLog(out))
    with _step("closed form"):
        stage.refit(features, _RIDGE)
    with _step(f"{options.steps} steps of training the heads"):
        _train_heads(encoders, features, options)
    with _step("embeddings"):
        rows = max(options.queries, options.rank)
        return head_embeddings(encoders.sketch, features.x[:rows]), head_embeddings(encoders.photo, features.y)


def _train_heads(encoders: PairedEncoders, features: FeatureSet, options: Namespace) -> None:
    """Descends the objective and leaves the heads as they are, for what is measured are the steps."""
    batches = FeatureBatches(
        PairSampler(features.data, _BATCH, seed=0), torch.from_numpy(features.x), torch.from_numpy(features.y)
    )
    objective, heads = NestedLoRALoss(options.dim), (encoders.sketch.head, encoders.photo.head)
    for step in range(options.steps):
        batch = batches(step)
        objective(heads[0].bounded(batch.x), heads[1].bounded(batch.y), batch.labels).backward()


def _evaluate(data: PairedData, sketches: NDArray[np.float32], photos: NDArray[np.float32], options: Namespace) -> None:
    with _step("relevance"):
        relevance = class_relevance(data)
    some = np.arange(min(options.rank, len(sketches)))
    with _step(f"mAP@all of {len(some):,} sketches") as facts:
        facts.append(f"{mean_average_precision(sketches[some], photos, relevance[some]):.3f}")
    some = some[: options.queries]
    searches = Searches(sketches[some], photos, relevance[some], [f"{row % options.classes}" for row in some], some)
    with _step("neighbours of all photos") as facts:
        facts.append(f"strength {gallery_strength(photos):.1f}")
        mixed = with_neighbours(photos, strength=STRENGTH)
        facts.append(f"mAP@all at full strength {mean_average_precision(sketches[some], mixed, relevance[some]):.3f}")
        del mixed
    with _step(f"every figure of {len(some):,} sketches, of both kinds") as facts:
        report = retrieval_report(searches)
        facts.append(f"mAP@all {report.map_all:.3f}, exact match acc@10 {report.instance_accuracy[10]:.2f}")


@contextmanager
def _step(name: str) -> Iterator[list[str]]:
    """Prints a row once the step is done, with the facts that it adds."""
    facts: list[str] = []
    started = time.process_time()
    yield facts
    peak, spent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, time.process_time() - started
    print(f"| {name} | {'; '.join(facts)} | {peak:.1f} | {spent:.0f} |", flush=True)
