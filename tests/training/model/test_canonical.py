import numpy as np
import pytest

from training.model.canonical import canonical_form, weighted_second_moment


@pytest.mark.parametrize("rank", [8, 3])
def test_scores_stay_and_moments_are_ordered(rank):
    random = np.random.default_rng(0)
    f = (random.normal(size=(500, rank)) @ random.normal(size=(rank, 8))).astype(np.float32)
    g = random.normal(size=(400, 8)).astype(np.float32) * np.linspace(1, 3, 8, dtype=np.float32)
    p, q = np.full(500, 1 / 500), np.full(400, 1 / 400)
    form = canonical_form(weighted_second_moment(f, p), weighted_second_moment(g, q))
    new_f = f @ form.transform_f.T.astype(np.float32)
    new_g = g @ form.transform_g.T.astype(np.float32)
    scores = f @ g.T
    np.testing.assert_allclose(new_f @ new_g.T, scores, atol=1e-5 * np.abs(scores).max())
    assert (np.diff(form.spectrum) <= 1e-9).all()
    for values, weights in ((new_f, p), (new_g, q)):
        moment = weighted_second_moment(values, weights)
        np.testing.assert_allclose(np.diag(moment)[:rank], form.spectrum[:rank], rtol=1e-3)
        np.testing.assert_allclose(moment[:rank, :rank], np.diag(form.spectrum[:rank]), atol=1e-3 * form.spectrum[0])
