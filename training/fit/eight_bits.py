"""Eight bits at the end of a run: how its backbones run in them, and what they keep on held-out classes."""

import copy
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from training.data.pairs import PairedData
from training.evaluation.precision import compare_precisions, find_int8
from training.features.paired import FeatureSet
from training.model.encoders import PairedEncoders
from training.model.quantisation import Quantisation

__all__ = ["EightBits", "measure_eight_bits", "with_ranges_of"]

logger = logging.getLogger(__name__)


class EightBits(NamedTuple):
    """What a bundle says of its backbones in eight bits.

    Attributes:
        tensors: see ``training.model.quantisation.Int8``.
        record: makes what the manifest says of them from the SHA-256 of their file.
    """

    tensors: Mapping[str, Tensor]
    record: Callable[[str], Quantisation]


def measure_eight_bits(
    encoders: PairedEncoders, features: FeatureSet, queries: Collection[str], exports: Path
) -> EightBits | None:
    """Chooses ranges from images of the training classes, and measures on the held-out ones.

    Args:
        encoders: trained without the held-out classes.
        features: of images of all classes, by these encoders' backbones.
        queries: the held-out classes.
        exports: folder of exported backbones.

    Returns:
        None, after a warning, if the backbones cannot run in eight bits: that must not cost anybody a training.
    """
    training = set(features.data.classes) - set(queries)

    def measure(on_cpu: PairedEncoders) -> EightBits:
        tensors = find_int8(on_cpu, features.data.select(training), exports)
        return EightBits(tensors, compare_precisions(on_cpu, tensors, features.select(queries), exports))

    return _tried(measure, encoders)


def with_ranges_of(
    encoders: PairedEncoders, data: PairedData, measured: EightBits | None, exports: Path
) -> EightBits | None:
    """The same record with ranges for other backbones, which were trained in the same way.

    Args:
        encoders: the other encoders.
        data: images to choose ranges from.
        measured: what was measured before, if anything was.
        exports: folder of exported backbones.
    """
    return measured and _tried(
        lambda on_cpu: measured._replace(tensors=find_int8(on_cpu, data, exports)),
        encoders,
    )


def _tried(find: Callable[[PairedEncoders], EightBits], encoders: PairedEncoders) -> EightBits | None:
    try:
        return find(encoders if encoders.sketch.device.type == "cpu" else copy.deepcopy(encoders).cpu())
    except MemoryError:
        raise
    except Exception as error:  # exporters and runtimes raise nearly anything
        logger.warning("the model has no ranges for eight bits: %s", error)
        return None
