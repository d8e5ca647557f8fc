"""Batches of images: reproducible by step, whatever was asked for before, and going on without lost files."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from training.base.errors import DataError
from training.data.pairs import load_data
from training.fit.image_batches import ImageBatches
from training.model.backbones import Backbone
from training.model.encoders import EncoderConfig, PairedEncoders, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing


class _Backbone(Backbone):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.widths = (4,)


@pytest.fixture
def encoders() -> PairedEncoders:
    config = EncoderConfig(preprocessing=Preprocessing(size=32), head=HeadConfig(features=4, dim=2))
    return build_encoders(PairedEncodersConfig(backbone="none", sketch=config, photo=config), _Backbone())


@pytest.fixture
def batches(shapes, encoders):
    opened = []

    def build(**options):
        settings = {"batch_size": 6, "seed": 3, "device": torch.device("cpu")} | options
        opened.append(ImageBatches(settings.pop("data", None) or load_data(shapes), encoders, **settings))
        return opened[-1]

    yield build
    for each in opened:
        each.close()


def test_a_step_is_the_same_in_any_order(batches):
    forward, resumed = batches(), batches()
    expected = [forward(step) for step in range(3)]
    for step in (2, 0, 1):
        for left, right in zip(resumed(step), expected[step], strict=True):
            assert torch.equal(left, right)


def test_several_threads_decode_the_same_batches(batches):
    """As on a machine with a GPU, which one thread would not keep busy."""
    alone, several = batches(), batches()
    with ThreadPoolExecutor(4) as threads:
        several._decoders = threads
        for step in range(3):
            for left, right in zip(several(step), alone(step), strict=True):
                assert torch.equal(left, right)
        several.close()


def test_shapes_and_normalisation(batches):
    batch = batches()(0)
    assert batch.x.shape == batch.y.shape == (6, 3, 32, 32)
    assert batch.labels.shape == (6,)
    assert float(batch.x.max()) == pytest.approx(1.0)
    assert float(batch.x.min()) >= -1


def test_pairs_with_a_file_that_is_gone_or_damaged_are_left_out_and_listed(batches, shapes, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    data, rejects = load_data(root), tmp_path / "rejects.jsonl"
    rejects.write_text('{"file": "earlier.png", "reason": "empty file"}\n')
    damaged = batches(data=data, rejects=rejects, batch_size=48)
    gone, text = data.sketches[0], data.photos[20]
    gone.unlink()
    text.write_text("no picture")
    drawn = [damaged(step) for step in range(3)]
    for batch in drawn:
        assert len({len(part) for part in batch}) == 1
        assert 2 <= len(batch.x) < 48
        assert 0 not in batch.sketches
        assert 20 not in batch.photos
    damaged.close()
    listed = {row["file"]: row["reason"] for row in map(json.loads, rejects.read_text().splitlines())}
    assert listed.keys() == {"earlier.png", str(gone), str(text)}
    assert listed[str(gone)] == "No such file or directory"


def test_without_lost_files_nothing_is_listed(batches, tmp_path):
    whole = batches(rejects=tmp_path / "rejects.jsonl")
    assert len(whole(0).x) == 6
    whole.close()
    assert not (tmp_path / "rejects.jsonl").exists()


def test_a_batch_without_two_usable_pairs_says_so(batches, shapes, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    data = load_data(root)
    shutil.rmtree(root / "photo")
    with pytest.raises(DataError, match=r"0 of 6 pairs of a batch can still be read"):
        batches(data=data)(0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_augments_to_the_same_images(batches):
    here, there = batches()(0), batches(device=torch.device("cuda"))(0)
    assert {part.device.type for part in there} == {"cuda"}
    for left, right in zip(here, there, strict=True):
        torch.testing.assert_close(left, right.cpu(), rtol=0, atol=0.02)
