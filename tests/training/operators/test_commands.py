"""Whole runs from the command line."""

import json

import pytest
from PIL import Image

from training.__main__ import TRAINING
from training.base.command_line import run_command

TINY = ["--width", "8", "--depth", "1", "--fourier", "4", "--steps", "40", "--batch-size", "16"]


def run(*arguments):
    return run_command(TRAINING, ["operators", *arguments])


def test_hydrogen_leaves_a_report_and_figures(tmp_path, capsys):
    methods = ["--methods", "nested-lora,spin,neural-ef", "--lobpcg", "16,24"]
    assert run("hydrogen", "--out", str(tmp_path), "--seed", "3", *methods, *TINY) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["problem"] == "2D hydrogen atom, 16 states"
    assert report["solver"]["steps"] == 40
    assert [(each["method"], each["seed"]) for each in report["runs"]] == [
        (method, seed) for method in ("nested-lora", "spin", "neural-ef") for seed in (3,)
    ]
    for each in report["runs"]:
        assert len(each["learned"]["relative_errors"]) == 16
        assert each["ritz"]["overlap"] < 1e-6
        assert each["cpu_seconds"] > 0
    assert [cost["cells"] for cost in report["lobpcg"]] == [16, 24]
    for name in ("modes.png", "errors.png", "cost.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width > 300
    assert len((tmp_path / "spin-3" / "metrics.jsonl").read_text().splitlines()) == 20
    printed = capsys.readouterr().out
    assert "neural-ef, seed 3" in printed
    assert "LOBPCG, 24 x 24" in printed


@pytest.mark.parametrize("nesting", ["joint", "sequential", "none"])
def test_langevin_runs_with_every_nesting(tmp_path, nesting):
    assert run("langevin", "--out", str(tmp_path), "--nesting", nesting, "--seeds", "2", *TINY) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [each["seed"] for each in report["runs"]] == [0, 1]
    assert report["solver"]["nesting"] == nesting
    assert len(report["eigenvalues"]) == 8
    assert 0 < report["reference_error"] < 1e-3
    assert not (tmp_path / "cost.png").exists()


def test_the_same_command_again_reuses_what_is_done(tmp_path):
    first = (run("langevin", "--out", str(tmp_path), *TINY), (tmp_path / "report.json").read_text())
    assert (run("langevin", "--out", str(tmp_path), *TINY), (tmp_path / "report.json").read_text()) == first


def test_other_settings_in_the_same_folder_are_refused(tmp_path, capsys):
    assert run("langevin", "--out", str(tmp_path), *TINY) == 0
    assert run("langevin", "--out", str(tmp_path), *TINY, "--potential", "mueller-brown") == 1
    assert run("langevin", "--out", str(tmp_path), *TINY, "--learning-rate", "0.1") == 1
    assert capsys.readouterr().err.count("other data or settings") == 2


@pytest.mark.parametrize("method", ["nested-lora", "spin"])  # NeuralEF does not know the scale of its outputs
def test_a_run_that_diverges_says_so(tmp_path, method, capsys):
    wild = ["--learning-rate", "1e20", "--clip", "0", "--methods", method]
    assert run("hydrogen", "--out", str(tmp_path), *TINY, *wild) == 1
    assert "lower the learning rate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--steps", "50"],
        ["--batch-size", "7"],
        ["--nesting", "sideways"],
        ["--methods", "magic"],
        ["--average", "1"],
        ["--seeds", "0"],
        ["--lobpcg", "33"],
    ],
)
def test_wrong_options_are_refused(tmp_path, wrong, capsys):
    assert run("hydrogen", "--out", str(tmp_path), *wrong) == 2
    assert not list(tmp_path.iterdir())
    assert wrong[0].removeprefix("--") in capsys.readouterr().err
