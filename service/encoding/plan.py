"""How a machine's cores are shared out among requests."""

from typing import NamedTuple

import torch

from service.settings import ServiceSettings
from training.base.machine import processors

__all__ = ["Plan", "make_plan"]

_GPU_BATCH = 16


class Plan(NamedTuple):
    """How a machine is shared out.

    Attributes:
        workers: requests worked on at once.
        max_batch: images encoded together; 1 lets each worker encode its own.
        threads: of one call of the encoder.
        cores: images decoded at once.
    """

    workers: int
    max_batch: int
    threads: int
    cores: int


def make_plan(settings: ServiceSettings, device: torch.device) -> Plan:
    """What the settings leave open is chosen for throughput.

    On a CPU that is an image and a thread for each core: a batch leaves the core's cache, and threads that share an
    image wait for each other. A GPU wants batches, and workers enough to fill the next one meanwhile.
    """
    cores = processors()
    max_batch = settings.max_batch or (1 if device.type == "cpu" else _GPU_BATCH)
    workers = settings.workers or (cores if max_batch == 1 else cores + 2 * max_batch)
    return Plan(workers, max_batch, max(1, cores // workers) if max_batch == 1 else cores, cores)
