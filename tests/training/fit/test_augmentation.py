"""Random variation: reproducible, within range, and leaving blank paper blank."""

from functools import partial

import pytest
import torch

from training.fit.augmentation import AffineRange, Draws, augment_photos, augment_sketches, place


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(count, seed=0, rows=None):
    return Draws(generator(seed), count, rows)


BENT = partial(augment_sketches, bend=0.1)


@pytest.mark.parametrize("augment", [augment_sketches, augment_photos, BENT])
def test_depends_on_the_generator_alone(augment):
    images = torch.rand(8, 3, 32, 32, generator=generator())
    once, again, other = (augment(images, draws(8, seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.shape == images.shape


@pytest.mark.parametrize("augment", [augment_sketches, augment_photos, BENT])
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


def test_bent_strokes_are_shifted_smoothly_and_no_farther_than_asked():
    images = torch.ones(32, 3, 64, 64)
    images[:, :, :, 31:33] = 0.0  # a vertical line
    columns = torch.arange(64.0)

    def centres(bend):
        """Where the line is in each row of each picture; nowhere in particular where the row has none."""
        ink = 1 - _placed(images, bend)[:, 0]
        return (ink * columns).sum(dim=2) / ink.sum(dim=2).clamp_min(1e-3)

    straight, bent = centres(0.0), centres(0.05)
    assert float((straight - 31.5).abs().max()) < 1e-3
    shifts = (bent - 31.5)[:, 8:56]
    assert 0.5 < float(shifts.abs().mean()) < 0.05 * 64
    assert float(shifts.diff(dim=1).abs().max()) < 1.0  # less than a pixel from row to row
    assert float(shifts.std(dim=1).mean()) > 0.3  # bent, not moved as a whole


def _placed(images, bend):
    still = AffineRange(rotation=0, smallest=1, largest=1, shift=0, shear=0, stretch=0, bend=bend)
    return 1 - place(1 - images, still, draws(len(images)), outside="zeros")


def test_some_photos_lose_their_colour_and_some_a_rectangle():
    red = torch.zeros(64, 3, 32, 32)
    red[:, 0] = 1.0
    varied = augment_photos(red, draws(64))
    saturation = (varied[:, 0] - varied[:, 1]).amax(dim=(1, 2))
    assert float(saturation.min()) < 0.2
    assert float(saturation.max()) > 0.8
    covered = (varied[:, 0] - varied[:, 1]).amin(dim=(1, 2)) < 1e-6
    assert 4 < int((covered & (saturation > 0.1)).sum()) < 40
