"""Checkpoints: whole or not at all, and refused where they do not belong."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import AdamW

from training.base.artifacts import atomic_write
from training.base.errors import CheckpointError
from training.fit.checkpoints import EpochRecord, Progress, load_checkpoint, save_checkpoint


def trained(steps: int, width: int = 3) -> tuple[nn.Linear, AdamW]:
    torch.manual_seed(0)
    module = nn.Linear(width, 2)
    optimizer = AdamW(module.parameters())
    for step in range(steps):
        optimizer.zero_grad()
        (module(torch.full((1, width), float(step + 1))) ** 2).sum().backward()
        optimizer.step()
    return module, optimizer


def progress(epochs: int) -> Progress:
    return Progress(fingerprint="x", history=[EpochRecord(epoch=epoch + 1, loss=0.5) for epoch in range(epochs)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "checkpoint.safetensors"
    save_checkpoint(file, *trained(3), progress(2))
    return file


def test_everything_comes_back(path):
    (expected, optimizer), (module, fresh) = trained(3), trained(0)
    assert load_checkpoint(path, module, fresh, "x") == progress(2)
    assert torch.equal(module.weight, expected.weight)
    for position, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(fresh.state_dict()["state"][position][name], value), name


def test_without_a_file_there_is_no_progress(tmp_path):
    assert load_checkpoint(tmp_path / "none", *trained(0), "x") is None


def test_another_runs_checkpoint_is_refused_and_nothing_restored(path):
    module, optimizer = trained(0)
    before = module.weight.clone()
    with pytest.raises(CheckpointError, match="belongs to other data or settings"):
        load_checkpoint(path, module, optimizer, "y")
    assert torch.equal(module.weight, before)
    assert not optimizer.state_dict()["state"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors is damaged; remove it"):
        load_checkpoint(path, *trained(0), "x")


@pytest.mark.parametrize("metadata", [None, {}, {"progress": "half"}, {"progress": json.dumps({"fingerprint": 1})}])
def test_a_file_without_progress_is_named(path, metadata):
    save_file({"module.weight": torch.zeros(2, 3)}, path, metadata)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path, *trained(0), "x")


def test_a_checkpoint_of_another_model_is_named(path):
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_checkpoint(path, *trained(0, width=4), "x")


def killed_while_writing(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"half a checkpoint")
        os._exit(9)


def test_a_kill_between_writing_and_renaming_leaves_the_earlier_checkpoint(path):
    context = multiprocessing.get_context("forkserver")  # a fork of this process would inherit locks of its threads
    context.set_forkserver_preload([__name__])
    process = context.Process(target=killed_while_writing, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert len(list(path.parent.iterdir())) == 2  # what was half written lies beside it
    assert load_checkpoint(path, *trained(0), "x") == progress(2)
    save_checkpoint(path, *trained(4), progress(3))
    assert load_checkpoint(path, *trained(0), "x") == progress(3)


def test_a_failure_to_write_leaves_the_earlier_checkpoint(path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, *trained(4), progress(3))
    monkeypatch.undo()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert load_checkpoint(path, *trained(0), "x") == progress(2)
