"""Features of files: cached by content, and files that cannot be used are left out with a reason."""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from training.features import extraction
from training.features.cache import FeatureCache
from training.features.extraction import extract_features, feature_key
from training.model.backbones import Backbone
from training.model.encoders import Encoder, EncoderConfig
from training.model.heads import Head, HeadConfig
from training.model.preprocessing import Preprocessing

RUNS, CACHES = 8, 100


def fill(directory: Path, number: int) -> None:
    store = FeatureCache(directory)
    store.put("key", bytes([number]), np.full(3, number, np.float32))
    store.commit()
    store.close()


def test_a_new_cache_may_be_filled_by_several_runs_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")  # a fork of this process would inherit locks of its threads
    context.set_forkserver_preload([__name__])
    with context.Pool(RUNS) as pool:
        for cache in range(CACHES):
            directory = tmp_path / str(cache)
            pool.starmap(fill, [(directory, number) for number in range(RUNS)], chunksize=1)
            store = FeatureCache(directory)
            assert all(store.get("key", bytes([number])) is not None for number in range(RUNS))
            store.close()


class _Means(Backbone):
    """The mean of each channel; counts the images it has seen."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.widths = (3,)
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.mean(dim=(2, 3))


@pytest.fixture
def encoder() -> Encoder:
    config = EncoderConfig(preprocessing=Preprocessing(size=32), head=HeadConfig(features=3, dim=2))
    return Encoder(config, _Means(), Head(config.head))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    with closing(FeatureCache(tmp_path / "cache")) as store:
        yield store


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "lime", "blue")]
    for path in paths:
        Image.new("RGB", (32, 32), path.stem).save(path)
    return paths


def extract(files: list[Path], encoder: Encoder, cache: FeatureCache | None) -> extraction.Features:
    return extract_features(files, encoder, cache, torch.device("cpu"), title="features")


@pytest.mark.parametrize("cached", [False, True])
def test_features_are_in_the_order_of_the_files_and_computed_once(files, encoder, cache, cached):
    expected = 2 * np.eye(3, dtype=np.float32) - 1
    for _ in range(2):
        result = extract([*files, files[0]], encoder, cache if cached else None)
        np.testing.assert_allclose(result.values, expected[[0, 1, 2, 0]])
        assert not result.rejected
    assert encoder.backbone.seen == (4 if cached else 8)


@pytest.mark.parametrize("cached", [False, True])
def test_files_that_cannot_be_used_have_a_reason_each_and_no_features(files, encoder, cache, cached, tmp_path, fifo):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    bad = [tmp_path / name for name in ("folder.png", "text.png", "missing.png", fifo.name)]
    for _ in range(2):
        result = extract([bad[0], files[0], *bad[1:]], encoder, cache if cached else None)
        assert {row: reason.split(" (")[0] for row, reason in result.rejected.items()} == {
            0: "not a regular file but a folder",
            2: "not an image in a known format",
            3: "No such file or directory",
            4: "not a regular file but a FIFO",
        }
        np.testing.assert_array_equal(result.values[[0, 2, 3, 4]], 0)
        np.testing.assert_allclose(result.values[1], [1, -1, -1])


@pytest.mark.parametrize("error", [TypeError("odd"), ValueError("odd"), RuntimeError("odd")])
def test_whatever_an_image_raises_is_its_reason(files, encoder, monkeypatch, error):
    monkeypatch.setattr(extraction, "open_image", failing(error))
    assert extract(files, encoder, None).rejected == dict.fromkeys(range(3), "odd")


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_no_fault_of_an_image_ends_the_job(files, encoder, monkeypatch, error):
    monkeypatch.setattr(extraction, "open_image", failing(error))
    with pytest.raises(type(error)):
        extract(files, encoder, None)


def failing(error: BaseException) -> Callable[..., Image.Image]:
    def fail(*args: object, **kwargs: object) -> Image.Image:
        raise error

    return fail


def test_a_file_that_has_vanished_is_rejected_though_its_features_are_known(files, encoder, cache):
    extract(files, encoder, cache)
    files[1].unlink()
    assert extract(files, encoder, cache).rejected == {1: "No such file or directory"}


def after_the_digests(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Does something between the look at the files' content and their decoding."""
    results = extraction._results

    def later(*arguments):
        action()
        return results(*arguments)

    monkeypatch.setattr(extraction, "_results", later)


def test_a_file_that_changes_between_two_looks_is_cached_as_what_was_decoded(files, encoder, cache, monkeypatch):
    before = hashlib.sha256(files[0].read_bytes()).digest()
    after_the_digests(monkeypatch, lambda: Image.new("RGB", (32, 32), "blue").save(files[0]))
    np.testing.assert_allclose(extract(files[:1], encoder, cache).values, [[-1, -1, 1]])
    assert cache.get(feature_key(encoder), before) is None
    np.testing.assert_allclose(
        cache.get(feature_key(encoder), hashlib.sha256(files[0].read_bytes()).digest()), [-1, -1, 1]
    )


def test_a_file_that_appears_between_two_looks_stands_for_no_other(files, encoder, cache, monkeypatch):
    late, missing = files[0].with_name("late.png"), files[0].with_name("missing.png")
    after_the_digests(monkeypatch, lambda: late.write_bytes(files[0].read_bytes()))
    np.testing.assert_allclose(extract([late], encoder, cache).values, [[1, -1, -1]])
    assert extract([missing], encoder, cache).rejected == {0: "No such file or directory"}


def test_cached_features_of_another_size_are_computed_anew(files, encoder, cache):
    cache.put(feature_key(encoder), hashlib.sha256(files[0].read_bytes()).digest(), np.zeros(2, np.float32))
    np.testing.assert_allclose(extract(files[:1], encoder, cache).values, [[1, -1, -1]])
