import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from segcal_lite.scaling import (
    SMALLEST_PROB,
    fit_temperature,
    fit_vector_scaling,
    log_probabilities,
    sample_voxels,
    scale_logits,
)


def draw(true_logits, seed=0):
    """Labels drawn from the softmax of the logits."""
    rng = np.random.default_rng(seed)
    uniform = rng.random(true_logits.shape[1])
    return (uniform > np.cumsum(softmax(true_logits, axis=0), axis=0)[:-1]).sum(axis=0)


def nll(labels, logits):
    return -np.take_along_axis(log_softmax(logits, axis=0), labels[np.newaxis], axis=0).mean()


@pytest.fixture(scope="module")
def true_logits():
    return np.random.default_rng(1).normal(size=(3, 200_000)) * 1.5


def test_the_temperature_of_overconfident_logits_is_found(true_logits):
    labels = draw(true_logits)
    assert fit_temperature(labels, 2.5 * true_logits) == pytest.approx(2.5, rel=0.02)


def test_vector_scaling_undoes_a_scale_and_a_shift_of_each_class(true_logits):
    labels = draw(true_logits)
    scale, shift = np.array([2.0, 0.5, 1.5]), np.array([0.0, 1.0, -1.0])
    distorted = true_logits / scale[:, np.newaxis] - (shift / scale)[:, np.newaxis]
    found_scale, found_shift = fit_vector_scaling(labels, distorted)
    assert np.allclose(found_scale, scale, rtol=0.03)
    assert np.allclose(found_shift, shift, atol=0.03)
    recovered = scale_logits(distorted, found_scale, found_shift)
    assert np.abs(softmax(recovered, axis=0) - softmax(true_logits, axis=0)).max() < 0.01


def test_vector_scaling_undoes_the_class_weights_of_cross_entropy(true_logits):
    """A network fitted with weights w predicts w_k p_k, normalised: a shift of ln w."""
    labels, weights = draw(true_logits), np.array([0.2, 3.0, 6.0])
    _, shift = fit_vector_scaling(labels, true_logits + np.log(weights)[:, np.newaxis])
    expected = -np.log(weights)
    assert np.allclose(shift, expected - expected.mean(), atol=0.03)


def test_the_optimum_is_that_of_another_optimiser(true_logits):
    labels, logits = draw(true_logits)[:2000], 3 * true_logits[:, :2000]
    peer = minimize(lambda log_t: nll(labels, logits / np.exp(log_t[0])), [0.0], tol=1e-10)
    assert fit_temperature(labels, logits) == pytest.approx(np.exp(peer.x[0]), rel=1e-4)


def test_fits_never_raise_the_nll_they_minimise(true_logits):
    labels, logits = draw(true_logits)[:5000], 4 * true_logits[:, :5000]
    scale, shift = fit_vector_scaling(labels, logits)
    by_temperature = nll(labels, logits / fit_temperature(labels, logits))
    assert nll(labels, scale_logits(logits, scale, shift)) <= by_temperature < nll(labels, logits)


def test_a_temperature_leaves_the_arg_max(true_logits):
    scaled = scale_logits(true_logits, 1 / 3.0)
    assert np.array_equal(scaled.argmax(axis=0), true_logits.argmax(axis=0))


def test_the_background_logit_of_dice_models_is_constant(true_logits):
    logits = true_logits.copy()
    logits[0] = 0
    labels = draw(logits)
    scale, shift = fit_vector_scaling(labels, 2 * logits)
    assert np.allclose(scale[1:], 0.5, rtol=0.03)
    assert np.allclose(shift - shift[0], 0, atol=0.03)


def test_voxels_are_sampled_in_pairs_without_replacement():
    labels = np.arange(100)
    chosen, logits = sample_voxels(labels, np.stack([labels, -labels]), n_voxels=30)
    assert len(np.unique(chosen)) == 30
    assert np.array_equal(logits, [chosen, -chosen])


def test_no_voxel_is_refused():
    with pytest.raises(ValueError, match="labels: found no voxel"):
        fit_temperature(np.zeros(0, dtype=int), np.zeros((2, 0)))


def test_a_model_that_knows_nothing_gets_finite_scales():
    rng = np.random.default_rng(0)
    logits = 50 * rng.normal(size=(3, 400))
    labels = rng.integers(0, 2, 400)  # class 2 is absent, and nothing can be learned
    scale, shift = fit_vector_scaling(labels, logits)
    assert np.isfinite([*scale, *shift]).all()
    assert 0.01 <= scale.min() <= scale.max() <= 100
    assert 1 < fit_temperature(labels, logits) <= 100
    assert np.isfinite(scale_logits(logits, scale, shift)).all()


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([0, 1], [[np.nan, 0], [0, 0]], "logits: found 1 NaN or infinite values"),
        ([0, 1], [[np.inf, 0], [0, 0]], "logits: found 1 NaN or infinite values"),
        ([0, -100], np.zeros((2, 2)), "labels: found values from -100 to 0, expected 0 to 1"),
        ([0, 2], np.zeros((2, 2)), "labels: found values from 0 to 2, expected 0 to 1"),
        ([0, 1, 1], np.zeros((3, 2)), r"logits: found shape \(3, 2\), expected \(K, \*S\)"),
        ([0, 1], np.zeros(2), "logits: found shape"),
        ([0, 0], np.zeros((1, 2)), "logits: found 1 class"),
        ([0.0, 1.0], np.zeros((2, 2)), "labels: found dtype float64, expected integers"),
    ],
)
def test_wrong_input_is_one_sentence_for_both_fits(labels, logits, message):
    for fit in (fit_temperature, fit_vector_scaling):
        with pytest.raises(ValueError, match=message):
            fit(np.array(labels), np.array(logits))


def test_wrong_scales_and_samples_are_refused():
    logits = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"scale: found shape \(2,\)"):
        scale_logits(logits, [1.0, 2.0])
    with pytest.raises(ValueError, match="shift: found 1 NaN"):
        scale_logits(logits, 1.0, np.nan)
    with pytest.raises(ValueError, match="logits: found 12 NaN"):
        scale_logits(logits * np.nan, 1.0)
    with pytest.raises(ValueError, match=r"as float32: found 12 NaN or infinite"):
        scale_logits(logits + 1e30, 1e10)
    with pytest.raises(ValueError, match=r"labels and logits: found shapes \(3,\) and \(3, 4\)"):
        sample_voxels(np.zeros(3, dtype=int), logits)
    with pytest.raises(ValueError, match="n_voxels: found 0"):
        sample_voxels(np.zeros(4, dtype=int), logits, n_voxels=0)
    with pytest.raises(ValueError, match="seed: found 0.5, expected an integer of at least 0"):
        sample_voxels(np.zeros(4, dtype=int), logits, n_voxels=2, seed=0.5)


def test_regions_share_one_temperature():
    rng = np.random.default_rng(3)
    inside = rng.normal(size=(2, 50_000))  # R = 2 regions
    labels = (rng.random(inside.shape) < 1 / (1 + np.exp(-inside))).astype(int)
    logits = np.stack([np.zeros_like(inside), 4 * inside])
    assert fit_temperature(labels, logits) == pytest.approx(4, rel=0.05)
    scale, shift = fit_vector_scaling(labels, logits)
    scaled = scale_logits(logits, scale, shift)
    assert np.allclose(scaled[1] - scaled[0], inside, atol=0.15)


# probabilities in place of logits


def test_log_probabilities_are_the_logits_up_to_a_constant_of_each_voxel(true_logits):
    logits = 3 * true_logits[:, :1000]
    log_probs, n_floored = log_probabilities(softmax(logits, axis=0))
    assert n_floored == 0 and log_probs.dtype == np.float32
    assert np.ptp(logits - log_probs, axis=0).max() < 1e-5


def test_logits_and_log_probabilities_give_one_temperature(true_logits):
    logits = 2.5 * true_logits[:, :20_000]
    labels = draw(true_logits[:, :20_000])
    exact = log_softmax(logits, axis=0)
    expected = fit_temperature(labels, logits)
    assert fit_temperature(labels, exact) == pytest.approx(expected, abs=1e-6)
    stored = softmax(logits, axis=0).astype(np.float32)
    log_probs, n_floored = log_probabilities(stored)
    assert n_floored == 0
    assert fit_temperature(labels, log_probs) == pytest.approx(expected, abs=1e-6)


def test_vector_scaling_of_log_probabilities_is_another_family(true_logits):
    labels, scale = draw(true_logits)[:20_000], np.array([2.0, 0.5, 1.5])
    logits = true_logits[:, :20_000] / scale[:, np.newaxis]
    found, _ = fit_vector_scaling(labels, log_softmax(logits, axis=0))
    assert not np.allclose(found, fit_vector_scaling(labels, logits)[0], rtol=0.05)


def test_of_two_classes_log_probabilities_hold_logit_p():
    p = np.random.default_rng(5).uniform(0.01, 0.99, 20_000)
    labels = (np.random.default_rng(6).random(p.size) < p).astype(int)
    log_probs, _ = log_probabilities(np.stack([1 - p, p]))
    assert np.allclose(log_probs[1] - log_probs[0], np.log(p / (1 - p)), atol=1e-5)
    assert fit_temperature(labels, log_probs) == pytest.approx(1, abs=0.05)


def test_zeros_are_floored_and_voxels_counted():
    probs = np.array([[1, 1, 0.5], [0, 1e-9, 0.5]], dtype=np.float32)
    log_probs, n_floored = log_probabilities(probs)
    assert n_floored == 1 and log_probs[1, 0] == np.log(np.float32(SMALLEST_PROB))
    log_probs, n_floored = log_probabilities(probs, floor=(0.6, 1e-6))
    assert n_floored == 3
    assert log_probs[1] == pytest.approx(np.log([1e-6, 1e-6, 0.5]))
    assert log_probs[0] == pytest.approx(np.log([1, 1, 0.6]))
    of_voxel, n_floored = log_probabilities(probs[:, 1])
    assert n_floored == 0 and of_voxel.tolist() == log_probabilities(probs)[0][:, 1].tolist()
    assert log_probabilities(probs[:, 0])[1] == 1
    assert log_probabilities(probs[:, :2].astype(np.float16), 2**-24)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("probs", "floor", "message"),
    [
        ([[0.5, np.nan]], 0.1, "probs: found 1 NaN"),
        ([[0.5, 50.0]], 0.1, "probs: found values from 0.5 to 50"),
        (0.5, 0.1, "probs: found a number"),
        ([[0.5], [0.5]], 0.0, "floor: found 0.0"),
        ([[0.5], [0.5]], [0.1] * 3, "floor: found"),
    ],
)
def test_wrong_probabilities_are_one_sentence(probs, floor, message):
    with pytest.raises(ValueError, match=message):
        log_probabilities(np.array(probs), floor)


# weights


def test_a_weight_is_so_many_voxels(true_logits):
    labels, logits = draw(true_logits)[:900], 2 * true_logits[:, :900]
    weights = np.random.default_rng(7).integers(0, 4, 900)
    repeated = np.repeat(labels, weights), np.repeat(logits, weights, axis=1)
    found = fit_temperature(labels, logits, 2.0 * weights)
    assert found == pytest.approx(fit_temperature(*repeated), rel=1e-6)
    assert found != pytest.approx(fit_temperature(labels, logits), rel=1e-3)
    for pair in zip(
        fit_vector_scaling(labels, logits, weights), fit_vector_scaling(*repeated), strict=True
    ):
        assert np.allclose(*pair, atol=1e-4)


def test_equal_weights_change_nothing(true_logits):
    labels, logits = draw(true_logits)[:900], 2 * true_logits[:, :900]
    found = fit_temperature(labels, logits, np.full(900, 7.0))
    assert found == pytest.approx(fit_temperature(labels, logits), rel=1e-9)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"weights: found shape \(1,\), expected that of labels, \(2,\)"),
        ([1.0, -1.0], "weights: found values from -1 to 1"),
        ([0.0, 0.0], "weights: found values from 0 to 0"),
        ([1.0, np.nan], "weights: found 1 NaN"),
    ],
)
def test_wrong_weights_are_one_sentence(weights, message):
    for fit in (fit_temperature, fit_vector_scaling):
        with pytest.raises(ValueError, match=message):
            fit(np.array([0, 1]), np.zeros((2, 2)), weights)
