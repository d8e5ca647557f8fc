import json
import shutil
from contextlib import closing

import numpy as np
import pytest

from index.__main__ import INDEX
from index.gallery.directory import Gallery
from training.base.command_line import run_command
from training.model.bundle import bundle_with_views, load_bundle
from training.model.images import open_image


@pytest.fixture
def run(capsys):
    def run(*words):
        status = run_command(INDEX, [str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def build(run, tiny_bundle, tmp_path):
    def build(photos, *options):
        status, out, err = run(
            "build", "--photos", photos, "--model", tiny_bundle, "--out", tmp_path / "gallery", *options
        )
        return tmp_path / "gallery", status, out + err

    return build


@pytest.fixture
def photos(shapes, tmp_path):
    """A few photos, to which more can be added."""
    shutil.copytree(shapes / "photo/circle", tmp_path / "photos")
    return tmp_path / "photos"


def vectors(path):
    with closing(Gallery.open(path)) as gallery:
        ids, found = gallery.catalogue.vectors(int(gallery.catalogue.fact("dim") or 0))
        rows = dict(zip(ids.tolist(), found, strict=True))
        return {uri: rows[number] for uri, number in gallery.catalogue.uris().items()}


def test_photos_are_embedded_by_their_views(build, photos, tiny_bundle, run):
    gallery, status, _ = build(photos, "--views", "4")
    assert status == 0
    assert json.loads(run("info", "--gallery", gallery, "--json")[1])["views"] == 4
    [(uri, vector), *_] = vectors(gallery).items()
    image = open_image(photos / uri.rpartition("/")[2])
    with bundle_with_views(tiny_bundle, 4) as folder:
        averaged = load_bundle(folder, "cpu").encode_photos([image])[0]
    single = load_bundle(tiny_bundle, "cpu").encode_photos([image])[0]
    assert np.abs(vector - averaged).max() < 1e-5 < np.abs(vector - single).max()


def test_photos_added_later_have_the_views_of_the_gallery(build, photos, shapes, run, tmp_path):
    gallery, *_ = build(photos, "--views", "2")
    for photo in (shapes / "photo/line").iterdir():
        shutil.copy(photo, photos / f"line-{photo.name}")
    assert build(photos)[1] == 0  # the choice need not be repeated
    later = vectors(gallery)
    shutil.rmtree(gallery)
    build(photos, "--views", "2")
    for uri, vector in vectors(gallery).items():
        np.testing.assert_allclose(later[uri], vector, atol=1e-5)


def test_views_are_not_mixed(build, photos):
    build(photos, "--views", "2")
    _, status, text = build(photos, "--views", "4")
    assert status != 0
    assert "was built with another model or other views" in text


def test_parts_of_several_views(build, photos, run, tiny_bundle, tmp_path):
    gallery, *_ = build(photos, "--views", "4")
    expected = vectors(gallery)
    shutil.rmtree(gallery)
    model = ("--model", tiny_bundle)
    assert run("embed", "--photos", photos, *model, "--views", "4", "--out", tmp_path / "parts")[0] == 0
    status, _, text = run("build", "--parts", tmp_path / "parts", *model, "--out", gallery)
    assert status != 0
    assert "another model or other views" in text
    shutil.rmtree(gallery)
    assert run("build", "--parts", tmp_path / "parts", *model, "--views", "4", "--out", gallery)[0] == 0
    for uri, vector in vectors(gallery).items():
        np.testing.assert_allclose(expected[uri], vector, atol=1e-5)


def test_another_number_is_refused(build, photos):
    _, status, text = build(photos, "--views", "3")
    assert status != 0
    assert "--views: Input should be 1, 2 or 4" in text
