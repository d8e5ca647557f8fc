import numpy as np
import pytest
import torch

from service.encoding.inference import TOLERANCES, build_runner
from training.model.bundle import load_bundle


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle, "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_same_embeddings_for_any_batch(bundle, cache, count, caplog):
    runner = build_runner(bundle, bundle.sketch, "auto", cache, 1)
    batch = torch.rand(count, 3, 64, 64)
    expected = bundle.encode(bundle.sketch, batch)
    assert "PyTorch" not in caplog.text
    assert np.abs(runner(batch) - expected).max() <= TOLERANCES["fp32"] * np.abs(expected).max()


def test_it_is_exported_once(bundle, cache, monkeypatch):
    build_runner(bundle, bundle.sketch, "onnx", cache, 1)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("service.encoding.inference._export", lambda encoder: pytest.fail("exported again"))
    build_runner(bundle, bundle.sketch, "onnx", cache, 1)


def test_a_damaged_export_is_replaced(bundle, cache, monkeypatch):
    build_runner(bundle, bundle.sketch, "onnx", cache, 1)
    [file] = cache.iterdir()
    good = file.read_bytes()
    file.write_bytes(b"half")
    monkeypatch.setattr("service.encoding.inference._export", lambda encoder: good)
    build_runner(bundle, bundle.sketch, "onnx", cache, 1)
    assert file.read_bytes() == good


def test_another_result_is_not_accepted(tiny_bundle, cache, caplog):
    bundle = load_bundle(tiny_bundle, "cpu")
    build_runner(bundle, bundle.sketch, "onnx", cache, 1)  # a file that belongs to another encoder from now on
    bundle.sketch.head.canonical = bundle.sketch.head.canonical * 2
    batch = torch.rand(1, 3, 64, 64)
    runner = build_runner(bundle, bundle.sketch, "onnx", cache, 1)
    np.testing.assert_array_equal(runner(batch), bundle.encode(bundle.sketch, batch))
    assert "differ by 5.0e-01" in caplog.text


def test_what_cannot_be_exported_runs_on_torch(bundle, tmp_path, monkeypatch, caplog):
    def fail(encoder):
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr("service.encoding.inference._export", fail)
    batch = torch.rand(1, 3, 64, 64)
    runner = build_runner(bundle, bundle.photo, "onnx", tmp_path, 1)
    np.testing.assert_array_equal(runner(batch), bundle.encode(bundle.photo, batch))
    assert "unsupported operator" in caplog.text


def check_precision(bundle, tmp_path, precision, caplog):
    runner = build_runner(bundle, bundle.sketch, "auto", tmp_path, 1, precision)
    batch = torch.rand(5, 3, 64, 64)
    expected, actual = bundle.encode(bundle.sketch, batch), runner(batch)
    assert "single precision" not in caplog.text
    assert actual.dtype == np.float32
    assert 0 < np.abs(actual - expected).max() <= TOLERANCES[precision] * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_reduced_precision_is_within_its_tolerance(bundle, tmp_path, precision, caplog):
    check_precision(bundle, tmp_path, precision, caplog)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_reduced_precision_on_a_gpu(tiny_bundle, tmp_path, precision, caplog):
    check_precision(load_bundle(tiny_bundle, "cuda"), tmp_path, precision, caplog)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_takes_half_precision_by_itself(tiny_bundle, tmp_path):
    bundle, batch = load_bundle(tiny_bundle, "cuda"), torch.rand(5, 3, 64, 64)
    by_itself, asked = (
        build_runner(bundle, bundle.sketch, "auto", tmp_path, 1, precision) for precision in ("auto", "fp16")
    )
    np.testing.assert_array_equal(by_itself(batch), asked(batch))


def test_half_precision_that_differs_too_much_is_not_accepted(bundle, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(TOLERANCES, "fp16", 1e-9)
    batch = torch.rand(1, 3, 64, 64)
    runner = build_runner(bundle, bundle.sketch, "auto", tmp_path, 1, "fp16")
    np.testing.assert_array_equal(runner(batch), bundle.encode(bundle.sketch, batch))
    assert "differ by" in caplog.text
