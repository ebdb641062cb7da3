import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcal_lite.entropy import (
    binary_entropy,
    foreground_uncertainty,
    mean_foreground_uncertainty,
    segment_entropies,
    segment_entropy,
    voxel_entropy,
)

LN2 = np.log(2)


@st.composite
def probabilities(draw):
    """Normalised probabilities (K, n) with exact zeros and ones among them."""
    n_classes, n_voxels = draw(st.integers(2, 5)), draw(st.integers(1, 12))
    weights = draw(arrays(np.float64, (n_classes, n_voxels), elements=st.floats(0, 1)))
    weights[weights < 1e-3] = 0
    weights[0, weights.sum(axis=0) == 0] = 1
    return weights / weights.sum(axis=0)


def random_probs(n_classes=3, shape=(6, 7, 8), seed=0):
    rng = np.random.default_rng(seed)
    return np.moveaxis(rng.dirichlet(np.full(n_classes, 0.7), shape), -1, 0)


# ---- voxel_entropy -----------------------------------------------------------------------------


def test_voxel_entropy_by_hand():
    probs = np.array([[1, 0.5, 0.25], [0, 0.5, 0.25], [0, 0, 0.5]])
    np.testing.assert_allclose(voxel_entropy(probs), [0, LN2, 1.5 * LN2], rtol=1e-15)


def test_voxel_entropy_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    probs = random_probs(4)
    entropy_nats = voxel_entropy(probs)
    assert entropy_nats.shape == (6, 7, 8) and entropy_nats.dtype == np.float64
    np.testing.assert_allclose(entropy_nats, stats.entropy(probs, axis=0), rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(probabilities())
def test_voxel_entropy_properties(probs):
    entropy_nats = voxel_entropy(probs)
    assert (entropy_nats >= 0).all()
    assert (entropy_nats <= np.log(len(probs)) + 1e-12).all()
    np.testing.assert_array_equal(entropy_nats == 0, probs.max(axis=0) == 1)
    np.testing.assert_allclose(voxel_entropy(probs[::-1]), entropy_nats, atol=1e-14)
    if len(probs) == 2:
        np.testing.assert_allclose(entropy_nats, binary_entropy(probs[1]), atol=1e-14)


def test_float32_input_is_computed_in_float64():
    probs = np.array([[0.9], [0.1]], dtype=np.float32)
    p = probs[:, 0].astype(np.float64)
    assert voxel_entropy(probs)[0] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-14)
    assert segment_entropy(probs, 0) == pytest.approx(
        -p[0] * np.log(p[0]) - (1 - p[0]) * np.log(1 - p[0]), rel=1e-14
    )
    foreground = probs[::-1]  # p(0) = float32 0.1
    assert mean_foreground_uncertainty(foreground) == pytest.approx(
        -(1 - p[1]) * np.log(1 - p[1]), rel=1e-14
    )


def test_a_single_voxel_has_a_scalar_entropy():
    assert voxel_entropy(np.array([0.5, 0.5])).shape == ()
    assert voxel_entropy(np.array([0.5, 0.5])) == pytest.approx(LN2)


# ---- binary_entropy ----------------------------------------------------------------------------


def test_binary_entropy_by_hand():
    p = np.array([[0, 1, 0.5], [0.25, 0.75, 1e-300]])
    quarter = 2 * LN2 - 0.75 * np.log(3)
    expected = [[0, 0, LN2], [quarter, quarter, 0]]
    np.testing.assert_allclose(binary_entropy(p), expected, atol=1e-15)
    assert binary_entropy(p).dtype == np.float64


def test_binary_entropy_of_saturated_float32_is_zero():
    assert binary_entropy(np.array([0, 1], dtype=np.float32)).tolist() == [0, 0]


@pytest.mark.parametrize("wrong", [-1e-9, 1.001, np.nan, np.inf])
def test_binary_entropy_refuses_what_is_no_probability(wrong):
    with pytest.raises(ValueError, match="^prob: found"):
        binary_entropy(np.array([0.5, wrong]))


def test_rounding_above_1_gives_no_negative_and_no_infinite_entropy():
    probs = np.array([[1 + 5e-5], [0.0]])
    assert voxel_entropy(probs).tolist() == [0]
    assert binary_entropy(probs[0]).tolist() == [0]
    assert segment_entropy(probs, 0) == 0
    assert mean_foreground_uncertainty(probs[::-1]) == 0


# ---- segment_entropy (A, Eq. 7) ----------------------------------------------------------------


def test_segment_entropy_by_hand_and_only_over_its_own_segment():
    probs = np.array([[0.1, 0.2, 0.9, 0.3], [0.6, 0.2, 0.05, 0.3], [0.3, 0.6, 0.05, 0.4]])
    of_06 = -0.6 * np.log(0.6) - 0.4 * np.log(0.4)
    of_04 = of_06  # binary: 0.4 against 0.6
    of_09 = -0.9 * np.log(0.9) - 0.1 * np.log(0.1)
    assert segment_entropy(probs, 0) == pytest.approx(of_09)
    assert segment_entropy(probs, 1) == pytest.approx(of_06)
    assert segment_entropy(probs, 2) == pytest.approx((of_06 + of_04) / 2)


def test_segment_entropy_uses_class_k_against_the_rest_and_not_all_classes():
    probs = np.array([[0.25], [0.5], [0.25]])
    assert segment_entropy(probs, 1) == pytest.approx(LN2)
    assert voxel_entropy(probs)[0] == pytest.approx(1.5 * LN2)


def test_segment_of_a_tie_belongs_to_the_lowest_class():
    probs = np.array([[0.5], [0.5]])
    assert segment_entropy(probs, 0) == pytest.approx(LN2)
    assert np.isnan(segment_entropy(probs, 1))


@settings(deadline=None, max_examples=40)
@given(probabilities())
def test_segment_entropy_follows_the_definition(probs):
    segment_of = probs.argmax(axis=0)
    for k in range(len(probs)):
        p = [float(v) for v, s in zip(probs[k], segment_of, strict=True) if s == k]
        terms = [-v * np.log(v) - (1 - v) * np.log(1 - v) if v < 1 else 0.0 for v in p]
        if terms:
            assert segment_entropy(probs, k) == pytest.approx(np.mean(terms), abs=1e-12)
            assert 0 <= segment_entropy(probs, k) <= LN2 + 1e-12
        else:
            assert np.isnan(segment_entropy(probs, k))


@pytest.mark.parametrize("k", [3, -1, 1.0, True])
def test_segment_entropy_refuses_an_unknown_class(k):
    with pytest.raises(ValueError, match="^k: found"):
        segment_entropy(random_probs(), k)


# ---- mean_foreground_uncertainty (B) -----------------------------------------------------------


def test_mean_foreground_uncertainty_by_hand():
    probs = np.array([[0.9, 0.4, 0.2, 0.5], [0.1, 0.6, 0.8, 0.5]])  # the last voxel is a tie
    expected = (-0.6 * np.log(0.6) - 0.8 * np.log(0.8)) / 2
    assert mean_foreground_uncertainty(probs) == pytest.approx(expected, rel=1e-14)


def test_mean_foreground_uncertainty_adds_up_the_foreground_classes():
    probs = np.array([[0.3, 0.34], [0.4, 0.33], [0.3, 0.33]])  # foreground, background
    assert mean_foreground_uncertainty(probs) == pytest.approx(-0.7 * np.log(0.7))


@settings(deadline=None, max_examples=40)
@given(probabilities())
def test_mean_foreground_uncertainty_stays_in_the_range_b_prints(probs):
    score = mean_foreground_uncertainty(probs)
    if (probs.argmax(axis=0) == 0).all():
        assert np.isnan(score)
    else:
        assert 0 <= score <= -0.5 * np.log(0.5) + 1e-12


# ---- degenerate and wrong input ----------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_empty_segments_and_volumes_give_nan_without_a_warning():
    background = np.array([[1.0, 0.8], [0.0, 0.2]])
    assert np.isnan(segment_entropy(background, 1))
    assert np.isnan(mean_foreground_uncertainty(background))
    nothing = np.zeros((2, 0, 3))
    assert voxel_entropy(nothing).shape == (0, 3)
    assert binary_entropy(nothing).shape == (2, 0, 3)
    assert np.isnan(segment_entropy(nothing, 0))
    assert np.isnan(mean_foreground_uncertainty(nothing))


@pytest.mark.parametrize(
    "function",
    [voxel_entropy, lambda probs: segment_entropy(probs, 0), mean_foreground_uncertainty],
)
@pytest.mark.parametrize(
    "probs",
    [
        np.float64(0.5),
        np.ones((1, 4)),
        np.ones((2, 4), dtype=int),
        np.full((2, 4), 0.9),
        np.array([[1.5], [-0.5]]),
        np.array([[np.nan], [1.0]]),
    ],
    ids=["scalar", "one class", "integers", "not normalised", "outside [0, 1]", "nan"],
)
def test_wrong_probs_are_refused(function, probs):
    with pytest.raises(ValueError, match="^probs: found"):
        function(probs)


def test_no_input_is_changed():
    probs = random_probs()
    before = probs.copy()
    voxel_entropy(probs), segment_entropy(probs, 1), mean_foreground_uncertainty(probs)
    binary_entropy(probs)
    np.testing.assert_array_equal(probs, before)


# ---- with a known arg max ----------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(probabilities())
def test_a_known_arg_max_changes_no_bit(probs):
    predicted = probs.argmax(axis=0)
    each = [segment_entropy(probs, k) for k in range(1, len(probs))]
    np.testing.assert_array_equal(segment_entropies(probs, predicted), each)
    known = foreground_uncertainty(probs, predicted)
    np.testing.assert_array_equal(known, mean_foreground_uncertainty(probs))
