import json
import sys

import pytest
import torch

from tests.bench.conftest import BENCH

pytestmark = pytest.mark.long

PARTS = ("encoders", "indexing", "service", "search", "training")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the benchmark of a GPU writes of a CPU, where it runs the same code on a little of everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        patch.setattr(sys, "argv", ["gpu.py"])
        from measurements.gpu import measure_device

        out = tmp_path_factory.mktemp("gpu") / "cpu.json"
        options = type("Options", (), {"device": "cpu", "scale": "tiny", "parts": PARTS, "out": out})
        measure_device(options)
    return json.loads(out.read_text())


def test_every_part_is_measured(report):
    assert report["device"] == "cpu"
    for part in PARTS:
        assert all("error" not in row for row in report[part]), report[part]
    assert report["indexing"][0]["photos"] == 24
    assert [row["clients"] for row in report["service"]] == [1, 2]
    assert all(row["statuses"].keys() == {"200"} for row in report["service"])
    assert report["training"][0]["steps_per_second"] > 0


def test_every_way_to_search_finds_the_same(report):
    ways = {row["way"] for row in report["search"]}
    assert ways == {"plain PyTorch", "svdraw", "svdraw, 16 bits", "FAISS flat"}
    assert [row["same"] for row in report["search"] if row["way"] != "svdraw, 16 bits"] == [1] * 6
    assert min(row["same"] for row in report["search"]) > 0.98


def test_every_precision_is_timed(report):
    assert {(row["way"], row["batch"]) for row in report["encoders"]} == {
        (way, batch) for way in ("plain PyTorch", "fp32", "fp16", "bf16") for batch in (1, 3)
    }


def test_a_part_that_fails_is_written_down(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(BENCH))
    from measurements import gpu

    def failing(*arguments, **options):
        raise OSError("no port is free")

    monkeypatch.setattr(gpu, "service", failing)
    options = type("Options", (), {"device": "cpu", "scale": "tiny", "parts": ["service"], "out": tmp_path / "out"})
    gpu.measure_device(options)
    assert "no port is free" in json.loads((tmp_path / "out").read_text())["service"][0]["error"]
    assert "a part failed" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCH))
    from measurements.gpu import measure_device

    options = type("Options", (), {"device": "cuda", "scale": "tiny", "parts": PARTS, "out": tmp_path / "out"})
    measure_device(options)
    report = json.loads((tmp_path / "out").read_text())
    assert all("error" not in row for part in PARTS for row in report[part])
