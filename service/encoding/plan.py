"""How a machine's cores are shared out among requests."""

from typing import NamedTuple

import torch

from service.settings import ServiceSettings
from training.base.machine import processors

__all__ = ["Plan", "make_plan"]

_GPU_BATCH = 16
_BATCHES_WAITING = 4


class Plan(NamedTuple):
    """How a machine is shared out.

    Attributes:
        workers: images worked on at once.
        waiting: most images that wait for a worker.
        max_batch: images encoded together; 1 lets each worker encode its own.
        threads: of one call of the encoder.
        cores: images decoded at once.
    """

    workers: int
    waiting: int
    max_batch: int
    threads: int
    cores: int


def make_plan(settings: ServiceSettings, device: torch.device) -> Plan:
    """Chosen for throughput, but for the line: it has room for an image of each request and for a few whole batches.

    On a CPU that is an image and a thread for each core: a batch leaves the core's cache, and threads that share an
    image wait for each other. A GPU wants batches, and workers enough to fill the next one meanwhile.
    """
    cores = processors()
    max_batch = 1 if device.type == "cpu" else _GPU_BATCH
    workers = cores if max_batch == 1 else cores + 2 * max_batch
    waiting = settings.max_concurrent + _BATCHES_WAITING * settings.max_items
    return Plan(workers, waiting, max_batch, threads=1 if max_batch == 1 else cores, cores=cores)
