"""The compiled loops: arg max, distances, and how they are compiled."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from segcal_lite import _loops
from segcal_lite._checks import check_labels_and_probs
from segcal_lite._distances import distances_to_surface
from segcal_lite._loops import predicted_classes


@settings(deadline=None, max_examples=60)
@given(
    n_classes=st.integers(2, 5),
    shape=st.lists(st.integers(0, 5), max_size=3),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    seed=st.integers(0, 2**16),
)
def test_the_arg_max_is_numpys_with_ties(n_classes, shape, dtype, seed):
    shares = np.random.default_rng(seed).multinomial(4, np.ones(n_classes) / n_classes, shape)
    probs = np.moveaxis(shares / 4, -1, 0).astype(dtype)
    predicted = predicted_classes(probs)
    assert predicted.dtype == np.uint8 and predicted.shape == tuple(shape)
    np.testing.assert_array_equal(predicted, probs.argmax(axis=0))


@pytest.mark.parametrize(
    "probs",
    [
        *(np.array(0.5), np.ones((1, 3)), np.ones((2, 3)), np.eye(2, dtype=int)),
        *(np.array([[0.5, np.nan], [0.5, 1]]), np.array([[0.5, -0.1], [0.5, 1.1]])),
        *(np.array([["a"], ["b"]]), np.ones((2, 3), complex) / 2),
    ],
)
def test_no_probabilities_are_refused_in_the_words_of_the_check(probs):
    with pytest.raises(ValueError) as expected:
        check_labels_and_probs(np.zeros(probs.shape[1:], int), probs)
    with pytest.raises(ValueError) as found:
        predicted_classes(probs)
    assert str(found.value) == str(expected.value)


@settings(deadline=None, max_examples=150)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    share=st.floats(0.001, 0.6),
    spacing_mm=st.lists(st.floats(0.2, 7), min_size=3, max_size=3),
    seed=st.integers(0, 2**16),
)
def test_distances_are_scipys(shape, share, spacing_mm, seed):
    rng = np.random.default_rng(seed)
    surface, where = rng.random(shape) < share, rng.random(shape) < 0.7
    surface.flat[rng.integers(surface.size)] = True
    spacing_mm = np.array(spacing_mm[: len(shape)])
    expected = distance_transform_edt(~surface, sampling=spacing_mm)[where]
    found = distances_to_surface(surface, spacing_mm, where)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    near = distances_to_surface(surface, spacing_mm, where, 3.0)
    np.testing.assert_array_equal(near[expected <= 3], found[expected <= 3])
    assert (near[expected > 3.01] > 3).all()


def test_the_series_of_the_logarithm_loses_nothing():
    near_1 = 1 - np.geomspace(2**-53, 0.2, 20001)
    likelihood = np.concatenate([[1.0, 0.9, np.nextafter(0.9, 0)], near_1, np.geomspace(1e-12, 1)])
    expected = np.log(likelihood.astype(np.longdouble))
    labels, n_floored = np.zeros(likelihood.size, int), np.zeros(1)
    probs, logs = np.stack([likelihood, 1 - likelihood]), np.empty(likelihood.size)
    arguments = labels, probs, labels, 1e-12, np.empty(likelihood.size), logs, n_floored
    assert _loops._log_likelihood(*arguments) and n_floored == 0
    np.testing.assert_allclose(logs, expected.astype(float), rtol=5e-16, atol=0)
    assert logs[0] == 0 and (logs <= 0).all()


def test_a_cache_that_cannot_be_written_compiles_without_it(monkeypatch):
    asked, njit = [], numba.njit

    def without_folder(*arguments, cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_folder)
    double = _loops.compiled(lambda number: 2 * number)
    assert [double(2), double(3)] == [4, 6] and asked == [True, False]
