"""The one engine behind everything that embeds: ONNX Runtime on a CPU, PyTorch, in half precision, on a GPU.

A backbone is exported once and kept in the user's cache, so that only the first use of a model spends time on it; both
modalities share the export of a shared backbone. Heads are a few small products, and run on PyTorch. What is faster is
checked against PyTorch in single precision before it is used.
"""

import hashlib
import json
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.base.artifacts import atomic_write
from training.base.cache import default_cache_directory
from training.model.encoders import Encoder
from training.model.tensors import module_tensors

# Read when ONNX Runtime is imported, which would otherwise give the machine an identity and look up its makers' host.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

__all__ = ["TOLERANCES", "Precision", "Runner", "Runtime", "backbone_digest", "build_runner"]

logger = logging.getLogger(__name__)
onnxruntime.disable_telemetry_events()  # for versions that do not know the variable
for exporter in ("onnx_ir", "onnxscript", "torch.onnx"):
    logging.getLogger(exporter).setLevel(logging.WARNING)  # the exporters report every constant that they fold

Precision = Literal["auto", "fp32", "fp16", "bf16"]
Runtime = Literal["auto", "torch", "onnx"]

# Relative to the largest coordinate. Differences measured with sketches on a CPU: 2e-6, 2e-3 and 6e-2.
TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 2e-1}

_TYPES: Mapping[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
_KEPT = 20  # exports, of 14 MB each with the default backbone
_WORTH_EXPORTING = 1000  # images; exporting takes as long as some hundred of them gain

Features = Callable[[Tensor], Tensor]

_exporting = threading.Lock()


class Runner:
    """An encoder in evaluation mode, as fast as this machine runs it. It may be used from many threads.

    Args:
        encoder: supplies the head, and the backbone unless ``backbone`` is faster.
        backbone: maps a preprocessed batch ``(n, 3, size, size)`` to features ``(n, features)``.
        identity: of what ``backbone`` runs, or None if it is the encoder's own on PyTorch.
    """

    def __init__(self, encoder: Encoder, backbone: Features, identity: str | None = None) -> None:
        self.encoder = encoder
        self.backbone = backbone
        self.identity = identity

    def __call__(self, batch: Tensor) -> NDArray[np.float32]:
        """Embeds a preprocessed batch ``(n, 3, size, size)``, ``(n, dim)``."""
        with torch.inference_mode():
            embeddings: NDArray[np.float32] = self.encoder.head(self.backbone(batch)).cpu().numpy()
        return embeddings

    def embed(self, images: Sequence[Tensor], at_once: int) -> NDArray[np.float32]:
        """Embeds preprocessed images ``(3, size, size)``, ``(n, dim)``.

        Args:
            images: at least one.
            at_once: images that the backbone takes together; the head takes all, so that its weights, which are more
                than a core's cache holds, are read once.
        """
        with torch.inference_mode():
            parts = [torch.stack(list(images[start : start + at_once])) for start in range(0, len(images), at_once)]
            features = torch.cat([self.backbone(part) for part in parts])
            embeddings: NDArray[np.float32] = self.encoder.head(features).cpu().numpy()
        return embeddings

    def features(self, batch: Tensor) -> NDArray[np.float32]:
        """Backbone features of a preprocessed batch, ``(n, features)``."""
        with torch.inference_mode():
            features: NDArray[np.float32] = self.backbone(batch).cpu().numpy()
        return features


def build_runner(
    encoder: Encoder,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    *,
    cache: Path | None = None,
    threads: int = 1,
    images: int | None = None,
    like: Runner | None = None,
) -> Runner:
    """Finds the fastest way to run an encoder on the device that it is on.

    Args:
        encoder: is put in evaluation mode.
        runtime: ``torch``, ``onnx``, or ``auto`` for ONNX Runtime on a CPU and PyTorch elsewhere.
        precision: of the backbone's layers that tolerate it, on PyTorch; ``auto`` for half precision on a GPU.
        cache: folder of exported backbones; the user's when omitted.
        threads: threads that ONNX Runtime uses for one call.
        images: how many there are to run; for few a backbone is not exported, unless the runtime is ``onnx``.
        like: a runner whose exported backbone is taken if it is the same.

    A backbone that cannot be exported, or whose results change when it is made faster, runs on PyTorch in single
    precision, and the log says so.
    """
    encoder.eval()
    device = encoder.device
    plain = Runner(encoder, lambda batch: _features(encoder, batch, device))
    if precision == "auto":
        precision = "fp32" if device.type == "cpu" else "fp16"
    if precision == "fp32" and (runtime == "torch" or (runtime == "auto" and device.type != "cpu")):
        return plain
    try:
        if precision == "fp32":
            few = images is not None and images < _WORTH_EXPORTING and runtime == "auto"
            runner = _exported(encoder, cache or default_cache_directory() / "onnx", threads, few, like)
            if runner is None:
                return plain
        else:
            runner = Runner(encoder, lambda batch: _reduced(encoder, batch, device, _TYPES[precision]))
        _check_same(plain, runner, encoder.preprocessing.size, TOLERANCES[precision])
    except Exception as error:  # exporters and runtimes raise nearly anything
        logger.warning("the encoder runs on PyTorch in single precision: %s", error)
        return plain
    return runner


def backbone_digest(encoder: Encoder) -> str:
    """SHA-256 of the architecture and weights of an encoder's backbone, and of how it is used."""
    digest = hashlib.sha256()
    for name, tensor in module_tensors(encoder.backbone).items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(json.dumps([encoder.backbone.widths, encoder.config.flip]).encode())
    return digest.hexdigest()


def _features(encoder: Encoder, batch: Tensor, device: torch.device) -> Tensor:
    return encoder.features(batch.to(device, non_blocking=True)).float()


def _reduced(encoder: Encoder, batch: Tensor, device: torch.device, precision: torch.dtype) -> Tensor:
    with torch.autocast(device.type, precision):
        return _features(encoder, batch, device)


def _exported(encoder: Encoder, cache: Path, threads: int, few: bool, like: Runner | None) -> Runner | None:
    """The encoder on ONNX Runtime; None for few images whose backbone would have to be exported."""
    choices = [backbone_digest(encoder), str(encoder.preprocessing.size), torch.__version__, str(threads)]
    identity = hashlib.sha256(" ".join(choices).encode()).hexdigest()
    if like is not None and like.identity == identity:
        return Runner(encoder, like.backbone, identity)
    path = cache / f"backbone-{hashlib.sha256(' '.join(choices[:-1]).encode()).hexdigest()[:32]}.onnx"
    if few and not path.is_file():
        return None
    return Runner(encoder, _load(encoder, path, threads), identity)


def _load(encoder: Encoder, path: Path, threads: int) -> Features:
    if path.is_file():
        try:
            return _session(path.read_bytes(), threads)
        except Exception as error:  # a damaged file; ONNX Runtime's exceptions have no common base class
            logger.warning("%s cannot be loaded and is exported again: %s", path, error)
    logger.info("exporting the backbone for this CPU, which is done once for every model")
    with _exporting:  # the exporter changes what the whole process has
        content = _export(encoder)
    try:
        _forget_oldest(path.parent)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        logger.warning("the exported backbone cannot be saved, so the next start will export it again: %s", error)
    return _session(content, threads)


def _forget_oldest(cache: Path) -> None:
    """Keeps a folder of exports small, whatever is trained; one that is needed again is exported again."""
    exports = sorted(cache.glob("*.onnx"), key=lambda file: file.stat().st_mtime)
    for file in exports[: max(0, len(exports) + 1 - _KEPT)]:
        file.unlink(missing_ok=True)


class _Backbone(nn.Module):
    """What is exported of an encoder: its features."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.features(images)


def _export(encoder: Encoder) -> bytes:
    size = encoder.preprocessing.size
    encoder = Encoder(encoder.config, encoder.backbone.at_size(size), encoder.head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about the exporter's internals
        program = torch.onnx.export(
            _Backbone(encoder).eval(),
            (torch.zeros(2, 3, size, size),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _session(content: bytes, threads: int) -> Features:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to decoding
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch.numpy()})[0])


def _check_same(expected: Runner, actual: Runner, size: int, tolerance: float) -> None:
    batch = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = expected(batch)
    difference = float(np.abs(actual(batch) - wanted).max() / np.abs(wanted).max())
    if not difference <= tolerance:
        raise ValueError(f"its results differ by {difference:.1e} of the largest coordinate")
