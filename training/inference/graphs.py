"""A function of batches as CUDA graphs: recorded once for each of a few sizes, and replayed by one launch.

A small network on a GPU spends most of its time on launching kernels, one after the other. A recorded graph launches
all of them at once, but only for one size and from buffers of its own, so a batch is padded to the next size. The
buffer on the host is pinned, so that its copy to the device needs no other.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["RecordedBatches", "Recording", "record_graph"]

_WARM_UPS = 3  # before recording, as PyTorch asks for: kernels are chosen and workspaces made

Function = Callable[[Tensor], Tensor]


class Recording(Protocol):
    """A function that was recorded for one size: from ``inputs`` to ``outputs`` by ``replay``.

    Attributes:
        host: where a batch is written before it is copied to ``inputs``.
    """

    host: Tensor
    inputs: Tensor
    outputs: Tensor

    def replay(self) -> None:
        """Computes ``outputs`` from ``inputs``."""
        ...


class RecordedBatches:
    """Runs a function on batches of any size, from recordings where there is one that is large enough.

    Args:
        function: maps ``(n, ...)`` to ``(n, features)``, row by row.
        shape: of one input.
        device: that it runs on.
        sizes: of the recordings, ascending; larger batches call the function.
        record: makes a recording of the function for zeros of a size.
    """

    def __init__(
        self,
        function: Function,
        shape: Sequence[int],
        device: torch.device,
        sizes: Sequence[int],
        record: Callable[[Function, Tensor], Recording],
    ) -> None:
        self._function = function
        self._device = device
        self._recordings = {size: record(function, torch.zeros(size, *shape, device=device)) for size in sizes}
        self._lock = threading.Lock()  # a recording has one buffer

    def __call__(self, batch: Tensor) -> Tensor:
        """The function's value ``(n, features)`` for a batch ``(n, ...)`` in main memory."""
        count = len(batch)
        size = next((size for size in self._recordings if size >= count), None)
        if size is None or not count:
            return self._function(batch.to(self._device))
        recording = self._recordings[size]
        with self._lock:
            recording.host[:count].copy_(batch)
            recording.inputs[:count].copy_(recording.host[:count], non_blocking=True)
            recording.replay()
            results = recording.outputs[:count].clone()
            if self._device.type == "cuda":  # the next batch must not be written while this one is being read
                torch.cuda.current_stream(self._device).synchronize()
        return results


class _Graph:
    """A CUDA graph with its buffers."""

    def __init__(self, function: Function, zeros: Tensor) -> None:
        self.host = torch.zeros(zeros.shape, pin_memory=True)
        self.inputs = zeros
        side: torch.cuda.Stream = torch.cuda.Stream(zeros.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(zeros.device))
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                function(self.inputs)
        torch.cuda.current_stream(zeros.device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile, as they do when a service loads another model.
        with torch.inference_mode(), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self.outputs = function(self.inputs)

    def replay(self) -> None:
        self._graph.replay()


def record_graph(function: Function, zeros: Tensor) -> Recording:
    """Records a function of a batch on a GPU.

    Raises:
        RuntimeError: if the function does something that no graph can hold.
    """
    return _Graph(function, zeros)
