import shutil

import pytest
import torch

from training.base.artifacts import file_sha256
from training.base.errors import BundleError
from training.model.bundle import copy_bundle, load_bundle, set_int8
from training.model.manifest import read_manifest
from training.model.quantisation import INT8_NAME, Comparison, Quantisation


def record(sha256="0" * 64, **figures):
    compared = {name: Comparison(fp32=one, int8=other, mixed=0) for name, (one, other) in figures.items()}
    return Quantisation(sha256=sha256, cosines={}, figures=compared, queries=9, instance_queries=9)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"first": (0.4, 0.3981), "second": (0.2, 0.3)}, True),
        ({"first": (0.4, 0.3979), "second": (0.2, 0.3)}, False),
        ({"first": (0.4, 0.4), "second": (0.2, 0.1)}, False),
        ({"first": (0.0, 0.0)}, True),
        ({}, False),
    ],
)
def test_half_a_percent_of_any_figure_may_be_lost(figures, expected):
    assert record(**figures).keeps_quality is expected


def test_a_quantised_bundle_is_the_same_model(int8_bundle, tiny_bundle, tmp_path):
    plain, quantised = read_manifest(tiny_bundle), read_manifest(int8_bundle)
    assert plain.digest == quantised.digest
    assert plain.precisions == ("fp32",)
    assert quantised.precisions == ("fp32", f"int8 {file_sha256(int8_bundle / INT8_NAME)}")
    assert load_bundle(tiny_bundle, "cpu").int8("photo") is None
    copy_bundle(int8_bundle, tmp_path / "copy")
    shared = load_bundle(tmp_path / "copy", "cpu").int8("photo")
    assert shared.is_default
    assert shared.tensors.keys() == load_bundle(int8_bundle, "cpu").int8("sketch").tensors.keys()


def test_each_backbone_has_its_own_part(int8_bundle, tmp_path):
    copy_bundle(int8_bundle, tmp_path)
    set_int8(tmp_path, {"sketch/a": torch.zeros(2), "photo/b": torch.ones(2)}, record)
    bundle = load_bundle(tmp_path, "cpu")
    assert list(bundle.int8("sketch").tensors) == ["a"]
    assert list(bundle.int8("photo").tensors) == ["b"]
    assert not bundle.int8("photo").is_default


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "is missing; copy all files"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"!"), "is not the file that model.json describes"),
    ],
)
def test_files_that_do_not_belong_together(int8_bundle, tmp_path, damage, message):
    bundle = shutil.copytree(int8_bundle, tmp_path / "bundle")
    damage(bundle / INT8_NAME)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle, "cpu")
    with pytest.raises(BundleError, match=message):
        copy_bundle(bundle, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_is_no_tensor_file_is_refused(int8_bundle, tmp_path):
    bundle = shutil.copytree(int8_bundle, tmp_path / "bundle")
    (bundle / INT8_NAME).write_bytes(b"\x80\x04pickle")
    sha256 = file_sha256(bundle / INT8_NAME)
    manifest = (bundle / "model.json").read_text()
    (bundle / "model.json").write_text(manifest.replace(read_manifest(bundle).int8.sha256, sha256))
    with pytest.raises(BundleError, match="is damaged"):
        load_bundle(bundle, "cpu")


def test_an_interrupted_change_leaves_a_model_without(int8_bundle, tmp_path):
    bundle = shutil.copytree(int8_bundle, tmp_path / "bundle")

    def fail(sha256):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        set_int8(bundle, {"shared/a": torch.zeros(2)}, fail)
    assert load_bundle(bundle, "cpu").int8("photo") is None
