import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from segcal_lite.scaling import fit_temperature, fit_vector_scaling, sample_voxels, scale_logits


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
    with pytest.raises(ValueError, match=r"labels and logits: found shapes \(3,\) and \(3, 4\)"):
        sample_voxels(np.zeros(3, dtype=int), logits)
    with pytest.raises(ValueError, match="n_voxels: found 0"):
        sample_voxels(np.zeros(4, dtype=int), logits, n_voxels=0)


def test_regions_share_one_temperature():
    rng = np.random.default_rng(3)
    inside = rng.normal(size=(2, 50_000))  # R = 2 regions
    labels = (rng.random(inside.shape) < 1 / (1 + np.exp(-inside))).astype(int)
    logits = np.stack([np.zeros_like(inside), 4 * inside])
    assert fit_temperature(labels, logits) == pytest.approx(4, rel=0.05)
    scale, shift = fit_vector_scaling(labels, logits)
    scaled = scale_logits(logits, scale, shift)
    assert np.allclose(scaled[1] - scaled[0], inside, atol=0.15)
