"""The annotator's fields have unit variance, and its posterior is what its labels follow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from segcal_lite.anatomies import draw_anatomy
from segcal_lite.annotators import annotate, posterior, smooth_field

SPACING_MM = (2.0, 2.0, 8.0)
BOUNDARIES = {  # distances and spreads of one row of voxels, two boundaries
    "distances_mm": np.array([[-4.0, -1.0, 0.0, 1.5, 6.0], [3.0, -2.0, 0.5, 1.0, -5.0]]),
    "sigmas_mm": np.array([[1.5], [2.5]]),
}
BOUNDARIES["distances_mm"] = BOUNDARIES["distances_mm"][:, :, None, None]


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 8.0), (1.0, 3.0, 1.5), (9.0, 9.0, 9.0)])
def test_field_has_mean_0_and_variance_1_at_every_voxel(spacing_mm):
    rng = np.random.default_rng(0)
    n_fields = 4000
    fields = np.array([smooth_field((7, 5, 3), spacing_mm, 4.0, rng) for _ in range(n_fields)])
    # A sample variance has standard error sqrt(2 / n): 105 voxels stay below 4.5 of it.
    assert np.abs(fields.var(axis=0) - 1).max() < 4.5 * np.sqrt(2 / n_fields)
    assert np.abs(fields.mean(axis=0)).max() < 4.5 / np.sqrt(n_fields)


def test_variance_is_1_exactly_because_every_voxel_sums_the_same_squared_weights():
    class Impulse:
        """White noise that is 1 at one voxel: the field is then the kernel itself."""

        def standard_normal(self, shape):
            noise = np.zeros(shape)
            noise[0, 0, 0] = 1.0
            self.n_voxels = noise.size
            return noise

    # Spacings below the correlation length; the returned corner holds the kernel's half only, so
    # the grid is asked for whole: a margin of 3 lengths is added to what is returned.
    impulse = Impulse()
    kernel = smooth_field((40, 40, 20), (1.0, 1.0, 2.0), 2.0, impulse)
    # Away from the impulse the kernel falls as exp(-r^2 / l^2) along each axis.
    np.testing.assert_allclose(kernel[2, 0, 0] / kernel[0, 0, 0], np.exp(-1.0), rtol=1e-6)
    np.testing.assert_allclose(kernel[0, 0, 1] / kernel[0, 0, 0], np.exp(-1.0), rtol=1e-2)
    one_sided = np.sum(kernel[:20, 0, 0] ** 2) / kernel[0, 0, 0] ** 2
    across = 2 * one_sided - 1
    slices = 2 * np.sum(kernel[0, 0, :10] ** 2) / kernel[0, 0, 0] ** 2 - 1
    np.testing.assert_allclose(kernel[0, 0, 0] ** 2 * across**2 * slices, 1.0, rtol=1e-6)


def test_field_correlates_over_its_correlation_length_in_mm_and_not_across_opposite_faces():
    rng = np.random.default_rng(1)
    fields = np.array([smooth_field((9, 9, 3), (2.0, 1.0, 6.0), 6.0, rng) for _ in range(4000)])

    def correlation(voxel):
        return np.mean(fields[:, 0, 0, 0] * fields[(slice(None), *voxel)])

    for voxel in [(3, 0, 0), (0, 6, 0), (0, 0, 1)]:  # each 6 mm away
        assert correlation(voxel) == pytest.approx(np.exp(-0.5), abs=0.06)
    assert correlation((8, 0, 0)) == pytest.approx(np.exp(-0.5 * (16 / 6) ** 2), abs=0.06)


def test_field_is_the_same_for_the_same_generator():
    first, second = (
        smooth_field((6, 6, 3), SPACING_MM, 5.0, np.random.default_rng(7)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_posterior_by_hand():
    probs = posterior(labels=(2, 1), **BOUNDARIES)
    inside_a = norm.cdf(BOUNDARIES["distances_mm"][0] / 1.5)
    inside_b = norm.cdf(BOUNDARIES["distances_mm"][1] / 2.5)
    expected = [(1 - inside_a) * (1 - inside_b), (1 - inside_a) * inside_b, inside_a]
    np.testing.assert_allclose(probs, expected, rtol=1e-12)


def test_two_boundaries_may_share_a_label():
    probs = posterior(np.zeros((2, 1, 1, 1)), np.ones((2, 1)), (1, 1))
    np.testing.assert_allclose(probs.ravel(), [0.25, 0.75])


def test_annotations_follow_the_posterior():
    rng = np.random.default_rng(3)
    n_draws = 4000
    counts = np.zeros((3, 5, 1, 1))
    for _ in range(n_draws):
        labels = annotate(
            labels=(2, 1), spacing_mm=SPACING_MM, correlation_mm=5.0, rng=rng, **BOUNDARIES
        )
        counts += labels == np.arange(3).reshape(3, 1, 1, 1)
    probs = posterior(labels=(2, 1), **BOUNDARIES)
    error = np.sqrt(probs * (1 - probs) / n_draws)
    assert np.all(np.abs(counts / n_draws - probs) < 4 * error + 1e-9)


def test_a_boundary_of_higher_priority_wins_and_displacements_are_independent():
    rng = np.random.default_rng(4)
    far_inside = np.full((2, 4, 4, 2), 50.0)
    labels = annotate(far_inside, np.ones((2, 2)), (1, 2), SPACING_MM, 5.0, rng)
    assert np.all(labels == 1)
    on_both = [
        annotate(np.zeros((2, 1, 1, 1)), np.ones((2, 1)), (2, 1), (1, 1, 1), 2.0, rng).item()
        for _ in range(2000)
    ]
    # One field for both boundaries would never give label 1: both would be inside or outside.
    np.testing.assert_allclose(np.bincount(on_both) / 2000, [0.25, 0.25, 0.5], atol=0.05)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (3, 2, 2, 2), elements=st.floats(-60, 60)), st.permutations([1, 2, 3]))
def test_posterior_is_a_distribution(distances_mm, labels):
    probs = posterior(distances_mm, np.full((3, 2), 1.5), labels)
    assert probs.min() >= 0
    np.testing.assert_allclose(probs.sum(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("task_name", "half_width_mm", "steps_mm"),
    [
        ("heart", 60, (6.0, 6.0, 8.0)),
        ("prostate", 26, (2.6, 2.6, 3.6)),
        ("brain", 40, (4.0, 4.0, 2.0)),
    ],
)
def test_calibration_error_of_the_oracle_falls_to_0_for_every_class(
    task_name, half_width_mm, steps_mm
):
    """Class-wise ECE of the true posterior over growing numbers of annotations of three shapes."""
    rng = np.random.default_rng(11)
    in_plane_mm = np.arange(-half_width_mm, half_width_mm + 0.1, steps_mm[0])
    z_mm = steps_mm[2] * (np.arange(6) - 2.5)
    rules = []
    for _ in range(3):
        anatomy = draw_anatomy(task_name, rng)
        points_mm = np.ix_(in_plane_mm, in_plane_mm, z_mm)
        distances_mm = [b.shape.signed_distance(*points_mm) for b in anatomy.boundaries]
        sigmas_mm = [b.sigma_mm(z_mm) for b in anatomy.boundaries]
        rules.append((distances_mm, sigmas_mm, [b.label for b in anatomy.boundaries]))
    truth = np.stack([posterior(*rule) for rule in rules], axis=1)
    n_classes, counts, errors = len(truth), np.zeros_like(truth), {}
    for n_draws in range(1, 513):
        for case, rule in enumerate(rules):
            labels = annotate(*rule, steps_mm, 1.5 * steps_mm[0], rng)
            counts[:, case] += labels == np.arange(n_classes).reshape(-1, 1, 1, 1)
        if n_draws in (8, 512):
            errors[n_draws] = [
                _binned_error(p, n / n_draws) for p, n in zip(truth, counts, strict=True)
            ]
    uncertain = [np.mean((p > 0.05) & (p < 0.95)) for p in truth]
    few, many = np.array(errors[8]), np.array(errors[512])
    # 64 times the cases: an eighth of the error, give or take the luck of one draw.
    assert np.all(many < few / 3)
    # In the share of voxels where there is something to be calibrated, below 1 %.
    assert np.all(many < 0.01 * np.array(uncertain))


def _binned_error(probs, frequencies, n_bins=10):
    """Gap of mean probability and frequency a bin, weighted by voxels: class-wise ECE."""
    bins = np.minimum((probs * n_bins).astype(int), n_bins - 1).ravel()
    gaps = np.bincount(bins, (probs - frequencies).ravel(), minlength=n_bins)
    return np.abs(gaps).sum() / probs.size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distances_mm": np.zeros((2, 3, 1))}, r"distances_mm: found shape \(2, 3, 1\)"),
        ({"distances_mm": np.full((2, 5, 1, 1), np.nan)}, "distances_mm: found 10 NaN"),
        ({"sigmas_mm": np.ones((1, 1))}, r"sigmas_mm: found shape \(1, 1\)"),
        ({"sigmas_mm": np.zeros((2, 1))}, "sigmas_mm: found a smallest value of 0.0"),
        ({"sigmas_mm": np.full((2, 1), np.nan)}, "sigmas_mm"),
        ({"labels": (1,)}, r"labels: found \(1,\)"),
        ({"labels": (1, 0)}, r"labels: found \(1, 0\)"),
        ({"labels": (1, 256)}, r"labels: found \(1, 256\)"),
    ],
)
def test_wrong_boundaries_are_refused_by_name(changes, message):
    arguments = {**BOUNDARIES, "labels": (2, 1), **changes}
    with pytest.raises(ValueError, match=message):
        posterior(**arguments)
    with pytest.raises(ValueError, match=message):
        annotate(
            **arguments,
            spacing_mm=SPACING_MM,
            correlation_mm=5.0,
            rng=np.random.default_rng(0),
        )


@pytest.mark.parametrize("correlation_mm", [0.0, -1.0, np.nan, np.inf])
def test_wrong_correlation_length_is_refused(correlation_mm):
    with pytest.raises(ValueError, match="correlation_mm: found"):
        smooth_field((4, 4, 4), SPACING_MM, correlation_mm, np.random.default_rng(0))


def test_wrong_spacing_is_refused():
    with pytest.raises(ValueError, match="spacing_mm: found"):
        smooth_field((4, 4, 4), (1.0, 1.0), 3.0, np.random.default_rng(0))
