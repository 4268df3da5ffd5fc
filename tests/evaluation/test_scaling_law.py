import numpy as np
import pytest

import gpt_keras as gk


@pytest.mark.parametrize(
    "law", [(1.7, 50.0, 0.4), (0.0, 12.0, 0.076), (1.0, 1e4, 1.0), (2.0, 3.0, 0.02)]
)
def test_a_law_is_found_again(law):
    law = gk.evaluation.PowerLaw(*law)
    sizes = np.geomspace(1e3, 1e7, 8)
    fitted = gk.evaluation.fit_power_law(sizes, law(sizes))
    np.testing.assert_allclose(fitted(sizes), law(sizes), rtol=1e-3)
    assert fitted.exponent == pytest.approx(law.exponent, rel=0.1)


def test_noise_is_left_over_and_the_floor_is_not_negative():
    rng = np.random.default_rng(0)
    sizes = np.geomspace(1e3, 1e6, 8)
    law = gk.evaluation.PowerLaw(0.0, 10.0, 0.1)
    losses = law(sizes) + rng.normal(0, 0.02, 8)
    fitted = gk.evaluation.fit_power_law(sizes, losses)
    assert fitted.floor >= 0
    assert np.abs(losses - fitted(sizes)).max() < 0.06
    assert abs(np.sum(losses - fitted(sizes))) < 0.05


@pytest.mark.parametrize(
    ("sizes", "losses", "message"),
    [
        ([1, 2], [3, 2], "sizes.*3 different"),
        ([1, 1, 2], [3, 2, 1], "sizes.*3 different"),
        ([0, 1, 2], [3, 2, 1], "sizes.*positive"),
        ([1, 2, 3], [3, 2], "losses.*3 sizes"),
        ([1, 2, 3], [3, 2, np.nan], "losses"),
    ],
)
def test_what_cannot_be_fitted_is_an_error(sizes, losses, message):
    with pytest.raises(ValueError, match=message):
        gk.evaluation.fit_power_law(sizes, losses)
