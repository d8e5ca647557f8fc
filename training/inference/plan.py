"""How images share the cores of a machine on their way through an encoder."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from training.base.machine import processors

__all__ = ["Plan", "make_plan", "torch_threads"]

_GPU_BATCH = 16


class Plan(NamedTuple):
    """Numbers of threads and images that fit a machine.

    Attributes:
        at_once: images that are processed at the same time.
        max_batch: largest number of images encoded together; 1 means that each worker encodes its own image.
        cores: images that are decoded, or encoded one by one, at the same time.
    """

    at_once: int
    max_batch: int
    cores: int


def make_plan(device: torch.device, processes: int = 1) -> Plan:
    """Makes a plan for high throughput, for one of several processes that share the machine.

    On a CPU, each core gets one image and one thread: a batch would not fit the core's cache, and threads that share
    an image wait for each other. A GPU works best with batches, so there are enough images to prepare the next batch;
    each of them is prepared by one thread as well.
    """
    cores = math.ceil(processors() / processes)
    if device.type == "cpu":
        return Plan(at_once=cores, max_batch=1, cores=cores)
    return Plan(at_once=cores + 2 * _GPU_BATCH, max_batch=_GPU_BATCH, cores=cores)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Gives PyTorch so many threads for each operation while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
