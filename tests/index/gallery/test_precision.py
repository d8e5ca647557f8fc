import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from index.commands.changing import Build
from index.errors import ModelMismatch
from index.gallery.directory import Gallery
from index.gallery.precision import recorded_precision
from index.jobs import index_photos
from index.sources import list_photos
from training.inference import runners
from training.inference.runners import build_runner
from training.model.bundle import load_bundle, set_int8
from training.model.images import open_image
from training.model.manifest import read_manifest


@pytest.fixture(scope="module")
def build(int8_bundle, shapes, tmp_path_factory):
    def build(precision, photos=shapes / "photo", out=None):
        out = out or tmp_path_factory.mktemp("gallery") / "gallery"
        with closing(Gallery.create(out, int8_bundle)) as gallery:
            index_photos(gallery, list_photos(photos), "cpu", precision=precision)
        return out

    return build


@pytest.fixture(scope="module")
def whole(build, shapes):
    """A gallery in eight bits, of the circles."""
    return build("int8", shapes / "photo/circle")


@pytest.fixture
def gallery(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "gallery")


def facts(path):
    with closing(Gallery.open(path)) as gallery:
        photos = gallery.catalogue.photos(list(gallery.catalogue.uris().values()))
        vectors = {photos[i].uri: gallery.catalogue.same_content(photos[i].sha256)[2] for i in photos}
        return recorded_precision(gallery.catalogue), gallery.problems(), vectors


def embedded(uri, model, precision):
    bundle = load_bundle(model, "cpu")
    runner = build_runner(bundle.photo, precision=precision, int8=bundle.int8("photo"))
    return runner(bundle.photo.preprocessing(open_image(Path(uri)))[None])[0]


def test_all_photos_are_embedded_like_the_first(gallery, int8_bundle, shapes, build):
    build("auto", shapes / "photo/square", gallery)
    precision, problems, vectors = facts(gallery)
    assert precision == read_manifest(int8_bundle).precisions[1]
    assert problems == []
    assert len(vectors) == 12
    for uri, vector in list(vectors.items())[::5]:  # of both jobs
        whole, single = (np.abs(vector - embedded(uri, int8_bundle, each)).max() for each in ("int8", "fp32"))
        assert whole < 1e-6 < 1e-5 < single


def test_two_precisions_are_not_mixed(gallery, shapes, build):
    with pytest.raises(ModelMismatch, match="was built in int8, not in fp32"):
        build("fp32", shapes / "photo", gallery)
    assert len(facts(gallery)[2]) == 6


def test_a_gallery_of_an_earlier_version_is_in_single_precision(build, shapes):
    path = build("fp32", shapes / "photo/line")
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.catalogue._database.write(("DELETE FROM facts WHERE name = 'precision'", [()]))
        assert recorded_precision(gallery.catalogue) == "fp32"
    with pytest.raises(ModelMismatch, match="was built in fp32, not in int8"):
        build("int8", shapes / "photo", path)


def test_other_ranges_are_another_precision(gallery, shapes, build):
    bundle = load_bundle(gallery / "model", "cpu")
    tensors = {name: 1.1 * tensor for name, tensor in bundle._int8.tensors.items()}
    set_int8(gallery / "model", tensors, lambda sha256: bundle.manifest.int8.model_copy(update={"sha256": sha256}))
    assert "holds other eight-bit ranges" in facts(gallery)[1][0]
    with pytest.raises(ModelMismatch, match="holds other eight-bit ranges"):
        build("auto", shapes / "photo", gallery)


@pytest.mark.parametrize(("seconds", "expected"), [({"fp32": 1, "int8": 2}, "fp32"), ({"fp32": 2, "int8": 1}, "int8")])
def test_by_itself_the_quicker_one_is_taken(build, monkeypatch, seconds, expected):
    monkeypatch.setattr(runners, "_seconds", lambda runner: seconds[runner.precision])
    assert facts(build("auto"))[0].split()[0] == expected


def test_a_model_that_was_not_quantised_stays_in_single_precision(tiny_bundle, shapes, tmp_path):
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        assert recorded_precision(gallery.catalogue) is None
        index_photos(gallery, list_photos(shapes / "photo"), "cpu")
        assert recorded_precision(gallery.catalogue) == "fp32"


def test_the_option_of_the_command():
    assert Build(photos="p", out="o", precision="int8").precision == "int8"
    assert Build(photos="p", out="o").precision == "auto"
