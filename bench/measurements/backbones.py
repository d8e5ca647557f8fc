"""The costs of backbones with random weights, each measured in a process of its own."""

import multiprocessing
import resource
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from measurements.command import BenchmarkError
from training.base.errors import BackboneError
from training.inference.runners import build_runner
from training.model.backbones import Backbone, build_backbone
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing

__all__ = ["compare_backbones"]

_BATCH = 8
_REPEATS = 3
_TRAINED = 32
_FROZEN_STAGES = 2


def compare_backbones(options: Namespace) -> None:
    """Prints a table with a row for each backbone."""
    columns = "backbone", "features", "parameters, M", "PyTorch, ms", "ONNX Runtime, ms", "training, ms", "training, MB"
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in options.names:
            try:
                cells = pool.apply(_measure, (name, options.size, options.training_size))
            except BackboneError as error:
                raise BenchmarkError(str(error)) from error
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _measure(name: str, size: int, training_size: int) -> list[str]:
    torch.set_num_threads(1)
    backbone = build_backbone(name, multi_scale=True).eval()
    size, training_size = backbone.fixed_size or size, backbone.fixed_size or training_size
    head = HeadConfig(features=backbone.num_features, dim=8)
    encoder = EncoderConfig(preprocessing=Preprocessing(size=size), head=head)
    photo = build_encoders(PairedEncodersConfig(backbone=name, sketch=encoder, photo=encoder), backbone).photo
    images = torch.rand(_BATCH, 3, size, size)
    parameters = sum(value.numel() for value in backbone.parameters()) / 1e6
    trained, grown = _training_step(backbone, training_size)
    with tempfile.TemporaryDirectory() as cache:
        exported = build_runner(photo, "onnx", cache=Path(cache))
        onnx = f"{_milliseconds(exported.features, images):.1f}" if exported.identity else "not exported"
    torched = _milliseconds(build_runner(photo, "torch").features, images)
    return [str(backbone.num_features), f"{parameters:.1f}", f"{torched:.1f}", onnx, f"{trained:.0f}", f"{grown:.0f}"]


def _milliseconds(compute: Callable[[Tensor], object], images: Tensor) -> float:
    """Processor time of an image, the least of a few batches."""
    times = []
    for _ in range(_REPEATS):
        started = time.process_time()
        compute(images)
        times.append(time.process_time() - started)
    return 1000 * min(times) / len(images)


def _training_step(backbone: Backbone, size: int) -> tuple[float, float]:
    """Processor time of an image while the later stages are trained, and the memory that the first step takes.

    Returns:
        Milliseconds, and megabytes by which the step raises the most memory the process had.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    later = backbone.parameters_after(_FROZEN_STAGES)
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    for parameter in later:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(later)

    def step(images: Tensor) -> None:
        optimizer.zero_grad()
        backbone(images).square().mean().backward()
        optimizer.step()

    images = torch.rand(_TRAINED, 3, size, size)
    step(images)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    return _milliseconds(step, images), grown
