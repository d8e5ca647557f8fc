"""Faster inference: ONNX Runtime on a CPU, half precision on a GPU. The results are checked before they are used.

The exported network is kept in the user's cache, so that only the first start with a model spends time on the export.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.base.artifacts import atomic_write
from training.model.bundle import Bundle
from training.model.encoders import Encoder

# Read when ONNX Runtime is imported, which would otherwise give the machine an identity and look up its makers' host.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

__all__ = ["TOLERANCES", "Precision", "build_runner"]

logger = logging.getLogger(__name__)
onnxruntime.disable_telemetry_events()  # for versions that do not know the variable
for exporter in ("onnx_ir", "onnxscript", "torch.onnx"):
    logging.getLogger(exporter).setLevel(logging.WARNING)  # the exporters report every constant that they fold

Precision = Literal["auto", "fp32", "fp16", "bf16"]

# Relative to the largest coordinate. Differences measured with sketches on a CPU: 2e-6, 2e-3 and 6e-2.
TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 2e-1}

_TYPES: Mapping[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}

Runner = Callable[[Tensor], NDArray[np.float32]]


def build_runner(
    bundle: Bundle, encoder: Encoder, runtime: str, cache: Path, threads: int, precision: Precision = "fp32"
) -> Runner:
    """Returns the function that maps a preprocessed batch ``(n, 3, size, size)`` to embeddings ``(n, dim)``.

    Args:
        bundle: bundle that the encoder belongs to.
        encoder: the bundle's ``sketch`` or ``photo`` encoder.
        runtime: ``torch``, ``onnx``, or ``auto`` for ONNX Runtime on a CPU and PyTorch elsewhere.
        cache: folder for exported encoders.
        threads: threads that ONNX Runtime uses for one call; several threads may call at the same time.
        precision: precision of those layers that tolerate it, on PyTorch; ``auto`` for half precision on a GPU.

    An encoder that cannot be exported, or whose results change when it is made faster, runs on PyTorch in single
    precision, and the log says so.
    """
    on_cpu = bundle.device.type == "cpu"
    if precision == "auto":
        precision = "fp32" if on_cpu else "fp16"

    def plain(batch: Tensor) -> NDArray[np.float32]:
        return bundle.encode(encoder, batch)

    def reduced(batch: Tensor) -> NDArray[np.float32]:
        with torch.autocast(bundle.device.type, _TYPES[precision]):
            return bundle.encode(encoder, batch)

    if precision == "fp32" and (runtime == "torch" or (runtime == "auto" and not on_cpu)):
        return plain
    try:
        quicker = _load(bundle, encoder, cache, threads) if precision == "fp32" else reduced
        _check_same(plain, quicker, encoder.preprocessing.size, TOLERANCES[precision])
    except Exception as error:  # exporters and runtimes raise nearly anything
        logger.warning("the encoder runs on PyTorch in single precision: %s", error)
        return plain
    return quicker


def _load(bundle: Bundle, encoder: Encoder, cache: Path, threads: int) -> Runner:
    identity = [bundle.digest, encoder.config.model_dump_json(), torch.__version__]
    modality = "sketch" if encoder is bundle.sketch else "photo"
    path = cache / f"{modality}-{hashlib.sha256(' '.join(identity).encode()).hexdigest()[:32]}.onnx"
    if path.is_file():
        try:
            return _session(path.read_bytes(), threads)
        except Exception as error:  # a damaged file; ONNX Runtime's exceptions have no common base class
            logger.warning("%s cannot be loaded and is exported again: %s", path, error)
    logger.info("exporting the %s encoder for this CPU, which is done once for every model", modality)
    content = _export(encoder)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        logger.warning("the exported encoder cannot be saved, so the next start will export it again: %s", error)
    return _session(content, threads)


def _export(encoder: Encoder) -> bytes:
    size = encoder.preprocessing.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about the exporter's internals
        program = torch.onnx.export(
            encoder,
            (torch.zeros(2, 3, size, size),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _session(content: bytes, threads: int) -> Runner:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to decoding
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: Tensor) -> NDArray[np.float32]:
        embeddings: NDArray[np.float32] = session.run(None, {name: batch.numpy()})[0]
        return embeddings

    return run


def _check_same(expected: Runner, actual: Runner, size: int, tolerance: float) -> None:
    batch = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = expected(batch)
    difference = float(np.abs(actual(batch) - wanted).max() / np.abs(wanted).max())
    if not difference <= tolerance:
        raise ValueError(f"its results differ by {difference:.1e} of the largest coordinate")
