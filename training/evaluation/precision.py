"""Finds how a model runs in eight bits, and measures what they keep of its embeddings and of what they find."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.base.errors import DataError
from training.data.instances import own_photos
from training.data.pairs import PairedData
from training.data.splits import hold_out
from training.evaluation.figures import instance_accuracy, retrieval_figures
from training.evaluation.protocol import query_classes
from training.features.extraction import extract_features
from training.features.paired import FeatureSet, head_embeddings, paired_features
from training.inference.exports import exported_backbone
from training.inference.ranges import find_ranges
from training.inference.runners import build_runner
from training.model.bundle import Bundle, set_int8
from training.model.encoders import Modality, PairedEncoders
from training.model.images import open_image
from training.model.quantisation import SHARED, Comparison, Int8, Quantisation

__all__ = ["compare_precisions", "find_int8", "measured_classes", "quantise_bundle"]

_IMAGES = 128  # of each modality, to choose ranges from
_CPU = torch.device("cpu")
_MODALITIES: tuple[Modality, ...] = ("sketch", "photo")


def measured_classes(bundle: Bundle, data: PairedData, split: str | None) -> tuple[str, ...]:
    """Classes that both precisions are measured on: those that the model was not trained on, but for half if it is all.

    Args:
        bundle: the model.
        data: pairs of images.
        split: see ``query_classes``.

    Raises:
        SplitError: if the split does not fit the data, or leaves too few classes.
        DataError: if the model was trained on all of them.
    """
    unknown = set(query_classes(bundle, data, split)) - set(bundle.manifest.training.classes)
    if not unknown:
        raise DataError("the model was trained on every class of the data; give data that has others as well")
    if unknown == set(data.classes):
        return hold_out(data.classes, 0.5, seed=0).unseen
    return tuple(sorted(unknown))


def quantise_bundle(
    directory: Path, bundle: Bundle, data: PairedData, measured: Collection[str], cache: Path
) -> Quantisation:
    """Chooses ranges for eight bits, measures both precisions, and writes everything into the bundle.

    Args:
        directory: folder of the bundle.
        bundle: the bundle, on the CPU.
        data: pairs of images.
        measured: classes whose sketches search among their photos; ranges are chosen from images of the others.
        cache: the user's cache, of features and exported backbones.

    Raises:
        DataError: if no image is usable.
        BundleError: if the backbone cannot run in eight bits, or the bundle is on a hub.
    """
    exports = cache / "onnx"
    tensors = find_int8(bundle.encoders, data.select(set(data.classes) - set(measured)), exports)
    features = paired_features(data.select(measured), bundle.encoders, cache, _CPU)
    written = set_int8(directory, tensors, compare_precisions(bundle.encoders, tensors, features, exports)).int8
    assert written is not None
    return written


def find_int8(encoders: PairedEncoders, data: PairedData, exports: Path) -> dict[str, Tensor]:
    """What ``Int8`` holds, chosen from images of both modalities, or of each if they have backbones of their own.

    Args:
        encoders: encoders.
        data: images of the kind that the encoders are to see.
        exports: folder of exported backbones.

    Raises:
        DataError: if no image is usable.
    """
    images = {
        modality: list(_images(encoders, modality, files))
        for modality, files in zip(_MODALITIES, (data.sketches, data.photos), strict=True)
    }
    parts = {SHARED: [*images["sketch"], *images["photo"]]} if encoders.config.share_backbone else images
    found: dict[str, Tensor] = {}
    for part, some in parts.items():
        encoder = encoders.photo if part == "photo" else encoders.sketch
        ranges = find_ranges(exported_backbone(encoder.eval(), exports), some)
        found |= {f"{part}/{name}": tensor for name, tensor in ranges.items()}
    return found


def compare_precisions(
    encoders: PairedEncoders, tensors: Mapping[str, Tensor], features: FeatureSet, exports: Path
) -> Callable[[str], Quantisation]:
    """Measures what eight bits keep.

    Args:
        encoders: on the CPU.
        tensors: of ``find_int8``.
        features: of the sketches that search and of the photos to find, in single precision.
        exports: folder of exported backbones.

    Returns:
        A function that makes what a manifest says of them, from the SHA-256 of the file that the tensors are in.

    Raises:
        BundleError: if the backbone cannot run in eight bits.
    """
    eight_bits = _in_eight_bits(encoders, Int8(tensors, "", is_default=False), features.data, exports)
    sketches = [head_embeddings(encoders.sketch, each.x) for each in (features, eight_bits)]
    photos = [head_embeddings(encoders.photo, each.y) for each in (features, eight_bits)]
    searches = [*zip(sketches, photos, strict=True), (sketches[0], photos[1])]
    single, whole, mixed = (dict(_figures(*search, features)) for search in searches)
    return partial(
        _record,
        cosines={"sketch": _cosine(*sketches), "photo": _cosine(*photos)},
        figures={name: Comparison(fp32=single[name], int8=whole[name], mixed=mixed[name]) for name in single},
        queries=len(features.data.sketches),
        instance_queries=int((own_photos(features.data) >= 0).sum()),
    )


def _record(sha256: str, **measured: Any) -> Quantisation:
    return Quantisation(sha256=sha256, **measured)


def _images(encoders: PairedEncoders, modality: Modality, files: Sequence[Path]) -> Iterator[Tensor]:
    """Some preprocessed images, chosen by chance; those that cannot be opened are left out.

    Raises:
        DataError: if there is none.
    """
    preprocessing, found = encoders.encoder(modality).preprocessing, 0
    for row in np.random.default_rng(0).permutation(len(files)):
        try:
            image = preprocessing(open_image(files[row], draft=preprocessing.draft))
        except MemoryError:
            raise
        except Exception:
            continue
        yield image
        found += 1
        if found == _IMAGES:
            return
    if not found:
        raise DataError(f"no {modality} of the data is usable, so that there is nothing to choose ranges from")


def _in_eight_bits(encoders: PairedEncoders, int8: Int8, data: PairedData, exports: Path) -> FeatureSet:
    values, like = [], None
    for modality, files in zip(_MODALITIES, (data.sketches, data.photos), strict=True):
        encoder = encoders.encoder(modality)
        like = build_runner(encoder, "onnx", "int8", int8=int8.part(modality), cache=exports, like=like)
        title = f"{modality} features, 8 bits"
        values.append(extract_features(files, encoder, None, _CPU, title=title, runner=like).values)
    return FeatureSet(data, *values)


def _figures(
    sketches: NDArray[np.float32], photos: NDArray[np.float32], features: FeatureSet
) -> Iterator[tuple[str, float]]:
    found = retrieval_figures(sketches, photos, features.relevance())
    yield "mAP", found.map_all
    yield "acc@1", found.accuracy[1]
    exact = instance_accuracy(sketches, photos, own_photos(features.data))
    if exact:
        last = max(k for k in exact if k <= 10)
        yield f"acc@{last}, instance", exact[last]


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean cosine between rows of both, ``(n, dim)``, after the mean of the first was taken from either."""
    mean = first.mean(axis=0)
    one, other = first - mean, second - mean
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)).mean())
