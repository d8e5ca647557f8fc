"""Two processes compute what one computes on the same batches, and end together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.ports import free_port
from tests.training.fit import ranks
from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.base.errors import TrainingError
from training.fit.distributed import broadcast, gather_rows, is_first, joined, own_file, own_rows, sum_gradients
from training.model.manifest import read_manifest
from training.model.tensors import load_tensors

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
RECIPE = {"backbone": "test_efficientnet", "multi_scale": False, "image_size": 64, "dim": 8, "batch_size": 15}


@pytest.fixture(scope="module")
def recipe(tiny_bundle, tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "recipe.json"
    training = {"tune": "heads", "epochs": 3, "optimizer": "sgd", "line_drawings": 0.5, "start": str(tiny_bundle)}
    file.write_text(json.dumps(RECIPE | training))
    return file


def fit_words(shapes, recipe, out):
    return [f"--data={shapes}", f"--recipe={recipe}", f"--out={out}", f"--cache={out}-cache", "--device=cpu"]


@pytest.fixture(scope="module")
def pair(shapes, recipe, tmp_path_factory):
    """The folder that two processes have written, and what each of them printed."""
    out = tmp_path_factory.mktemp("pair")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(free_port()), "NEXT_PORT": str(free_port())}
    command = [sys.executable, "-m", "tests.training.fit.ranks", str(shapes), str(out)]
    command += fit_words(shapes, recipe, out / "run")
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    return out, printed


@pytest.fixture(scope="module")
def alone(shapes, tmp_path_factory):
    return ranks.everything(shapes, tmp_path_factory.mktemp("alone"))


def test_gradients_are_those_of_the_union_batch(pair, alone):
    out, _ = pair
    names = [name for name in alone if name.startswith(("joint", "sequential", "none"))]
    assert len(names) == 3 * 2 * 9
    for rank in range(2):
        found = load_tensors(out / f"rank{rank}.safetensors")
        for name in names:
            assert alone[name].dtype == torch.float64
            torch.testing.assert_close(found[name], alone[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_clipped_steps_lead_to_the_same_parameters(pair, alone, optimizer):
    out, _ = pair
    found = [load_tensors(out / f"rank{rank}.safetensors") for rank in range(2)]
    names = [name for name in alone if name.startswith(optimizer)]
    assert len(names) == 8
    for name in names:
        assert torch.equal(found[0][name], found[1][name])
        torch.testing.assert_close(found[0][name], alone[name], rtol=1e-9, atol=1e-10)


def test_each_process_decodes_and_augments_its_own_rows_of_the_same_batch(pair, alone):
    out, _ = pair
    found = [load_tensors(out / f"rank{rank}.safetensors") for rank in range(2)]
    assert [len(each["own"]) for each in found] == [3, 4]
    for name in ("images-x", "images-y", "images-labels"):
        assert torch.equal(found[0][name], found[1][name])
        torch.testing.assert_close(found[0][name], alone[name])
    assert torch.equal(torch.cat([each["own"] for each in found]), found[0]["images-x"])


def test_a_run_of_two_processes_gives_the_model_of_one(pair, shapes, recipe, tmp_path):
    out, _ = pair
    assert run_command(TRAINING, ["fit", *fit_words(shapes, recipe, tmp_path / "run")]) == 0
    manifests = [read_manifest(path / "run") for path in (out, tmp_path)]
    assert manifests[0].spectrum == pytest.approx(manifests[1].spectrum, rel=1e-3)
    assert manifests[0].training.figures["final_loss"] == pytest.approx(
        manifests[1].training.figures["final_loss"], rel=1e-4
    )
    assert manifests[0].best_dimensions == manifests[1].best_dimensions
    left, right = (load_tensors(path / "run" / "checkpoint-final.safetensors") for path in (out, tmp_path))
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-3, atol=1e-4)


def test_only_the_first_process_prints_logs_and_writes(pair):
    out, printed = pair
    assert printed[0][0].startswith("only the first prints, not 0\nmodel ")
    assert "epoch 3" in printed[0][1]
    assert printed[1] == ("", "")
    lines = (out / "run" / "metrics.jsonl").read_text().splitlines()
    assert [(row["stage"], row["epoch"]) for row in map(json.loads, lines)] == [
        (stage, epoch) for stage in ("choose", "final") for epoch in (1, 2, 3)
    ]


def test_all_end_with_one_message_if_one_dies_and_the_same_command_goes_on(pair, shapes, recipe, tmp_path):
    words = fit_words(shapes, recipe, tmp_path / "run")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    died = subprocess.run(
        [*launch, "-m", "tests.training.fit.ranks", str(shapes), str(tmp_path), *words],
        cwd=ROOT,
        env=os.environ | {"DIES": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert died.returncode == 1
    errors = [line for line in died.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, died.stderr
    assert "run the same command again to go on" in errors[0]
    assert f"exitcode  : {-signal.SIGKILL}" in died.stderr
    out, _ = pair
    assert run_command(TRAINING, ["fit", *words]) == 0  # the number of processes may be another one
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [row["epoch"] for row in map(json.loads, lines) if row["stage"] == "final"] == [1, 2, 3]
    left, right = (load_tensors(path / "run" / "checkpoint-final.safetensors") for path in (out, tmp_path))
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-3, atol=1e-4)


def test_one_process_is_left_alone():
    with joined("cpu") as device:
        assert device == torch.device("cpu")
        assert is_first()
        assert own_rows(5) == slice(0, 5)
        assert own_file(Path("a/b.jsonl")) == Path("a/b.jsonl")
        tensor, parameter = torch.ones(2), torch.nn.Parameter(torch.ones(2))
        assert gather_rows(tensor) is tensor
        assert broadcast(tensor) is tensor
        sum_gradients([parameter])
        assert parameter.grad is None


@pytest.mark.parametrize(("size", "rows"), [(2, [(0, 3), (3, 7)]), (3, [(0, 2), (2, 4), (4, 7)]), (7, None)])
def test_rows_are_shared_without_overlap(monkeypatch, size, rows):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)
    shares = []
    for rank in range(size):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(own_rows(7))
        assert own_file(Path("a/b.jsonl")) == Path("a") / ("b.jsonl" if rank == 0 else f"b-{rank}.jsonl")
        with pytest.raises(TrainingError, match=f"{size} processes cannot share batches of {size - 1}"):
            own_rows(size - 1)
    assert shares == [slice(*each) for each in rows or [(n, n + 1) for n in range(7)]]
