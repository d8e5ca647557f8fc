import numpy as np
import pytest
import torch

from training.features.extraction import feature_key
from training.inference.runners import build_runner
from training.model.bundle import bundle_with_views, load_bundle
from training.model.manifest import read_manifest


@pytest.fixture
def load(tiny_bundle):
    def load(views):
        with bundle_with_views(tiny_bundle, views) as folder:
            return load_bundle(folder, "cpu")

    return load


@pytest.fixture
def images():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_views_are_the_image_its_centre_and_their_mirror_images(load, images):
    [single] = load(1).photo.views(images)
    assert single is images
    whole, mirrored = load(2).photo.views(images)
    assert whole is images
    assert torch.equal(mirrored, images.flip(-1))
    whole, centre, *mirrored = load(4).photo.views(images)
    assert whole is images
    assert centre.shape == images.shape
    assert torch.equal(torch.stack(mirrored), torch.stack([whole, centre]).flip(-1))


def test_the_centre_is_enlarged_and_nothing_else(load):
    across = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    _, centre, *_ = load(4).photo.views(across)
    assert 0.07 < float(centre.min()) < 0.11
    assert 0.89 < float(centre.max()) < 0.93
    assert abs(float(centre.mean()) - 0.5) < 1e-3


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize("views", [1, 2, 4])
def test_features_are_the_mean_over_views(load, images, views, runtime, tmp_path):
    photo = load(views).photo
    runner = build_runner(photo, runtime, "fp32", cache=tmp_path)
    with torch.inference_mode():
        expected = torch.stack([photo.features(view) for view in photo.views(images)]).mean(dim=0)
        embedded = photo.head(expected).numpy()
        np.testing.assert_allclose(photo(images).numpy(), embedded, atol=1e-5)
    np.testing.assert_allclose(runner.features(images), expected.numpy(), atol=1e-4)
    for found in (runner(images), runner.embed(list(images), 2)):
        np.testing.assert_allclose(found, embedded, atol=1e-4)


def test_sketches_have_one_view(load):
    assert load(4).sketch.config.views == 1


def test_other_views_are_another_model_with_other_features(load):
    bundles = [load(views) for views in (1, 2, 4)]
    assert len({bundle.digest for bundle in bundles}) == 3
    assert len({feature_key(bundle.photo) for bundle in bundles}) == 3
    assert len({bundle.manifest.weights_sha256 for bundle in bundles}) == 1


def test_a_model_of_before_there_was_a_choice_keeps_its_digest(tiny_bundle, load):
    assert '"views"' not in (tiny_bundle / "model.json").read_text()
    assert load(1).digest == load(None).digest == read_manifest(tiny_bundle).digest


def test_the_bundle_itself_stays_as_it_is(tiny_bundle):
    before = (tiny_bundle / "model.json").read_bytes()
    with bundle_with_views(tiny_bundle, 4) as folder:
        assert folder != tiny_bundle
        with bundle_with_views(folder, 4) as same, bundle_with_views(folder, None) as default:
            assert folder == same == default
        with bundle_with_views(folder, 1) as back:
            assert read_manifest(back).digest == read_manifest(tiny_bundle).digest
    assert (tiny_bundle / "model.json").read_bytes() == before
    assert not folder.exists()
