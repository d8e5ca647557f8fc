"""How requests share the cores of a machine."""

from typing import NamedTuple

import torch

from service.settings import ServiceSettings
from training.base.machine import processors

__all__ = ["Plan", "make_plan"]

_GPU_BATCH = 16
_MORE_WORKERS = 2 * _GPU_BATCH  # that prepare the next batch, or wait for images that take long to decode
_BATCHES_WAITING = 4


class Plan(NamedTuple):
    """Numbers of threads and images that fit a machine.

    Attributes:
        workers: threads for images, some of which may wait for a core.
        at_once: images that are processed at the same time.
        waiting: largest number of images that wait for a worker.
        max_batch: largest number of images encoded together; 1 means that each worker encodes its own image.
        threads: threads of one call of the encoder.
        cores: images that are decoded, or encoded one by one, at the same time.
    """

    workers: int
    at_once: int
    waiting: int
    max_batch: int
    threads: int
    cores: int


def make_plan(settings: ServiceSettings, device: torch.device) -> Plan:
    """Makes a plan for high throughput, with a queue that holds an image of each request and a few whole batches.

    On a CPU, each core gets one image and one thread: a batch would not fit the core's cache, and threads that share
    an image wait for each other. A GPU works best with batches, so there are enough workers to prepare the next batch.
    On a CPU as many wait for a core, so that images that take long to decode do not keep others from it.
    """
    cores = processors()
    max_batch = 1 if device.type == "cpu" else _GPU_BATCH
    waiting = settings.max_concurrent + _BATCHES_WAITING * settings.max_items
    workers = cores + _MORE_WORKERS
    return Plan(
        workers,
        cores if max_batch == 1 else workers,
        waiting,
        max_batch,
        threads=1 if max_batch == 1 else cores,
        cores=cores,
    )
