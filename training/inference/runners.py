"""The one engine behind everything that embeds: ONNX Runtime on a CPU, PyTorch, in half precision, on a GPU.

A backbone is exported once, so that only the first use of a model spends time on it. Heads are a few small products,
and run on PyTorch. What is faster is checked before it is used: single and half precision against PyTorch in single
precision, eight bits against the same computed in floats.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.base.cache import default_cache_directory
from training.base.errors import BundleError
from training.inference.exports import export_file, exported_backbone
from training.inference.graphs import RecordedBatches, record_graph
from training.inference.plan import make_plan
from training.inference.quantised import quantised
from training.inference.sessions import open_session
from training.model.encoders import Encoder
from training.model.quantisation import Int8

__all__ = ["TOLERANCES", "Precision", "Runner", "Runtime", "build_runner"]

logger = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
Runtime = Literal["auto", "torch", "onnx"]

# Relative to the largest coordinate. Differences measured with sketches on a CPU: 2e-6, 2e-3, 6e-2 and 7e-3; where sums
# of eight-bit products overflow, 2e-1.
TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 2e-1, "int8": 5e-2}

_TYPES: Mapping[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
_WORTH_EXPORTING = 1000  # images; exporting takes as long as some hundred of them gain
_CLEARLY = 0.8  # of the time; without instructions for eight bits, they take as long as floats
_TIMED = 5  # calls, of which the quickest counts

Features = Callable[[Tensor], Tensor]


class Runner:
    """An encoder in evaluation mode, as fast as this machine runs it. It may be used from many threads.

    Args:
        encoder: supplies the head, and the backbone unless ``backbone`` is faster.
        backbone: maps a preprocessed batch ``(n, 3, size, size)`` to features ``(n, features)``.
        precision: what ``backbone`` computes in.
        identity: of what ``backbone`` runs, or None if it is the encoder's own on PyTorch.
        thread: computes everything, for a GPU. There a thread that convolves for the first time chooses and builds the
            kernels of every layer anew, which takes seconds.
    """

    def __init__(
        self,
        encoder: Encoder,
        backbone: Features,
        precision: Precision = "fp32",
        identity: str | None = None,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        self.encoder = encoder
        self.backbone = backbone
        self.precision: Precision = precision
        self.identity = identity
        self._thread = thread

    def __call__(self, batch: Tensor) -> NDArray[np.float32]:
        """Embeds a preprocessed batch ``(n, 3, size, size)``, ``(n, dim)``."""
        return self._computed(lambda: self.encoder.head(self._features(batch)))

    def embed(self, images: Sequence[Tensor], at_once: int) -> NDArray[np.float32]:
        """Embeds preprocessed images ``(3, size, size)``, ``(n, dim)``.

        Args:
            images: at least one.
            at_once: images that the backbone takes together; the head takes all, so that its weights, which are more
                than a core's cache holds, are read once.
        """
        parts = [torch.stack(list(images[start : start + at_once])) for start in range(0, len(images), at_once)]
        return self._computed(lambda: self.encoder.head(torch.cat([self._features(part) for part in parts])))

    def features(self, batch: Tensor) -> NDArray[np.float32]:
        """Backbone features of a preprocessed batch, the mean over views, ``(n, features)``."""
        return self._computed(lambda: self._features(batch))

    def _features(self, batch: Tensor) -> Tensor:
        first, *others = (self.backbone(view) for view in self.encoder.views(batch))
        return sum(others, first) / (1 + len(others)) if others else first

    def _computed(self, function: Callable[[], Tensor]) -> NDArray[np.float32]:
        def compute() -> NDArray[np.float32]:
            with torch.inference_mode():
                values: NDArray[np.float32] = function().cpu().numpy()
            return values

        return self._thread.submit(compute).result() if self._thread else compute()


def build_runner(
    encoder: Encoder,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    *,
    int8: Int8 | None = None,
    cache: Path | None = None,
    threads: int = 1,
    images: int | None = None,
    like: Runner | None = None,
) -> Runner:
    """Finds the fastest way to run an encoder on the device that it is on.

    Args:
        encoder: is put in evaluation mode.
        runtime: ``torch``, ``onnx``, or ``auto`` for ONNX Runtime on a CPU and PyTorch elsewhere.
        precision: of the backbone. ``auto`` takes half precision on a GPU, and on a CPU eight bits if the model's
            default allows them and they are quicker there. Eight bits always run on the CPU, by ONNX Runtime.
        int8: what the encoder's bundle has for eight bits.
        cache: folder of exported backbones; the user's when omitted.
        threads: threads that ONNX Runtime uses for one call.
        images: how many there are to run; for few a backbone is not exported, unless the runtime is ``onnx``.
        like: a runner whose exported backbone is taken if it is the same.

    A backbone that cannot be exported, or whose results change when it is made faster, runs on PyTorch in single
    precision, and the log says so.

    Raises:
        BundleError: if eight bits are asked for, and the model cannot be run in them.
    """
    encoder.eval()
    on_cpu = encoder.device.type == "cpu"
    thread = None if on_cpu else ThreadPoolExecutor(1, "encoder")
    plain = Runner(encoder, lambda batch: _features(encoder, batch), thread=thread)
    if precision == "auto" and not (on_cpu and runtime != "torch" and int8 is not None and int8.is_default):
        precision = "fp32" if on_cpu else "fp16"
    few = precision == "fp32" and runtime == "auto" and images is not None and images < _WORTH_EXPORTING
    if precision == "fp32" and on_cpu and runtime == "torch":
        return plain
    exports = _Exports(encoder, cache or default_cache_directory() / "onnx", threads, like)
    if precision == "int8":
        return exports.in_eight_bits(int8)
    try:
        if precision in _TYPES or (thread and runtime != "onnx"):
            runner = Runner(encoder, _on_pytorch(encoder, precision, thread), precision, thread=thread)
        elif few and not exports.are_kept():
            return plain
        else:
            runner = exports.in_floats()
        _check_same(plain, runner, TOLERANCES[runner.precision])
        return _quicker(runner, exports.in_eight_bits(int8)) if precision == "auto" else runner
    except Exception as error:  # exporters and runtimes raise nearly anything
        logger.warning("the encoder runs on PyTorch in single precision: %s", error)
        return plain


def _features(encoder: Encoder, batch: Tensor) -> Tensor:
    return encoder.features(batch.to(encoder.device, non_blocking=True)).float()


def _on_pytorch(encoder: Encoder, precision: Precision, thread: ThreadPoolExecutor | None) -> Features:
    """The backbone in single or half precision; on a GPU as graphs, for the sizes of batches that there will be."""
    device, size = encoder.device, encoder.preprocessing.size
    reduced = _TYPES.get(precision)

    def run(batch: Tensor) -> Tensor:
        # A graph outlives autocast's cache.
        with torch.autocast(device.type, reduced, enabled=reduced is not None, cache_enabled=device.type != "cuda"):
            return _features(encoder, batch)

    if thread is None or device.type != "cuda":
        return run
    most = make_plan(device).max_batch
    sizes = (1, 4, most) if reduced else (most,)  # searches come one by one as well; photos of a job do not
    try:
        return thread.submit(RecordedBatches, run, (3, size, size), device, sizes, record_graph).result()
    except RuntimeError as error:
        logger.warning("the encoder runs without CUDA graphs: %s", error)
        return run


class _Exports:
    """An encoder's backbone on ONNX Runtime, in either precision."""

    def __init__(self, encoder: Encoder, cache: Path, threads: int, like: Runner | None) -> None:
        self._encoder = encoder
        self._cache = cache
        self._threads = threads
        self._like = like

    def are_kept(self) -> bool:
        """Whether the backbone was exported before."""
        return export_file(self._encoder, self._cache).is_file()

    def in_floats(self) -> Runner:
        """The encoder with its backbone in single precision."""
        return self._runner("fp32", "", self._exported)

    def in_eight_bits(self, int8: Int8 | None) -> Runner:
        """The encoder with its backbone in eight bits, by kernels for whole numbers if they compute what they should.

        Raises:
            BundleError: if it cannot be made.
        """
        if int8 is None:
            raise BundleError("the model has no ranges for eight bits; `svdraw quantize` finds them")

        def content() -> bytes:
            return quantised(self._exported(), int8.tensors)

        try:
            quick = self._runner("int8", int8.sha256, content)
            if self._like is not None and quick.backbone is self._like.backbone:
                return quick
            exact = self._runner("int8", int8.sha256, content, in_floats=True)
        except BundleError:
            raise
        except Exception as error:  # exporters and runtimes raise nearly anything
            raise BundleError(f"the backbone cannot run in eight bits: {error}") from error
        try:
            _check_same(exact, quick, TOLERANCES["int8"])
        except ValueError as error:
            logger.warning("eight bits are computed in floats on this CPU: %s", error)
            return exact
        return quick

    def _exported(self) -> bytes:
        return exported_backbone(self._encoder, self._cache)

    def _runner(
        self, precision: Precision, ranges: str, content: Callable[[], bytes], *, in_floats: bool = False
    ) -> Runner:
        choices = f"{export_file(self._encoder, self._cache).name} {self._threads} {precision} {ranges} {in_floats}"
        identity = hashlib.sha256(choices.encode()).hexdigest()
        if self._like is not None and self._like.identity == identity:
            return Runner(self._encoder, self._like.backbone, precision, identity)
        run, device = open_session(content(), self._threads, in_floats=in_floats), self._encoder.device
        return Runner(
            self._encoder, lambda batch: torch.from_numpy(run(batch.cpu().numpy())[0]).to(device), precision, identity
        )


def _quicker(first: Runner, second: Runner) -> Runner:
    """The one that embeds an image sooner on this machine; the first unless the second gains what can be measured."""
    seconds = [_seconds(runner) for runner in (first, second)]
    chosen = second if seconds[1] < _CLEARLY * seconds[0] else first
    times = [
        f"{1e3 * each:.1f} ms in {runner.precision}" for each, runner in zip(seconds, (first, second), strict=True)
    ]
    logger.info("%s is used: an image takes %s", chosen.precision, " and ".join(times))
    return chosen


def _seconds(runner: Runner) -> float:
    size = runner.encoder.preprocessing.size
    image, found = torch.zeros(1, 3, size, size), []
    for _ in range(_TIMED):
        started = time.perf_counter()
        runner.features(image)
        found.append(time.perf_counter() - started)
    return min(found)


def _check_same(expected: Runner, actual: Runner, tolerance: float) -> None:
    size = expected.encoder.preprocessing.size
    batch = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = expected(batch)
    difference = float(np.abs(actual(batch) - wanted).max() / np.abs(wanted).max())
    if not difference <= tolerance:
        raise ValueError(f"its results differ by {difference:.1e} of the largest coordinate")
