"""The annotator's fields have unit variance, and its posterior is what its labels follow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from data_scripts.phantoms.anatomies import draw_anatomy
from data_scripts.phantoms.annotators import annotate, posterior, smooth_field

SPACING_MM = (2.0, 2.0, 8.0)
BOUNDARIES = {  # distances and spreads of one row of voxels, two boundaries
    "distances_mm": np.array([[-4.0, -1.0, 0.0, 1.5, 6.0], [3.0, -2.0, 0.5, 1.0, -5.0]]),
    "sigmas_mm": np.array([[1.5], [2.5]]),
}
BOUNDARIES["distances_mm"] = BOUNDARIES["distances_mm"][:, :, None, None]


class Impulses:
    """Stands in for a generator: instead of noise, one voxel after the other is 1."""

    def __init__(self):
        self.n_given = 0

    def standard_normal(self, shape):
        self.n_voxels = int(np.prod(shape))
        noise = np.zeros(self.n_voxels)
        noise[self.n_given] = 1.0
        self.n_given += 1
        return noise.reshape(shape)


def field_weights(shape, spacing_mm, correlation_mm):
    """The weight of every white-noise voxel (first axis) in every voxel of the field."""
    impulses = Impulses()
    weights = [smooth_field(shape, spacing_mm, correlation_mm, impulses)]
    while impulses.n_given < impulses.n_voxels:
        weights.append(smooth_field(shape, spacing_mm, correlation_mm, impulses))
    return np.array(weights)


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 8.0), (2.0, 3.0, 5.0), (9.0, 9.0, 9.0)])
def test_variance_is_exactly_1_at_every_voxel_borders_included(spacing_mm):
    weights = field_weights((3, 4, 2), spacing_mm, 4.0)
    np.testing.assert_allclose(np.sum(weights**2, axis=0), 1.0, rtol=1e-12)


def test_field_correlates_over_its_length_in_mm_and_not_across_opposite_faces():
    weights = field_weights((9, 3, 2), (2.0, 3.0, 6.0), 6.0)
    correlation = np.einsum("n,nxyz->xyz", weights[:, 0, 0, 0], weights)
    for voxel in [(3, 0, 0), (0, 2, 0), (0, 0, 1)]:  # each 6 mm away
        assert correlation[voxel] == pytest.approx(np.exp(-0.5), abs=0.01)
    assert correlation[8, 0, 0] == pytest.approx(np.exp(-0.5 * (16 / 6) ** 2), abs=0.01)


def test_simulated_fields_have_mean_0_and_variance_1():
    rng = np.random.default_rng(0)
    fields = np.array([smooth_field((3, 3, 2), SPACING_MM, 4.0, rng) for _ in range(800)])
    # Standard errors 1 / sqrt(n) and sqrt(2 / n); 18 voxels stay below four of them.
    assert np.abs(fields.mean(axis=0)).max() < 4 / np.sqrt(800)
    assert np.abs(fields.var(axis=0) - 1).max() < 4 * np.sqrt(2 / 800)


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


def annotate_often(distances_mm, sigmas_mm, labels, n_repeats=150):
    """Frequency of each label: every slice is one voxel repeated, in nearly independent places."""
    shape = (len(labels), n_repeats, n_repeats, np.shape(distances_mm)[1])
    everywhere = np.broadcast_to(np.asarray(distances_mm)[:, None, None, :], shape)
    rng = np.random.default_rng(3)
    drawn = annotate(everywhere, sigmas_mm, labels, (1, 1, 1), 0.4, rng)
    classes = np.arange(max(labels) + 1).reshape(-1, 1, 1, 1)
    return np.mean(drawn == classes, axis=(1, 2)), posterior(everywhere, sigmas_mm, labels)[:, 0, 0]


def test_annotations_follow_the_posterior_with_a_spread_for_each_slice():
    distances_mm = [[-4.0, -1.0, 0.0, 1.5, 6.0], [3.0, -2.0, 0.5, 1.0, -5.0]]
    sigmas_mm = [[2.0, 0.7, 1.0, 3.0, 4.0], [1.0, 2.5, 2.5, 0.8, 3.0]]
    frequencies, probs = annotate_often(distances_mm, sigmas_mm, (2, 1))
    # Neighbours correlate by 4 %: five binomial standard errors leave room for that.
    error = np.sqrt(probs * (1 - probs) / 150**2)
    assert np.all(np.abs(frequencies - probs) < 5 * error + 1e-4)


def test_a_boundary_of_higher_priority_wins_and_displacements_are_independent():
    inside_both, _ = annotate_often([[50.0], [50.0]], [[1.0], [1.0]], (1, 2))
    np.testing.assert_array_equal(inside_both.ravel(), [0, 1, 0])
    # One field for both boundaries would never give label 1: both would be inside or outside.
    on_both, _ = annotate_often([[0.0], [0.0]], [[1.0], [1.0]], (2, 1))
    np.testing.assert_allclose(on_both.ravel(), [0.25, 0.25, 0.5], atol=0.02)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (3, 2, 2, 2), elements=st.floats(-60, 60)), st.permutations([1, 2, 3]))
def test_posterior_is_a_distribution(distances_mm, labels):
    probs = posterior(distances_mm, np.full((3, 2), 1.5), labels)
    assert probs.min() >= 0
    np.testing.assert_allclose(probs.sum(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("task_name", "spacing_mm"),
    [("heart", (8.0, 8.0, 14.0)), ("prostate", (3.5, 3.5, 7.0)), ("brain", (5.0, 5.0, 4.0))],
)
def test_calibration_error_of_the_oracle_falls_to_0_for_every_class(task_name, spacing_mm):
    """Class-wise ECE of the true posterior, on 16 cases and on 256: a quarter is expected."""
    rng = np.random.default_rng(11)
    axes_mm = [
        s * (np.arange(n) - (n - 1) / 2) for s, n in zip(spacing_mm, (15, 15, 4), strict=True)
    ]
    few, all_probs, all_hits = [], [], []
    for _ in range(16):
        anatomy = draw_anatomy(task_name, rng)
        distances_mm = [b.shape.signed_distance(*np.ix_(*axes_mm)) for b in anatomy.boundaries]
        sigmas_mm = [b.sigma_mm(axes_mm[2]) for b in anatomy.boundaries]
        rule = distances_mm, sigmas_mm, [b.label for b in anatomy.boundaries]
        probs = posterior(*rule)
        drawn = [annotate(*rule, spacing_mm, 0.7 * spacing_mm[0], rng) for _ in range(16)]
        classes = np.arange(len(probs)).reshape(-1, 1, 1, 1)
        hits = np.mean([labels == classes for labels in drawn], axis=0)
        few.append(_binned_errors(probs, hits))
        all_probs.append(probs)
        all_hits.append(hits)
    many = _binned_errors(np.stack(all_probs, axis=1), np.stack(all_hits, axis=1))
    assert np.all(many < 0.5 * np.mean(few, axis=0))
    assert np.all(many < 0.002)


def _binned_errors(probs, frequencies, n_bins=10):
    """Class-wise ECE: gap of mean probability and frequency a bin, weighted by its voxels."""
    errors = []
    for p, frequency in zip(probs, frequencies, strict=True):
        bins = np.minimum((p * n_bins).astype(int), n_bins - 1).ravel()
        gaps = np.bincount(bins, (p - frequency).ravel(), minlength=n_bins)
        errors.append(np.abs(gaps).sum() / p.size)
    return np.array(errors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distances_mm": np.zeros((2, 3, 1))}, r"distances_mm: found shape \(2, 3, 1\)"),
        ({"distances_mm": np.full((2, 5, 1, 1), np.nan)}, "distances_mm: found 10 NaN"),
        ({"sigmas_mm": np.ones((1, 1))}, r"sigmas_mm: found shape \(1, 1\)"),
        ({"sigmas_mm": np.zeros((2, 1))}, "sigmas_mm: found a smallest value of 0.0"),
        ({"sigmas_mm": np.full((2, 1), np.nan)}, "sigmas_mm"),
        ({"labels": (1,)}, r"labels: found \(1,\)"),
        ({"labels": (0, 0)}, r"labels: found \(0, 0\)"),
        ({"labels": (1, -1)}, r"labels: found \(1, -1\)"),
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


def test_a_boundary_of_label_0_cuts_a_hole_whose_posterior_is_exact():
    """A shell: inside of the inner boundary is background again."""
    distances_mm, sigmas_mm = np.zeros((2, 1, 1, 1)), np.ones((2, 1))
    probs = posterior(distances_mm, sigmas_mm, (0, 1)).ravel()
    np.testing.assert_allclose(probs, [0.5 + 0.25, 0.25])
    drawn, exact = annotate_often(np.zeros((2, 1)), sigmas_mm, (0, 1))
    np.testing.assert_allclose(drawn, exact, atol=0.02)
