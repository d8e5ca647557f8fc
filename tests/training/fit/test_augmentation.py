"""Random variation: reproducible, within range, and leaving blank paper blank."""

import pytest
import torch

from training.fit.augmentation import Draws, augment_photos, augment_sketches


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(count, seed=0, rows=None):
    return Draws(generator(seed), count, rows)


@pytest.mark.parametrize("augment", [augment_sketches, augment_photos])
def test_depends_on_the_generator_alone(augment):
    images = torch.rand(8, 3, 32, 32, generator=generator())
    once, again, other = (augment(images, draws(8, seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.shape == images.shape


@pytest.mark.parametrize("augment", [augment_sketches, augment_photos])
@pytest.mark.parametrize("rows", [[0], [7], [2, 3, 6]])
def test_an_image_does_not_depend_on_which_others_are_there(augment, rows):
    images = torch.rand(8, 3, 32, 32, generator=generator())
    alone = augment(images[rows], draws(8, 1, torch.tensor(rows)))
    torch.testing.assert_close(alone, augment(images, draws(8, 1))[rows])


@pytest.mark.parametrize("augment", [augment_sketches, augment_photos])
def test_values_stay_between_black_and_white(augment):
    images = torch.rand(64, 3, 24, 24, generator=generator()).round()
    varied = augment(images, draws(64))
    assert float(varied.min()) >= 0
    assert float(varied.max()) <= 1 + 1e-6


def test_blank_paper_stays_blank():
    varied = augment_sketches(torch.ones(32, 3, 24, 24), draws(32))
    torch.testing.assert_close(varied, torch.ones_like(varied))


def test_strokes_survive_and_vary():
    images = torch.ones(64, 3, 48, 48)
    images[:, :, 12:36, 23:25] = 0.0
    ink = 1 - augment_sketches(images, draws(64))
    amounts = ink.mean(dim=(1, 2, 3))
    assert float((amounts > 0.002).float().mean()) > 0.9
    assert float(amounts.std()) > 0.002


def test_some_photos_lose_their_colour_and_some_a_rectangle():
    red = torch.zeros(64, 3, 32, 32)
    red[:, 0] = 1.0
    varied = augment_photos(red, draws(64))
    saturation = (varied[:, 0] - varied[:, 1]).amax(dim=(1, 2))
    assert float(saturation.min()) < 0.2
    assert float(saturation.max()) > 0.8
    covered = (varied[:, 0] - varied[:, 1]).amin(dim=(1, 2)) < 1e-6
    assert 4 < int((covered & (saturation > 0.1)).sum()) < 40
