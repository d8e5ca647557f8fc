import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from training.inference.runners import TOLERANCES, Runner, build_runner
from training.model.bundle import load_bundle


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle, "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_same_embeddings_for_any_batch(bundle, cache, count, caplog):
    runner = build_runner(bundle.sketch, "auto", cache=cache)
    batch = torch.rand(count, 3, 64, 64)
    expected = bundle.encode(bundle.sketch, batch)
    assert "PyTorch" not in caplog.text
    assert np.abs(runner(batch) - expected).max() <= TOLERANCES["fp32"] * np.abs(expected).max()


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_images_are_embedded_as_a_batch_of_them_is(bundle, cache, at_once):
    runner = build_runner(bundle.sketch, "auto", cache=cache)
    batch = torch.rand(5, 3, 64, 64)
    seen, backbone = [], runner.backbone
    runner.backbone = lambda part: seen.append(len(part)) or backbone(part)
    np.testing.assert_allclose(runner.embed(list(batch), at_once), runner(batch), atol=1e-5)
    assert seen == {1: [1] * 5, 2: [2, 2, 1], 16: [5]}[at_once] + [5]


def test_it_is_exported_once(bundle, cache, monkeypatch):
    build_runner(bundle.sketch, "onnx", cache=cache)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("training.inference.exports._export", lambda encoder: pytest.fail("exported again"))
    build_runner(bundle.sketch, "onnx", cache=cache)


def test_a_damaged_export_is_replaced(bundle, cache, monkeypatch):
    build_runner(bundle.sketch, "onnx", cache=cache)
    [file] = cache.iterdir()
    good = file.read_bytes()
    file.write_bytes(b"half")
    monkeypatch.setattr("training.inference.exports._export", lambda encoder: good)
    build_runner(bundle.sketch, "onnx", cache=cache)
    assert file.read_bytes() == good


def test_another_result_is_not_accepted(tiny_bundle, cache, tmp_path, monkeypatch, caplog):
    bundle = load_bundle(tiny_bundle, "cpu")
    build_runner(bundle.sketch, "onnx", cache=cache)
    [other] = [file.read_bytes() for file in cache.iterdir()]
    with torch.no_grad():
        next(bundle.sketch.backbone.parameters()).mul_(3)
    monkeypatch.setattr("training.inference.exports._export", lambda encoder: other)
    batch = torch.rand(1, 3, 64, 64)
    runner = build_runner(bundle.sketch, "onnx", cache=tmp_path)
    np.testing.assert_array_equal(runner(batch), bundle.encode(bundle.sketch, batch))
    assert "of the largest coordinate" in caplog.text


def test_other_weights_are_exported_anew(tiny_bundle, cache):
    bundle = load_bundle(tiny_bundle, "cpu")
    with torch.no_grad():
        next(bundle.sketch.backbone.parameters()).mul_(1.5)
    batch = torch.rand(1, 3, 64, 64)
    runner = build_runner(bundle.sketch, "onnx", cache=cache)
    np.testing.assert_allclose(runner(batch), bundle.encode(bundle.sketch, batch), atol=1e-5)


def test_a_shared_backbone_is_loaded_once(bundle, cache):
    sketch = build_runner(bundle.sketch, "onnx", cache=cache)
    photo = build_runner(bundle.photo, "onnx", cache=cache, like=sketch)
    assert photo.backbone is sketch.backbone
    batch = torch.rand(2, 3, 64, 64)
    np.testing.assert_allclose(photo(batch), bundle.encode(bundle.photo, batch), atol=1e-5)
    threaded = build_runner(bundle.photo, "onnx", cache=cache, threads=2, like=sketch)
    assert threaded.backbone is not sketch.backbone


def test_features_are_those_of_the_backbone(bundle, cache):
    runner, batch = build_runner(bundle.photo, "onnx", cache=cache), torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = bundle.photo.features(batch).numpy()
    np.testing.assert_allclose(runner.features(batch), expected, atol=1e-4 * np.abs(expected).max())


def test_few_images_are_not_worth_an_export(bundle, tmp_path, cache):
    assert build_runner(bundle.photo, cache=tmp_path, images=10).identity is None
    assert not list(tmp_path.iterdir())
    build_runner(bundle.photo, "onnx", cache=cache)
    assert build_runner(bundle.photo, cache=cache, images=10).identity  # there is one already


def test_the_oldest_exports_are_forgotten(bundle, tmp_path):
    for number in range(25):
        (tmp_path / f"backbone-{number}.onnx").touch()
        os.utime(tmp_path / f"backbone-{number}.onnx", (number, number))
    build_runner(bundle.photo, "onnx", cache=tmp_path)
    kept = {file.name for file in tmp_path.iterdir()}
    assert len(kept) == 20
    assert "backbone-5.onnx" not in kept
    assert "backbone-6.onnx" in kept


def test_what_cannot_be_exported_runs_on_torch(bundle, tmp_path, monkeypatch, caplog):
    def fail(encoder):
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr("training.inference.exports._export", fail)
    batch = torch.rand(1, 3, 64, 64)
    runner = build_runner(bundle.photo, "onnx", cache=tmp_path)
    np.testing.assert_array_equal(runner(batch), bundle.encode(bundle.photo, batch))
    assert "unsupported operator" in caplog.text


def check_precision(bundle, tmp_path, precision, caplog):
    runner = build_runner(bundle.sketch, "auto", precision, cache=tmp_path)
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
        build_runner(bundle.sketch, "auto", precision, cache=tmp_path) for precision in ("auto", "fp16")
    )
    np.testing.assert_array_equal(by_itself(batch), asked(batch))


def test_half_precision_that_differs_too_much_is_not_accepted(bundle, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(TOLERANCES, "fp16", 1e-9)
    batch = torch.rand(1, 3, 64, 64)
    runner = build_runner(bundle.sketch, "auto", "fp16", cache=tmp_path)
    np.testing.assert_array_equal(runner(batch), bundle.encode(bundle.sketch, batch))
    assert "differ by" in caplog.text


def test_a_runner_with_a_thread_computes_in_it_alone(bundle):
    seen = set()

    def backbone(batch):
        seen.add(threading.get_ident())
        return bundle.sketch.features(batch)

    with ThreadPoolExecutor(1) as thread, ThreadPoolExecutor(3) as callers:
        runner, batch = Runner(bundle.sketch, backbone, thread=thread), torch.rand(2, 3, 64, 64)
        found = [*callers.map(runner, 3 * [batch]), runner.embed(list(batch), 2)]
        assert seen == {thread.submit(threading.get_ident).result()}
    for each in found:
        np.testing.assert_allclose(each, bundle.encode(bundle.sketch, batch), atol=1e-5)
