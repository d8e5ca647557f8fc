"""One training in several processes that ``torchrun -m training fit`` starts, each with its share of every batch.

The objective compares second moments of a whole batch, so the mean of the gradients of shares is not its gradient.
Embeddings are therefore gathered from all processes before the loss, which every process computes alike; the gradient
flows back to a process's own rows alone, and the sum over processes is that of one process with the whole batch.

In one process everything here does nothing.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from training.base.errors import SvdrawError, TrainingError
from training.features.cache import FeatureCache
from training.features.extraction import Features, extract_features
from training.model.devices import resolve_device
from training.model.encoders import Encoder

__all__ = [
    "broadcast",
    "broadcast_module",
    "extract_together",
    "first_alone",
    "gather_rows",
    "is_first",
    "joined",
    "own_file",
    "own_rows",
    "sum_gradients",
]

_T = TypeVar("_T")

# A process may wait for another one that draws, or evaluates. One that has died is noticed at once.
_PATIENCE = timedelta(days=1)


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Joins the processes that ``torchrun`` started, for as long as the block runs; one process alone goes its way.

    Only the first process prints and logs. If one ends with an error, one of them says so, and all of them end.

    Args:
        device: see ``resolve_device``; a GPU is that of the process's rank on its machine.

    Yields:
        The device to compute on.

    Raises:
        TrainingError: if another process has ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield resolve_device(device)
        return
    own = resolve_device(device)
    if own.type == "cuda" and own.index is None:
        own = resolve_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(own)
    store, rank, size = next(iter(rendezvous("env://", timeout=_PATIENCE)))
    attempt = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        with _silence(rank):
            yield own
    except (SvdrawError, KeyboardInterrupt):
        if _others_told(attempt):
            raise SystemExit(1) from None
        raise
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Tells whether this process writes files: it is the first of several, or alone."""
    return not dist.is_initialized() or dist.get_rank() == 0


def own_file(path: Path) -> Path:
    """The file that this process writes in place of one that each would write."""
    return path if is_first() else path.with_name(f"{path.stem}-{dist.get_rank()}{path.suffix}")


def own_rows(batch_size: int) -> slice:
    """The rows of a batch that this process computes.

    Raises:
        TrainingError: if there are more processes than rows.
    """
    if not dist.is_initialized():
        return slice(0, batch_size)
    rank, size = dist.get_rank(), dist.get_world_size()
    if batch_size < size:
        raise TrainingError(f"{size} processes cannot share batches of {batch_size}; start fewer, or set --batch-size")
    return slice(rank * batch_size // size, (rank + 1) * batch_size // size)


def gather_rows(own: Tensor) -> Tensor:
    """Joins the rows of all processes, by rank; the gradient flows back to this process's own rows.

    Args:
        own: ``(n, ...)``, of as many rows as this process has.

    Returns:
        ``(sum of all n, ...)``, the same in every process.

    Raises:
        TrainingError: if another process has ended.
    """
    if not dist.is_initialized():
        return own
    gathered: Tensor = _GatherRows.apply(own)
    return gathered


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replaces the gradient of every parameter by its sum over all processes.

    Raises:
        TrainingError: if another process has ended.
    """
    if not dist.is_initialized():
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        some = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.reshape(-1) for gradient in some])
        with _together():
            dist.all_reduce(flat)
        for gradient, total in zip(some, torch.split(flat, [each.numel() for each in some]), strict=True):
            gradient.copy_(total.view_as(gradient))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def broadcast(value: _T) -> _T:
    """Returns what the first process has.

    Raises:
        TrainingError: if another process has ended.
    """
    if not dist.is_initialized():
        return value
    values = [value]
    with _together():
        dist.broadcast_object_list(values, src=0)
    return values[0]


@torch.no_grad()
def broadcast_module(module: nn.Module) -> None:
    """Gives the parameters and buffers of a module the values that they have in the first process.

    Raises:
        TrainingError: if another process has ended.
    """
    if dist.is_initialized():
        with _together():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)


@contextmanager
def first_alone() -> Iterator[None]:
    """Lets the first process run the block before the others do, which find there what it has written.

    Raises:
        TrainingError: if another process has ended.
    """
    if not is_first():
        broadcast(None)
    yield
    if is_first():
        broadcast(None)


def extract_together(
    files: Sequence[Path], encoder: Encoder, cache: FeatureCache | None, device: torch.device, *, title: str
) -> Features:
    """Extracts features as ``extract_features`` does, each process those of some files.

    Raises:
        TrainingError: if another process has ended.
    """
    if not dist.is_initialized():
        return extract_features(files, encoder, cache, device, title=title)
    rank, size = dist.get_rank(), dist.get_world_size()
    own = extract_features(files[rank::size], encoder, cache, device, title=title)
    parts: list[Any] = [None] * size
    with _together():
        dist.all_gather_object(parts, own)
    values, rejected = np.zeros((len(files), own.values.shape[1]), np.float32), dict[int, str]()
    for start, part in enumerate(parts):
        values[start::size] = part.values
        rejected |= {start + size * position: reason for position, reason in part.rejected.items()}
    return Features(values, dict(sorted(rejected.items())))


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        rank, size = dist.get_rank(), dist.get_world_size()
        with _together():
            counts = [torch.zeros(1, dtype=torch.long, device=own.device) for _ in range(size)]
            dist.all_gather(counts, torch.tensor([len(own)], device=own.device))
            lengths = [int(count) for count in counts]
            padded = own.new_zeros(max(lengths), *own.shape[1:])
            padded[: len(own)] = own
            parts = [torch.empty_like(padded) for _ in range(size)]
            dist.all_gather(parts, padded)
        context.rows = slice(sum(lengths[:rank]), sum(lengths[: rank + 1]))
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0][context.rows]


@contextmanager
def _together() -> Iterator[None]:
    """Explains why processes cannot talk to each other."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "another process of this training has ended; run the same command again to go on from the last epoch"
        ) from error


@contextmanager
def _silence(rank: int) -> Iterator[None]:
    """Lets only the first process print, log and show its progress."""
    if rank == 0:
        yield
        return
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            yield
    finally:
        root.setLevel(level)
        sys.stderr.flush()


def _others_told(store: Store) -> bool:
    """Tells whether another process has already said why all of them end."""
    try:
        return int(store.add("told", 1)) > 1
    except RuntimeError:  # whoever kept count has ended too
        return False
