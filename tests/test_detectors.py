"""Detectors: what each looks at, the common threshold rule, and the controls that must fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.covariance import LedoitWolf

from segcal_lite.detectors import (
    IntensityDetector,
    MahalanobisDetector,
    NearestReferenceDetector,
    ScalarDetector,
    SpectralDetector,
    VoxelCountDetector,
    intensity_moments,
)
from segcal_lite.spectral import leave_one_out_oodm, ood_threshold, oodm, spectral_signature


def auc_with_interval(scores_in, scores_out, n_resamples=500, seed=0):
    """AUC with OOD as the positive class, and its 95 % percentile bootstrap interval."""
    rng = np.random.default_rng(seed)

    def auc(a, b):
        return np.mean(b[:, None] > a) + np.mean(b[:, None] == a) / 2

    resampled = [
        auc(rng.choice(scores_in, len(scores_in)), rng.choice(scores_out, len(scores_out)))
        for _ in range(n_resamples)
    ]
    return auc(scores_in, scores_out), *np.percentile(resampled, [2.5, 97.5])


def signatures_of(n, seed, mixing):
    """Signatures of n maps on one grid, whose channels are mixed (and so scaled) by `mixing`."""
    rng = np.random.default_rng(seed)
    return np.array(
        [
            spectral_signature(np.tensordot(mixing, rng.normal(size=(6, 12, 10, 3)), axes=1))
            for _ in range(n)
        ]
    )


# The spectral detector and its control


def test_a_real_shift_is_separated_and_random_signatures_are_not():
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(6, 6))
    train, test_in = signatures_of(40, 1, mixing), signatures_of(40, 2, mixing)
    test_out = signatures_of(40, 4, mixing * np.array([1, 1, 1, 0.5, 0.5, 0.5])[:, None])
    detector = SpectralDetector().fit(train)
    auc, low, _ = auc_with_interval(detector.score(test_in), detector.score(test_out))
    assert auc >= 0.95
    assert low > 0.9
    assert detector.is_ood(test_out).mean() > 0.95
    assert detector.is_ood(test_in).mean() < 0.2

    random = rng.normal(size=(120, 6))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    control = SpectralDetector().fit(random[:40])
    scores = control.score(random[40:])
    auc, low, high = auc_with_interval(scores[:40], scores[40:])
    assert low < 0.5 < high
    assert 0.3 < auc < 0.7


def test_volume_size_alone_separates_printed_signatures_and_not_divided_ones():
    """What the size control shows: the same tissue on a larger grid."""
    rng = np.random.default_rng(0)
    scale = np.array([8.0, 4.0, 2.0])[:, None, None]

    def signatures(n, side, divided):
        maps = [rng.normal(size=(3, side, side)) * scale for _ in range(n)]
        return np.array([spectral_signature(m, divide_by_sqrt_voxels=divided) for m in maps])

    aucs = {}
    for divided in (False, True):
        detector = SpectralDetector().fit(signatures(40, 30, divided))
        scores_in = detector.score(signatures(40, 30, divided))
        scores_out = detector.score(signatures(40, 60, divided))
        aucs[divided] = auc_with_interval(scores_in, scores_out)[0]
    assert aucs[False] == 1.0
    assert aucs[True] < 0.6


def test_spectral_detector_is_equations_1_and_2():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(9, 14)), rng.normal(size=(5, 14))
    detector = SpectralDetector(c=1.5)
    assert detector.fit(train) is detector
    np.testing.assert_array_equal(detector.score(test), oodm(test, train))
    np.testing.assert_array_equal(detector.training_scores, leave_one_out_oodm(train))
    assert detector.threshold == ood_threshold(train, c=1.5)
    assert SpectralDetector().fit(train).threshold == ood_threshold(train, c=2.5)
    score = detector.score(test[2])
    assert isinstance(score, float)
    assert score == detector.score(test)[2]


# The threshold rule


def test_a_score_equal_to_the_threshold_is_not_ood():
    detector = NearestReferenceDetector(c=0).fit([[0.0], [1.0], [2.0]])
    assert detector.threshold == 1.0
    assert detector.is_ood([3.0]) is False
    assert detector.is_ood([3.5]) is True


def test_c_may_be_swept_after_fit():
    detector = NearestReferenceDetector().fit([[0.0], [1.0], [3.0]])
    thresholds = []
    for c in (0, 1, 2.5):
        detector.c = c
        thresholds.append(detector.threshold)
    mean, std = 4 / 3, np.sqrt(2) / 3
    np.testing.assert_allclose(thresholds, [mean, mean + std, mean + 2.5 * std])


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(2, 8), st.just(3)), elements=st.floats(-5, 5)),
    arrays(np.float64, st.tuples(st.integers(0, 5), st.just(3)), elements=st.floats(-9, 9)),
)
def test_is_ood_agrees_with_score_and_threshold(train, test):
    detector = NearestReferenceDetector().fit(train)
    flagged = detector.is_ood(test)
    assert flagged.shape == (len(test),)
    np.testing.assert_array_equal(flagged, detector.score(test) > detector.threshold)
    np.testing.assert_array_equal(detector.score(train), np.zeros(len(train)))


# The two trivial detectors


def test_voxel_counts_are_compared_by_their_logarithm():
    detector = VoxelCountDetector().fit([100, 200, 800])
    np.testing.assert_allclose(detector.training_scores, np.log([2, 2, 4]))
    np.testing.assert_allclose(detector.score([50, 200, 1600]), [np.log(2), 0, np.log(2)])
    assert detector.score(50) == pytest.approx(np.log(2))


def test_voxel_counts_on_one_grid_flag_nothing():
    detector = VoxelCountDetector().fit([224 * 224 * 10] * 6)
    assert detector.threshold == 0
    assert not detector.is_ood([224 * 224 * 10] * 3).any()


def test_intensity_moments_of_each_channel():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 5, 6, 7))
    expected = [image[0].mean(), image[1].mean(), image[0].std(), image[1].std()]
    np.testing.assert_allclose(intensity_moments(image), expected, rtol=1e-12)
    assert intensity_moments(image.astype(np.float32)).dtype == np.float64


def test_intensity_moments_are_standardised_by_the_training_spread():
    # Means 0, 2, 4 (std sqrt(8/3)) and deviations 10, 10, 40 (mean 20, std sqrt(200)).
    detector = IntensityDetector().fit([[0.0, 10.0], [2.0, 10.0], [4.0, 40.0]])
    spread = np.sqrt([8 / 3, 200])
    np.testing.assert_allclose(detector.score([3.0, 35.0]), np.hypot(1 / spread[0], 5 / spread[1]))
    np.testing.assert_allclose(detector.training_scores[:2], [2 / spread[0]] * 2)


@pytest.mark.parametrize("unit", [1e9, 1e-9])
def test_intensity_detector_does_not_depend_on_the_unit_of_the_intensities(unit):
    rng = np.random.default_rng(0)
    train, test = rng.normal(5, 1, size=(10, 4)), rng.normal(6, 1, size=(10, 4))
    scores = IntensityDetector().fit(train).score(test)
    np.testing.assert_allclose(IntensityDetector().fit(unit * train).score(unit * test), scores)


def test_a_moment_that_never_varies_in_training_is_not_blown_up():
    """Images divided by their deviation have deviation 1 up to rounding."""
    rng = np.random.default_rng(0)
    means = rng.normal(2, 0.5, size=20)
    exact = np.stack([means, np.ones(20)], axis=1)
    rounded = np.stack([means, 1 + 1e-8 * rng.normal(size=20)], axis=1)
    test = [[2.0, 1.0 + 5e-8], [2.0, 3.0]]
    scores = IntensityDetector().fit(rounded).score(test)
    np.testing.assert_allclose(scores, IntensityDetector().fit(exact).score(test), rtol=1e-5)
    nearest = np.abs(means - 2).min() / means.std()
    np.testing.assert_allclose(scores, [nearest, np.hypot(nearest, 2)], rtol=1e-3)


def test_a_channel_of_large_intensities_leaves_another_its_spread():
    train = np.array([[1.0e6, 0.1, 9.0, 1.0], [1.1e6, 0.9, 9.0, 1.0], [1.2e6, 0.5, 9.0, 1.0]])
    beside = train + [0, 0.2, 0, 0]  # of both neighbours 0.4 away
    expected = 0.2 / train[:, 1].std()
    assert IntensityDetector().fit(train).score(beside) == pytest.approx([expected] * 3)


def test_means_of_standardised_images_are_noise_beside_their_deviation():
    noise = 1e-8 * np.random.default_rng(0).normal(size=(10, 2))
    detector = IntensityDetector().fit(np.array([0.0, 1.0]) + noise)
    assert detector.score([5e-8, 1.0]) < 1e-6


# One number a case


def test_scalar_detector_scores_the_value_and_thresholds_by_the_training_values():
    detector = ScalarDetector(c=2).fit([1.0, 2.0, 6.0])
    assert detector.threshold == pytest.approx(3 + 2 * np.sqrt(14 / 3))
    np.testing.assert_array_equal(detector.score([7.0, -1.0]), [7.0, -1.0])
    np.testing.assert_array_equal(detector.is_ood([7.0, 8.0, -9.0]), [False, True, False])
    assert detector.score(7.5) == 7.5
    assert isinstance(detector.score(7.5), float)
    assert detector.n_missing == 0


def test_a_missing_value_is_the_most_suspicious_and_leaves_the_threshold():
    complete, missing = ScalarDetector().fit([1.0, 2.0]), ScalarDetector()
    missing.fit([np.nan, 1.0, 2.0, np.nan])
    assert missing.n_missing == 2
    assert missing.threshold == complete.threshold
    np.testing.assert_array_equal(missing.training_scores, [1.0, 2.0])
    np.testing.assert_array_equal(missing.score([np.nan, 1e9]), [np.inf, 1e9])
    assert missing.score(np.nan) == np.inf
    assert missing.is_ood(np.nan) is True


def test_scoring_leaves_the_callers_values_alone():
    values = np.array([1.0, np.nan, 3.0])
    ScalarDetector().fit(values).score(values)
    assert np.isnan(values[1])


# Wrong input


@pytest.mark.parametrize(
    "detector",
    [NearestReferenceDetector, SpectralDetector, VoxelCountDetector, ScalarDetector],
)
def test_no_score_and_no_threshold_before_fit(detector):
    with pytest.raises(ValueError, match=f"{detector.__name__}: found no training cases"):
        detector().score([1.0])
    with pytest.raises(ValueError, match=f"{detector.__name__}: found no training cases"):
        _ = detector().threshold


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpectralDetector().fit([[1.0, 2.0]]), "R >= 2"),
        (lambda: SpectralDetector().fit([1.0, 2.0]), "R >= 2"),
        (lambda: SpectralDetector().fit([[1.0], [np.nan]]), "features: found 1 NaN"),
        (lambda: SpectralDetector().fit(np.eye(3)).score([1.0, 0.0]), "signature: found shape"),
        (lambda: SpectralDetector(c=np.inf).fit(np.eye(3)).threshold, "c: found 1 NaN"),
        (lambda: VoxelCountDetector().fit([10]), "R >= 2"),
        (lambda: VoxelCountDetector().fit([10, 0]), "voxel_counts: found shape .* with 1 values"),
        (lambda: VoxelCountDetector().fit([10, np.nan]), "voxel_counts: found"),
        (lambda: VoxelCountDetector().fit([[10, 20]]), "voxel_counts: found shape"),
        (lambda: IntensityDetector().fit([[1.0, 2.0]]), "moments: found shape"),
        (lambda: IntensityDetector().fit(np.ones((3, 3))), "moments: found shape .* 2 C"),
        (lambda: IntensityDetector().fit([[1.0], [np.inf]]), "moments: found 1 NaN"),
        (lambda: IntensityDetector().fit(np.zeros((3, 0))), "reference: found shape"),
        (lambda: SpectralDetector().fit(np.eye(3)).score([1, 0, np.nan]), "features: found 1 NaN"),
        (
            lambda: IntensityDetector().fit([[1.0, 1.0], [2.0, 1.0]]).score([np.nan, 1.0]),
            "moments: found 1 NaN",
        ),
        (lambda: IntensityDetector().score([1.0, 2.0]), "IntensityDetector: found no training"),
        (
            lambda: IntensityDetector().fit([[1.0, 2.0], [2.0, 5.0]]).score([1.0]),
            r"moments: found shape \(1,\), expected \(2,\)",
        ),
        (lambda: ScalarDetector().fit([1.0, np.nan]), "values: found 1 that are not NaN"),
        (lambda: ScalarDetector().fit([[1.0, 2.0]]), "values: found shape"),
        (lambda: ScalarDetector().fit([1.0, np.inf]), "values: found shape .* 1 infinite"),
        (lambda: ScalarDetector().fit([1.0, 2.0]).score([-np.inf]), "1 infinite"),
        (lambda: intensity_moments([1.0, 2.0]), "image: found shape"),
        (lambda: intensity_moments(np.zeros((2, 0))), "image: found shape"),
        (lambda: intensity_moments([[1.0, np.nan]]), "image: found 1 NaN"),
    ],
)
def test_wrong_input_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def gaussian_groups(n=40, seed=0):
    rng = np.random.default_rng(seed)
    spread = np.array([1.0, 5.0, 0.2])
    groups = np.repeat(["a", "b"], n)
    return rng.normal(size=(2 * n, 3)) * spread + np.where(groups == "a", 0, 30)[:, None], groups


def test_mahalanobis_is_that_of_scikit_learn_for_one_group():
    features, _ = gaussian_groups()
    detector = MahalanobisDetector().fit(features[:40])
    estimate = LedoitWolf().fit(features[:40])
    expected = np.sqrt(estimate.mahalanobis(features))
    np.testing.assert_allclose(detector.score(features), expected)
    assert detector.score(features[0]) == pytest.approx(expected[0])


def test_mahalanobis_takes_the_nearest_group_in_units_of_the_common_spread():
    features, groups = gaussian_groups()
    detector = MahalanobisDetector().fit(features, groups)
    assert detector.is_ood(features).mean() < 0.05
    between = [[15.0, 15.0, 15.0]]
    assert detector.is_ood(between).all()
    one_group = MahalanobisDetector().fit(features)
    assert one_group.score(between)[0] < detector.score(between)[0]
    wide, narrow = detector.score([[0.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    assert narrow > 3 * wide


def test_mahalanobis_training_scores_are_leave_one_out():
    features, groups = gaussian_groups(n=4)
    detector = MahalanobisDetector().fit(features, groups)
    for left_out in range(8):
        others = np.arange(8) != left_out
        alone = MahalanobisDetector().fit(features[others], groups[others])
        assert detector.training_scores[left_out] == pytest.approx(alone.score(features[left_out]))
    assert detector.training_scores.mean() > detector.score(features).mean()


def test_mahalanobis_with_silent_features():
    features, _ = gaussian_groups()
    features[:, 2] = 0
    detector = MahalanobisDetector().fit(features)
    assert np.isfinite(detector.score(features)).all()


def test_mahalanobis_refuses_groups_without_spread():
    expected = "features: found no spread within groups, expected groups in which some images"
    with pytest.raises(ValueError, match=expected):
        MahalanobisDetector().fit(np.ones((4, 2)))


@pytest.mark.parametrize("alike", [0.0, 0.1])  # the mean of 0.1 is another number
def test_mahalanobis_refuses_images_that_differ_by_rounding(alike):
    features, groups = np.full((6, 2), alike), list("aaaabb")
    with pytest.raises(ValueError, match="features: found no spread within groups"):
        MahalanobisDetector().fit(features, groups)
    assert not MahalanobisDetector.has_enough(features, groups)
    features[5, 0] = 1  # without this image there is none
    assert not MahalanobisDetector.has_enough(features, groups)
    features[0, 0] = 1
    assert MahalanobisDetector.has_enough(features, groups)
    assert np.isfinite(MahalanobisDetector().fit(features, groups).training_scores).all()
    assert MahalanobisDetector.has_enough(features * np.nan, groups)  # which `fit` tells


def test_mahalanobis_of_few_images_flags_few_like_them():
    rng = np.random.default_rng(0)
    flagged = [
        MahalanobisDetector().fit(rng.normal(size=(4, 14))).is_ood(rng.normal(size=(20, 14)))
        for _ in range(20)
    ]
    assert np.mean(flagged) < 0.1  # of 3 images it would be all


@pytest.mark.parametrize("groups", ["abcd", "aab", "abcdde", "aabb", "aabcc", "aaabbc", "aaaa"])
def test_mahalanobis_needs_a_spread_whichever_image_is_left_out(groups):
    features = np.random.default_rng(0).normal(size=(len(groups), 2))
    is_enough = len(groups) - len(set(groups)) >= 3
    assert MahalanobisDetector.has_enough(features, list(groups)) == is_enough
    if is_enough:
        assert np.isfinite(MahalanobisDetector().fit(features, list(groups)).training_scores).all()
    else:
        counts = f"{len(groups)} images in {len(set(groups))} groups"
        expected = "R >= 4" if len(groups) < 4 else f"groups: found {counts}, expected two"
        with pytest.raises(ValueError, match=expected):
            MahalanobisDetector().fit(features, list(groups))


def scans(rng, n_patients, n_scans, ratio=0.1):
    """Signatures of several scans of each patient, which differ little, and whose each is."""
    people = np.repeat(rng.normal(size=(n_patients, 6)), n_scans, axis=0)
    vectors = np.exp(people + ratio * rng.normal(size=people.shape))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths, np.repeat(np.arange(n_patients), n_scans)


@pytest.mark.parametrize("kind", [SpectralDetector, IntensityDetector, MahalanobisDetector])
def test_several_scans_of_a_training_patient_leave_the_threshold_where_it_is(kind):
    rng, flagged = np.random.default_rng(0), []
    for _ in range(10):
        train, patients = scans(rng, 20, 2)
        new, _ = scans(rng, 20, 1)
        detector = kind().fit(train, patients=patients)
        flagged.append([detector.is_ood(new).mean(), kind().fit(train).is_ood(new).mean()])
        copies = kind().fit(np.repeat(new, 2, axis=0), patients=np.repeat(np.arange(20), 2))
        if kind is not MahalanobisDetector:  # whose shrinkage counts images
            np.testing.assert_allclose(copies.threshold, kind().fit(new).threshold)
    as_patients, as_images = np.mean(flagged, axis=0)
    assert as_patients < 0.15 and as_images > (0.3 if kind is SpectralDetector else as_patients)


def test_one_training_patient_is_too_few():
    train, _ = scans(np.random.default_rng(0), 3, 2)
    with pytest.raises(ValueError, match="patients: found one alone, expected at least 2"):
        SpectralDetector().fit(train, patients=["a"] * 6)
    with pytest.raises(ValueError, match=r"patients: found shape \(2,\), expected one for each"):
        SpectralDetector().fit(train, patients=["a", "b"])


def test_mahalanobis_refuses_by_name():
    with pytest.raises(ValueError, match=r"features: found shape \(2, 3\), expected \(R, d\) with"):
        MahalanobisDetector().fit(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"groups: found shape \(2,\), expected \(4,\)"):
        MahalanobisDetector().fit(np.eye(4), ["a", "b"])
    with pytest.raises(ValueError, match="features: found 1 NaN"):
        MahalanobisDetector().fit([[1.0], [np.nan], [2.0]])
    detector = MahalanobisDetector().fit(np.eye(4))
    with pytest.raises(ValueError, match=r"features: found shape \(3,\), expected \(4,\)"):
        detector.score([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="MahalanobisDetector: found no training cases"):
        MahalanobisDetector().score([1.0])
