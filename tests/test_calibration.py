import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw, log_softmax, softmax

from segcal_lite._checks import check_labels_and_probs
from segcal_lite.calibration import (
    CalibrationSums,
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    nll,
    reliability_bins,
    sums_by_region,
)

# The larger root of -2 p ln p = 1 - p is p = 1; the other one gives the bound 4 p (1 - p).
P_OF_BOUND = float((-1 / (2 * lambertw(-0.5 / np.sqrt(np.e), k=-1))).real)
BRIER_TO_NLL = 4 * P_OF_BOUND * (1 - P_OF_BOUND)


def random_case(n_classes=3, shape=(400,), seed=0, sharpness=2.0, dtype=np.float64):
    """Overconfident predictions with some errors: logits lean to the true class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, shape)
    logits = rng.normal(size=(n_classes, *shape)) * sharpness
    logits += np.moveaxis(np.eye(n_classes)[labels], -1, 0)
    return labels, softmax(logits, axis=0).astype(dtype)


def slow_bins(confidence, correct, n_bins):
    """The definition voxel by voxel with exact comparisons of (l, r]."""
    count, sum_confidence, sum_correct = np.zeros((3, n_bins))
    for value, hit in zip(np.ravel(confidence).astype(float), np.ravel(correct), strict=True):
        m = 0
        while m < n_bins - 1 and value > (m + 1) / n_bins:
            m += 1
        count[m] += 1
        sum_confidence[m] += value
        sum_correct[m] += hit
    return count, sum_confidence, sum_correct


def textbook_vector(labels, probs, n_bins, eps=1e-12):
    """`CalibrationSums.as_vector` by NumPy, a step at a time, each in float64 and over all."""
    n_classes, labels = len(probs), np.ravel(labels)
    probs = np.minimum(probs.reshape(n_classes, -1), 1, dtype=np.float64)
    likelihood = np.take_along_axis(probs, labels[np.newaxis].astype(int), axis=0)[0]
    is_class = labels == np.arange(n_classes)[:, np.newaxis]
    brier = np.square(probs - is_class).sum()
    totals = [-np.log(np.maximum(likelihood, eps)).sum(), brier, np.sum(likelihood < eps)]
    pairs = [
        (probs.max(axis=0), probs.argmax(axis=0) == labels),
        *zip(probs, is_class, strict=True),
    ]
    inner_edges, bins = np.arange(1, n_bins) / n_bins, []
    for confidence, correct in pairs if labels.size else ():
        index = np.searchsorted(inner_edges, confidence, side="left")
        summands = None, confidence, correct
        bins.append([np.bincount(index, values, minlength=n_bins) for values in summands])
    if not labels.size:
        bins = np.zeros((n_classes + 1, 3, n_bins))
    return np.concatenate([totals, np.swapaxes(bins, 0, 1).ravel()])


def assert_same_vector(found, expected, n_bins):
    """Equal to 1e-12, and the counts of voxels and of correct ones exactly."""
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    count, _, correct = found[3:].reshape(3, -1, n_bins)
    of_count, _, of_correct = expected[3:].reshape(3, -1, n_bins)
    np.testing.assert_array_equal([count, correct], [of_count, of_correct])
    assert found[2] == expected[2]


def assert_same_result(left, right, rtol=1e-12):
    assert (left.n_voxels, left.n_floored) == (right.n_voxels, right.n_floored)
    for name in ("nll", "brier", "ece", "mce", "classwise_ece"):
        np.testing.assert_allclose(
            getattr(left, name), getattr(right, name), rtol=rtol, atol=1e-14, err_msg=name
        )
    for one, two in zip(
        (left.bins, *left.class_bins), (right.bins, *right.class_bins), strict=True
    ):
        np.testing.assert_array_equal(one.count, two.count)
        np.testing.assert_allclose(one.confidence, two.confidence, rtol=rtol)
        np.testing.assert_allclose(one.accuracy, two.accuracy, rtol=rtol)


# ---- values by hand ----------------------------------------------------------------------------


def test_all_scores_of_a_case_computed_by_hand():
    labels = np.array([0, 1, 1, 2])
    probs = np.array([[0.8, 0.6, 0.1, 0.25], [0.1, 0.3, 0.9, 0.25], [0.1, 0.1, 0.0, 0.5]])
    scores = CalibrationSums(3, n_bins=2).update(labels, probs).result()
    assert scores.n_voxels == 4
    assert scores.nll == pytest.approx(-np.log(0.8 * 0.3 * 0.9 * 0.5) / 4)
    assert scores.brier == pytest.approx((0.06 + 0.86 + 0.02 + 0.375) / 4)
    # Confidences 0.8, 0.6, 0.9 (right, wrong, right) above one half, and 0.5 (right) in (0, 0.5].
    assert scores.bins.count.tolist() == [1, 3]
    np.testing.assert_allclose(scores.bins.confidence, [0.5, 2.3 / 3])
    np.testing.assert_allclose(scores.bins.accuracy, [1, 2 / 3])
    assert scores.ece == pytest.approx((0.5 + 0.3) / 4)
    assert scores.mce == pytest.approx(0.5)
    # Class 0: 0.1 and 0.25 against no voxel; 0.8 and 0.6 against one.
    assert scores.class_bins[0].count.tolist() == [2, 2]
    # Class 1: 0.1, 0.3, 0.25 against one; 0.9 against one. Class 2: 0.1, 0.1, 0, 0.5 against one.
    expected = [(0.35 + 0.4) / 4, (0.35 + 0.1) / 4, 0.3 / 4]
    np.testing.assert_allclose(scores.classwise_ece, expected)


def test_the_plain_functions_are_the_fields_of_the_result():
    labels, probs = random_case(4, shape=(5, 6, 7))
    scores = CalibrationSums(4, n_bins=7).update(labels, probs).result()
    assert nll(labels, probs) == scores.nll
    assert brier_score(labels, probs) == scores.brier
    assert brier_score(labels, probs, normalise_by_classes=True) == scores.brier / 4
    assert expected_calibration_error(labels, probs, 7) == scores.ece
    assert expected_calibration_error(labels, probs, 7, of="classes") == np.mean(
        scores.classwise_ece
    )
    assert maximum_calibration_error(labels, probs, 7) == scores.mce
    for class_index, bins in [(None, scores.bins), (0, scores.class_bins[0])]:
        for one, two in zip(reliability_bins(labels, probs, 7, class_index), bins, strict=True):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(
        reliability_bins(labels, probs, 7, class_index=3).count, scores.class_bins[3].count
    )


def test_ten_bins_are_the_default():
    labels, probs = random_case()
    assert len(reliability_bins(labels, probs).count) == 10
    for function in (expected_calibration_error, maximum_calibration_error):
        assert function(labels, probs) == function(labels, probs, n_bins=10)
        assert function(labels, probs) != function(labels, probs, n_bins=3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_are_float64_and_counts_int64(dtype):
    labels, probs = random_case(dtype=dtype)
    bins = reliability_bins(labels, probs)
    assert bins.count.dtype == np.int64
    assert {values.dtype for values in (*bins[:2], *bins[3:])} == {np.dtype(np.float64)}
    for score in (nll, brier_score, expected_calibration_error, maximum_calibration_error):
        assert isinstance(score(labels, probs), float)


def test_float32_is_summed_in_float64():
    probs = np.array([[0.1], [0.9]], dtype=np.float32)
    probs = np.repeat(probs, 200_000, axis=1)
    labels = np.ones(200_000, dtype=np.uint8)
    p_0, p_1 = probs[:, 0].astype(np.float64)
    assert nll(labels, probs) == pytest.approx(-np.log(p_1), rel=1e-12)
    assert brier_score(labels, probs) == pytest.approx(p_0**2 + (1 - p_1) ** 2, rel=1e-12)
    assert reliability_bins(labels, probs).confidence[8] == pytest.approx(p_1, rel=1e-12)


def test_perfect_and_worst_predictions():
    labels = np.array([0, 1])
    perfect = np.eye(2)
    wrong = perfect[::-1]
    assert (nll(labels, perfect), brier_score(labels, perfect)) == (0, 0)
    assert expected_calibration_error(labels, perfect) == 0
    assert brier_score(labels, wrong) == 2
    assert brier_score(labels, wrong, normalise_by_classes=True) == 1
    assert expected_calibration_error(labels, wrong) == 1
    assert maximum_calibration_error(labels, wrong) == 1


# ---- the loop against the textbook -------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    n_classes=st.integers(2, 5),
    n_bins=st.integers(1, 20),
    n_voxels=st.integers(0, 60),
    parts=st.sampled_from([4, 10, 20, 1000]),
    dtype=st.sampled_from([np.float32, np.float64]),
    label_type=st.sampled_from([np.uint8, np.int16, np.int64]),
    seed=st.integers(0, 2**16),
)
def test_the_loop_equals_the_textbook(n_classes, n_bins, n_voxels, parts, dtype, label_type, seed):
    """Shares of 1 in a few parts: values on edges, ties of the largest, zeros and ones."""
    rng = np.random.default_rng(seed)
    shares = rng.multinomial(parts, rng.dirichlet(np.ones(n_classes)), n_voxels).T
    probs = (shares / parts).astype(dtype)
    labels = rng.integers(0, n_classes, n_voxels).astype(label_type)
    found = CalibrationSums(n_classes, n_bins).update(labels, probs).as_vector()
    assert_same_vector(found, textbook_vector(labels, probs, n_bins), n_bins)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_bins", [1, 2, 3, 7, 10, 15, 49, 100, 1000])
def test_values_at_an_edge_and_beside_it(n_bins, dtype):
    edges = (np.arange(n_bins + 1) / n_bins).astype(dtype)
    p = np.concatenate([edges, np.nextafter(edges, dtype(0)), np.nextafter(edges, dtype(2))])
    probs = np.stack([p, np.maximum(1 - p, 0)])
    labels = np.arange(p.size) % 2
    found = CalibrationSums(2, n_bins).update(labels, probs).as_vector()
    assert_same_vector(found, textbook_vector(labels, probs, n_bins), n_bins)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_voxels_in_any_layout_equal_the_textbook(dtype):
    shape = 19, 40, 33  # several blocks, the last of them smaller
    labels, probs = random_case(4, shape, dtype=dtype)
    expected = textbook_vector(labels, probs, 10)
    inner = np.zeros((6, 23, 42, 35), dtype)[1:5, 2:21, 1:41, 1:34]
    inner[:] = probs
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(probs, -1, 0)), 0, -1)
    flat = probs.reshape(4, 1, -1)
    for values in (probs, np.asfortranarray(probs), inner, last, flat):
        of_values = labels.reshape(values.shape[1:])
        found = CalibrationSums(4).update(of_values, values).as_vector()
        assert_same_vector(found, expected, 10)


@settings(deadline=None, max_examples=60)
@given(
    n_classes=st.integers(2, 5),
    n_bins=st.integers(1, 20),
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=8),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**16),
)
def test_voxels_alike_equal_the_textbook(n_classes, n_bins, lengths, dtype, seed):
    """Runs of one label and of nearly one probability, right, wrong and floored, in two regions."""
    rng = np.random.default_rng(seed)
    run = np.repeat(np.arange(len(lengths)), lengths)
    labels = rng.integers(0, n_classes, len(lengths))[run]
    logits = rng.choice([0.0, 2.0, 40.0], (n_classes, len(lengths)))[:, run]
    logits = logits + rng.normal(scale=1e-3, size=logits.shape)
    probs = np.exp(logits - logits.max(axis=0))
    probs = (probs / probs.sum(axis=0)).astype(dtype)
    in_right = (rng.random(len(lengths)) < 0.5)[run]
    shape = (-1, 1, 1)
    regions = {"whole": (slice(None),) * 3, "right": in_right.reshape(shape)}
    found = sums_by_region(labels.reshape(shape), probs[..., None, None], regions, n_bins)
    for name, inside in (("whole", slice(None)), ("right", in_right)):
        expected = textbook_vector(labels[inside], probs[:, inside], n_bins)
        assert_same_vector(found.sums[name].as_vector(), expected, n_bins)


# ---- regions in one pass -----------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    n_classes=st.integers(2, 4),
    shape=st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(1, 4)),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_regions_of_one_pass_are_those_taken_alone(n_classes, shape, share, seed):
    labels, probs = random_case(n_classes, shape, seed)
    rng = np.random.default_rng(seed)
    hidden = np.where(rng.random(shape) < 0.3, -1, labels)
    regions = {
        "whole": (slice(None),) * 3,
        "box": (slice(1, 4), slice(0, 3), slice(1, 9)),
        "nothing": (slice(0, 0),) * 3,
        "mask": rng.random(shape) < share,
    }
    found = sums_by_region(hidden, probs, regions, n_bins=7)
    np.testing.assert_array_equal(found.predicted, probs.argmax(axis=0))
    for name, region in regions.items():
        inside = np.zeros(shape, bool)
        inside[region] = True
        known = inside & (hidden >= 0)
        assert found.n_ignored[name] == inside.sum() - known.sum()
        expected = textbook_vector(labels[known], probs[:, known], 7)
        assert_same_vector(found.sums[name].as_vector(), expected, 7)


@pytest.mark.parametrize(
    ("region", "told"),
    [
        (np.ones((2, 2, 3), bool), r"bool of shape \(2, 2, 3\)"),
        (np.ones((2, 2, 2), int), r"int64 of shape"),
    ],
)
def test_a_mask_that_is_none_is_refused(region, told):
    labels, probs = random_case(2, (2, 2, 2))
    with pytest.raises(ValueError, match=f"^regions, band: found {told}.*, expected three slices"):
        sums_by_region(labels, probs, {"band": region})


def test_more_regions_than_bits_are_refused():
    labels, probs = random_case(2, (2, 2, 2))
    regions = {str(n): (slice(n, None),) * 3 for n in range(9)}
    with pytest.raises(ValueError, match="^regions: found 9 regions, expected at most 8"):
        sums_by_region(labels, probs, regions)
    regions.pop("8")
    assert sums_by_region(labels, probs, regions).sums["1"].result().n_voxels == 1


def test_many_classes_have_an_arg_max_too():
    labels, probs = random_case(300, (2, 3, 2))
    found = sums_by_region(labels, probs, {"whole": (slice(None),) * 3})
    np.testing.assert_array_equal(found.predicted, probs.argmax(axis=0))
    assert found.predicted.max() > 255 or probs.argmax(axis=0).max() < 256


# ---- bin edges ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bins", [1, 2, 3, 7, 10, 15, 20])
def test_an_edge_belongs_to_the_bin_below_it(n_bins):
    for m in range(n_bins + 1):
        edge = m / n_bins
        bins = reliability_bins(
            np.array([0]), np.array([[edge], [1 - edge]]), n_bins, class_index=0
        )
        assert np.flatnonzero(bins.count).tolist() == [max(m - 1, 0)]
        assert bins.lower[m - 1 if m else 0] <= edge <= bins.upper[m - 1 if m else 0]
        if m < n_bins:
            above = np.nextafter(edge, 1)
            probs = np.array([[above], [1 - above]])
            bins = reliability_bins(np.array([0]), probs, n_bins, class_index=0)
            assert np.flatnonzero(bins.count).tolist() == [m]


def test_float32_values_meet_the_edges_in_float64():
    tenths = np.arange(1, 10, dtype=np.float32) / np.float32(10)
    probs = np.stack([tenths, 1 - tenths])
    count = reliability_bins(np.zeros(9, dtype=int), probs, class_index=0).count
    # In float64, float32 0.1, 0.2, 0.3, 0.4, 0.6, 0.8 lie above the edge and 0.7, 0.9 below it.
    expected = np.zeros(10, dtype=int)
    for m, value in enumerate(tenths, start=1):
        expected[m if float(value) > m / 10 else m - 1] += 1
    np.testing.assert_array_equal(count, expected)
    assert count.tolist() == [0, 1, 1, 1, 2, 0, 2, 0, 2, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_and_slightly_too_large_probabilities(dtype):
    probs = np.array([[0, 1, 1 + 5e-5], [1, 0, 0]], dtype=dtype)
    bins = reliability_bins(np.array([1, 0, 0]), probs, class_index=0)
    assert bins.count.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins.confidence[0] == 0
    assert bins.confidence[9] == 1
    assert reliability_bins(np.array([1, 0, 0]), probs).count.tolist() == [0] * 9 + [3]


@pytest.mark.parametrize("n_voxels", [1, 70])  # one by one, and groups that are alike
def test_no_score_of_what_rounding_put_above_1_leaves_its_range(n_voxels):
    labels, probs = np.zeros(n_voxels, int), np.tile([[1 + 9e-5], [0.0]], n_voxels)
    for log_probs in (None, np.log(np.maximum(probs, 1e-12))):
        scores = CalibrationSums(2).update(labels, probs, log_probs).result()
        assert (scores.nll, scores.brier, scores.ece, scores.bins.confidence[9]) == (0, 0, 0, 1)
    assert brier_score(1 - labels, probs) == 2
    assert probs.max() > 1  # the caller's array is as it was


def test_edges_tile_the_unit_interval():
    bins = reliability_bins(np.array([0]), np.array([[0.5], [0.5]]), n_bins=7)
    np.testing.assert_array_equal(bins.upper[:-1], bins.lower[1:])
    assert (bins.lower[0], bins.upper[-1]) == (0, 1)
    np.testing.assert_allclose(bins.upper - bins.lower, 1 / 7)


def test_a_tie_is_predicted_as_the_lowest_class():
    probs = np.array([[0.4], [0.4], [0.2]])
    assert [reliability_bins(np.array([k]), probs).accuracy[3] for k in range(3)] == [1, 0, 0]


def test_empty_bins_are_nan_and_do_not_enter_the_scores():
    labels, probs = np.array([0, 0]), np.array([[0.95, 0.65], [0.05, 0.35]])
    bins = reliability_bins(labels, probs)
    empty = bins.count == 0
    assert np.flatnonzero(~empty).tolist() == [6, 9]
    assert np.isnan(bins.confidence[empty]).all() and np.isnan(bins.accuracy[empty]).all()
    assert maximum_calibration_error(labels, probs) == pytest.approx(0.35)


# ---- NLL: floor and logits ---------------------------------------------------------------------


def test_floor_counts_only_probabilities_below_eps():
    eps = 0.25  # exact in binary
    probs = np.array([[0, 0.125, 0.25, 0.5], [1, 0.875, 0.75, 0.5]])
    scores = CalibrationSums(2, eps=eps).update(np.zeros(4, dtype=int), probs).result()
    assert scores.n_floored == 2
    assert scores.nll == pytest.approx(-(3 * np.log(0.25) + np.log(0.5)) / 4)
    assert nll(np.zeros(4, dtype=int), probs, eps=eps) == scores.nll
    assert nll(np.array([0]), np.array([[0.0], [1.0]])) == pytest.approx(-np.log(1e-12))


def test_logits_keep_what_float32_probabilities_lose():
    logits = np.array([[-20.0, -60.0, 0.0], [20.0, 60.0, 0.0]])  # ln p(0): about -40, -120, -ln 2
    probs = softmax(logits, axis=0).astype(np.float32)
    log_probs, labels = log_softmax(logits, axis=0), np.zeros(3, dtype=int)
    tiny = CalibrationSums(2, eps=1e-30).update(labels, probs, log_probs).result()
    assert tiny.nll == pytest.approx((40 - np.log(1e-30) + np.log(2)) / 3)
    assert tiny.n_floored == 1
    floored = CalibrationSums(2).update(labels, probs, log_probs).result()
    assert floored.nll == pytest.approx((-2 * np.log(1e-12) + np.log(2)) / 3)
    assert floored.n_floored == 2
    assert floored.brier == CalibrationSums(2).update(labels, probs).result().brier


def test_log_probs_agree_with_probs_in_float64():
    labels, probs = random_case(shape=(4, 5))
    plain = CalibrationSums(3).update(labels, probs).result()
    assert_same_result(CalibrationSums(3).update(labels, probs, np.log(probs)).result(), plain)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda probs: np.log(probs)[:, :-1],
        lambda probs: np.log(probs) + 0.1,
        lambda probs: np.log(probs) - 0.1,
        lambda probs: np.full_like(probs, np.nan),
        lambda probs: np.full_like(probs, 1e4),
    ],
    ids=["shape", "too large", "too small", "nan", "logits"],
)
@pytest.mark.filterwarnings("error")
def test_log_probs_that_contradict_probs_are_refused(wrong):
    labels, probs = random_case(shape=(6,))
    sums = CalibrationSums(3)
    with pytest.raises(ValueError, match="log_probs"):
        sums.update(labels, probs, wrong(probs))
    assert not sums.as_vector().any()  # a refused block leaves no trace


# ---- sums: blocks, patients, vectors -----------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    n_classes=st.integers(2, 4),
    n_bins=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    seed=st.integers(0, 2**16),
)
def test_blocks_and_merges_equal_one_pass(n_classes, n_bins, cuts, seed):
    labels, probs = random_case(n_classes, shape=(60,), seed=seed)
    whole = CalibrationSums(n_classes, n_bins).update(labels, probs).result()
    fed, merged, vector = CalibrationSums(n_classes, n_bins), CalibrationSums(n_classes, n_bins), 0
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 60], strict=True):
        block = labels[start:stop], probs[:, start:stop]
        assert fed.update(*block) is fed
        patient = CalibrationSums(n_classes, n_bins).update(*block)
        assert merged.merge(patient) is merged
        vector = vector + patient.as_vector()
    from_vector = CalibrationSums.from_vector(vector, n_classes, n_bins)
    for sums in (fed, merged, from_vector):
        assert_same_result(sums.result(), whole, rtol=1e-10)


@settings(deadline=None, max_examples=25)
@given(n_classes=st.integers(2, 5), n_bins=st.integers(1, 20), seed=st.integers(0, 2**16))
def test_bins_follow_the_definition(n_classes, n_bins, seed):
    labels, probs = random_case(n_classes, shape=(50,), seed=seed)
    probs = np.round(probs * 20) / 20  # many values on edges
    probs[0] = 1 - probs[1:].sum(axis=0)
    keep = (probs >= 0).all(axis=0)
    labels, probs = labels[keep], probs[:, keep]
    scores = CalibrationSums(n_classes, n_bins).update(labels, probs).result()
    cases = [(probs.max(axis=0), probs.argmax(axis=0) == labels, scores.bins, scores.ece)]
    for k in range(n_classes):
        cases.append((probs[k], labels == k, scores.class_bins[k], scores.classwise_ece[k]))
    for confidence, correct, bins, ece in cases:
        count, sum_confidence, sum_correct = slow_bins(confidence, correct, n_bins)
        np.testing.assert_array_equal(bins.count, count)
        full = count > 0
        gap = np.abs(sum_correct[full] - sum_confidence[full]) / count[full]
        np.testing.assert_allclose(
            bins.confidence[full], sum_confidence[full] / count[full], atol=1e-14
        )
        np.testing.assert_allclose(bins.accuracy[full], sum_correct[full] / count[full])
        assert ece == pytest.approx((gap * count[full] / count.sum()).sum(), abs=1e-12)
    count, sum_confidence, sum_correct = slow_bins(*cases[0][:2], n_bins)
    full = count > 0
    mce = (np.abs(sum_correct - sum_confidence)[full] / count[full]).max()
    assert scores.mce == pytest.approx(mce, abs=1e-12)


def test_patients_are_resampled_by_a_matrix_product():
    patients = [random_case(3, shape=(50 + 10 * i,), seed=i) for i in range(4)]
    sums = [CalibrationSums(3).update(*patient) for patient in patients]
    draws = np.array([[0, 2, 1, 1], [4, 0, 0, 0]])
    vectors = draws @ np.stack([patient.as_vector() for patient in sums])
    for times, vector in zip(draws, vectors, strict=True):
        chosen = np.repeat(np.arange(4), times)
        labels = np.concatenate([patients[i][0] for i in chosen])
        probs = np.concatenate([patients[i][1] for i in chosen], axis=1)
        expected = CalibrationSums(3).update(labels, probs).result()
        assert_same_result(CalibrationSums.from_vector(vector, 3).result(), expected, rtol=1e-10)


def test_merge_and_vectors_share_no_memory():
    one = CalibrationSums(3).update(*random_case(seed=1))
    two = CalibrationSums(3).update(*random_case(seed=2))
    vector_one, vector_two = one.as_vector(), two.as_vector()
    copied = CalibrationSums.from_vector(vector_one, 3)
    copied.update(*random_case(seed=3)).merge(two)
    np.testing.assert_array_equal(one.as_vector(), vector_one)
    np.testing.assert_array_equal(two.as_vector(), vector_two)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).as_vector(), vector_one)


def test_voxel_order_shape_and_layout_do_not_matter():
    labels, probs = random_case(3, shape=(4, 5, 6))
    whole = CalibrationSums(3).update(labels, probs).result()
    flat = CalibrationSums(3).update(labels.ravel(), probs.reshape(3, -1)).result()
    assert_same_result(flat, whole)
    strided = CalibrationSums(3).update(labels.T, np.asfortranarray(probs.transpose(0, 3, 2, 1)))
    assert_same_result(strided.result(), whole)
    mask = labels != 1
    masked = CalibrationSums(3).update(labels[mask], probs[:, mask]).result()
    assert masked.n_voxels == mask.sum()
    single = CalibrationSums(3).update(labels[0, 0, 0], probs[:, 0, 0, 0]).result()
    assert single.n_voxels == 1


def test_update_changes_no_input():
    labels, probs = random_case(dtype=np.float32)
    before = labels.copy(), probs.copy()
    CalibrationSums(3).update(labels, probs)
    np.testing.assert_array_equal(labels, before[0])
    np.testing.assert_array_equal(probs, before[1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_no_voxels_give_nan_and_zero_counts(shape):
    labels, probs = np.zeros(shape, dtype=int), np.zeros((3, *shape))
    scores = CalibrationSums(3).update(labels, probs, log_probs=probs).result()
    assert np.isnan([scores.nll, scores.brier, scores.ece, scores.mce]).all()
    assert np.isnan(scores.classwise_ece).all() and scores.classwise_ece.shape == (3,)
    assert (scores.n_voxels, scores.n_floored, scores.bins.count.sum()) == (0, 0, 0)
    assert np.isnan(expected_calibration_error(labels, probs, of="classes"))
    filled = CalibrationSums(3).update(*random_case()).update(labels, probs).result()
    assert_same_result(filled, CalibrationSums(3).update(*random_case()).result(), rtol=0)


# ---- the bound of Brier over NLL ---------------------------------------------------------------


def test_the_bound_has_its_printed_value():
    assert pytest.approx(0.285, abs=5e-4) == P_OF_BOUND
    assert pytest.approx(0.815, abs=5e-4) == BRIER_TO_NLL
    p = np.linspace(1e-6, 1 - 1e-6, 200_001)
    assert (2 * (1 - p) ** 2 / -np.log(p)).max() == pytest.approx(BRIER_TO_NLL, rel=1e-9)


@settings(deadline=None, max_examples=100)
@given(
    n_classes=st.integers(2, 5),
    n_voxels=st.integers(1, 8),
    sharpness=st.floats(0, 200),
    seed=st.integers(0, 2**16),
)
def test_brier_never_exceeds_0815_nll(n_classes, n_voxels, sharpness, seed):
    labels, probs = random_case(n_classes, (n_voxels,), seed, sharpness)
    bound = BRIER_TO_NLL * nll(labels, probs) + 1e-12
    assert brier_score(labels, probs) <= bound
    assert brier_score(labels, probs, normalise_by_classes=True) <= bound / n_classes


def test_the_bound_is_reached_and_needs_normalised_probabilities():
    p = P_OF_BOUND
    labels, probs = np.array([0]), np.array([[p], [1 - p], [0]])
    ratio = brier_score(labels, probs) / nll(labels, probs)
    assert ratio == pytest.approx(BRIER_TO_NLL, rel=1e-12)
    # Independent sigmoids can break it: 0.9 for the truth, 0.9 for each of two other classes.
    assert (0.1**2 + 2 * 0.9**2) / -np.log(0.9) > BRIER_TO_NLL
    with pytest.raises(ValueError, match="sums of 1"):
        brier_score(labels, np.full((3, 1), 0.9))


# ---- refused input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"n_classes": 1}, "n_classes"),
        ({"n_classes": 2.0}, "n_classes"),
        ({"n_classes": 2, "n_bins": 0}, "n_bins"),
        ({"n_classes": 2, "n_bins": True}, "n_bins"),
        ({"n_classes": 2, "eps": 0}, "eps"),
        ({"n_classes": 2, "eps": 1}, "eps"),
        ({"n_classes": 2, "eps": np.nan}, "eps"),
    ],
)
def test_wrong_settings_are_refused(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: found"):
        CalibrationSums(**arguments)
    if name != "n_classes":
        labels, probs = np.zeros((40, 1, 1), int), np.full((2, 40, 1, 1), 0.5)
        settings = {key: value for key, value in arguments.items() if key != "n_classes"}
        with pytest.raises(ValueError, match=f"^{name}: found"):
            sums_by_region(labels, probs, {"whole": (slice(None),) * 3}, **settings)


@pytest.mark.parametrize(
    ("labels", "probs", "name"),
    [
        ([0, 1], np.full((3, 2), 1 / 3), "probs"),  # another K than the sums have
        ([0, 1], np.full((2, 2), 0.5, dtype=np.float16), "probs"),
        ([0, 1], np.full((2, 3), 0.5), "probs"),
        ([0, 2], np.full((2, 2), 0.5), "labels"),
        ([0.0, 1.0], np.full((2, 2), 0.5), "labels"),
        ([0, 1], np.array([[0.5, np.nan], [0.5, 0.5]]), "probs"),
        ([0, 1], np.array([[-0.1, 0.5], [1.1, 0.5]]), "probs"),
    ],
)
def test_wrong_arrays_are_refused_and_leave_no_trace(labels, probs, name):
    sums = CalibrationSums(2)
    with pytest.raises(ValueError, match=f"^{name}: found"):
        sums.update(np.array(labels), probs)
    assert not sums.as_vector().any()


FAULTS = {  # what a voxel's probabilities, or its label, may be instead
    "nan": (np.nan, None),
    "infinite": (np.inf, None),
    "negative": (-1e-9, None),
    "above 1": (1.1, None),
    "sum": (0.3, None),
    "label too large": (None, 3),
    "label below 0": (None, -2),
    "label ignored": (None, -1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_loop_refuses_what_the_check_refuses_in_its_words(fault, dtype):
    labels, probs = random_case(3, (3, 4000), dtype=dtype)
    sums, (value, label) = CalibrationSums(3).update(labels, probs), FAULTS[fault]
    before = sums.as_vector()
    if value is not None:
        probs[1, 2, 3999] = value
    else:
        labels[2, 3999] = label
    with pytest.raises(ValueError) as expected:
        check_labels_and_probs(labels, probs)
    for score in (sums.update, nll, reliability_bins):
        with pytest.raises(ValueError) as found:
            score(labels, probs)
        assert str(found.value) == str(expected.value)
    np.testing.assert_array_equal(sums.as_vector(), before)
    if fault != "label ignored":
        with pytest.raises(ValueError) as found:
            sums_by_region(labels, probs, {"first": (slice(0, 1), slice(None))})
        assert str(found.value) == str(expected.value)


def test_wrong_probabilities_of_ignored_voxels_are_refused_too():
    labels, probs = random_case(3, (4, 5))
    labels[1, 2], probs[0, 1, 2] = -1, np.nan
    with pytest.raises(ValueError, match="^probs: found 1 NaN"):
        sums_by_region(labels, probs, {"whole": (slice(None),) * 2})


@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">f8"])
def test_ignored_labels_are_not_blamed_for_the_type_of_probabilities(dtype):
    labels, probs = np.array([0, -1, 1]), np.full((2, 3), 0.5, dtype)
    with pytest.raises(ValueError, match="^probs: found dtype .*, expected float32 or float64"):
        sums_by_region(labels, probs, {"whole": (slice(None),)})


def test_labels_beyond_int64_are_not_ignored():
    labels, probs = np.array([0, 2**64 - 1], np.uint64), np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match="^labels: found values from .* to 18446744073709551615"):
        sums_by_region(labels, probs, {"whole": (slice(None),)})
    with pytest.raises(ValueError, match="^labels: found"):
        nll(labels, probs)


def test_sums_that_rounding_moved_are_taken():
    labels = np.array([0, 1])
    probs = np.array([[0.5, 0.3], [0.5, 0.7]])
    for moved in (probs * (1 + 0.99e-4), probs * (1 - 0.99e-4)):
        assert nll(labels, moved) == pytest.approx(nll(labels, probs), abs=1e-3)
    for moved in (probs * (1 + 1.01e-4), probs * (1 - 1.01e-4)):
        with pytest.raises(ValueError, match="sums that miss 1"):
            nll(labels, moved)


@pytest.mark.parametrize(
    "other",
    [CalibrationSums(3), CalibrationSums(2, n_bins=5), CalibrationSums(2, eps=1e-6)],
    ids=["n_classes", "n_bins", "eps"],
)
def test_merge_refuses_other_settings(other):
    with pytest.raises(ValueError, match="n_classes, n_bins, eps"):
        CalibrationSums(2).merge(other)


def test_from_vector_refuses_other_shapes_and_nan():
    vector = CalibrationSums(3).as_vector()
    assert vector.dtype == np.float64 and vector.shape == (3 + 3 * 4 * 10,)
    with pytest.raises(ValueError, match="vector: found shape"):
        CalibrationSums.from_vector(vector, n_classes=2)
    with pytest.raises(ValueError, match="vector: found 1 NaN"):
        CalibrationSums.from_vector(np.where(np.arange(vector.size) == 4, np.nan, vector), 3)


def test_unknown_choices_are_refused():
    labels, probs = random_case()
    with pytest.raises(ValueError, match=r"of: found 'class', expected one of 'top label'"):
        expected_calibration_error(labels, probs, of="class")
    for class_index in (3, -1, 1.0):
        with pytest.raises(ValueError, match="class_index: found"):
            reliability_bins(labels, probs, class_index=class_index)


# ---- other libraries: where the definitions meet, and where they part -------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_nll_and_brier_agree_with_scikit_learn(n_classes):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, probs = random_case(n_classes, sharpness=1.0)
    assert nll(labels, probs) == pytest.approx(metrics.log_loss(labels, probs.T), rel=1e-12)
    one_hot_distance = np.square(probs.T - np.eye(n_classes)[labels]).sum(axis=1).mean()
    assert brier_score(labels, probs) == pytest.approx(one_hot_distance, rel=1e-12)
    if n_classes == 2:  # scikit-learn halves the binary score, which is Eq. 4
        expected = metrics.brier_score_loss(labels, probs[1])
        assert brier_score(labels, probs, normalise_by_classes=True) == pytest.approx(expected)
    else:
        assert brier_score(labels, probs) == pytest.approx(
            metrics.brier_score_loss(labels, probs.T)
        )


def test_scikit_learn_floors_at_the_resolution_of_the_dtype():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, probs = np.array([0, 1]), np.array([[0, 0], [1, 1]], dtype=np.float32)
    resolution = float(np.finfo(np.float32).eps)
    assert metrics.log_loss(labels, probs.T) == pytest.approx(nll(labels, probs, resolution))
    assert nll(labels, probs) == pytest.approx(-np.log(1e-12) / 2)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("n_bins", [5, 10, 15])
def test_ece_and_mce_agree_with_torchmetrics_off_the_edges(n_classes, n_bins):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    labels, probs = random_case(n_classes, shape=(20, 30), sharpness=1.0)
    batch = torch.from_numpy(np.moveaxis(probs, 0, 1)), torch.from_numpy(labels)
    theirs = [
        functional.multiclass_calibration_error(*batch, n_classes, n_bins, norm).item()
        for norm in ("l1", "max")
    ]
    assert expected_calibration_error(labels, probs, n_bins) == pytest.approx(theirs[0], abs=1e-5)
    assert maximum_calibration_error(labels, probs, n_bins) == pytest.approx(theirs[1], abs=1e-5)


def test_torchmetrics_gives_confidence_1_a_bin_of_its_own():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    labels, probs = np.array([1, 0]), np.array([[1.0, 0.95], [0.0, 0.05]])
    batch = torch.from_numpy(probs.T), torch.from_numpy(labels)
    theirs = [
        functional.multiclass_calibration_error(*batch, 2, 10, norm).item()
        for norm in ("l1", "max")
    ]
    # Ours: one bin, confidence 0.975, accuracy one half. Theirs: gaps 1 and 0.05 apart.
    assert expected_calibration_error(labels, probs) == pytest.approx(0.475)
    assert theirs == pytest.approx([0.525, 1.0])


def test_torchmetrics_bins_are_closed_on_the_left():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    labels, probs = np.array([0, 1]), np.array([[0.75, 0.8], [0.25, 0.2]])
    batch = torch.from_numpy(probs.T), torch.from_numpy(labels)
    theirs = functional.multiclass_calibration_error(*batch, 2, n_bins=4).item()
    assert theirs == pytest.approx(abs(0.775 - 0.5))  # 0.75 beside 0.8 in [0.75, 1)
    assert expected_calibration_error(labels, probs, n_bins=4) == pytest.approx((0.25 + 0.8) / 2)


# Two voxels of class 1, predicted as 1 and as 0 with confidence 0.65: the top label has one bin,
# accuracy one half; p(1) has two bins (0.65 and 0.35) that both hold class 1 only.
ONE_SIDED = np.array([1, 1]), np.array([[0.35, 0.65], [0.65, 0.35]])


def test_top_label_and_class_1_differ_for_two_classes():
    scores = CalibrationSums(2).update(*ONE_SIDED).result()
    assert (scores.ece, scores.mce) == pytest.approx((0.15, 0.15))
    assert scores.classwise_ece == pytest.approx([0.5, 0.5])


def test_torchmetrics_binary_error_is_the_class_wise_error_of_class_1():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    for labels, probs in (ONE_SIDED, random_case(2, sharpness=1.0)):
        theirs = functional.binary_calibration_error(
            torch.from_numpy(probs[1]), torch.from_numpy(labels), n_bins=10
        ).item()
        scores = CalibrationSums(2).update(labels, probs).result()
        assert theirs == pytest.approx(scores.classwise_ece[1], abs=1e-6)


def netcal_errors(labels, probs, n_bins):
    netcal = pytest.importorskip("netcal.metrics")
    return [metric(n_bins).measure(probs.T, labels) for metric in (netcal.ECE, netcal.MCE)]


@pytest.mark.parametrize("n_classes", [3, 5])
@pytest.mark.parametrize("n_bins", [5, 10, 15])
def test_ece_and_mce_agree_with_netcal_for_three_classes_and_more(n_classes, n_bins):
    labels, probs = random_case(n_classes)
    ece, mce = netcal_errors(labels, probs, n_bins)
    assert expected_calibration_error(labels, probs, n_bins) == pytest.approx(ece, rel=1e-10)
    assert maximum_calibration_error(labels, probs, n_bins) == pytest.approx(mce, rel=1e-10)


def test_netcal_scores_class_1_when_there_are_two_classes():
    for labels, probs in (ONE_SIDED, random_case(2)):
        ece, mce = netcal_errors(labels, probs, n_bins=10)
        scores = CalibrationSums(2).update(labels, probs).result()
        bins = scores.class_bins[1]
        assert ece == pytest.approx(scores.classwise_ece[1], rel=1e-10)
        assert mce == pytest.approx(np.nanmax(np.abs(bins.accuracy - bins.confidence)), rel=1e-10)


@pytest.mark.parametrize("n_bins", [5, 10, 20])
def test_classwise_ece_agrees_with_monai(n_bins):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    if not hasattr(metrics, "CalibrationErrorMetric"):
        pytest.skip("this MONAI has no calibration error")
    labels, probs = random_case(4, shape=(8, 9, 10))
    one_hot = np.moveaxis(np.eye(4)[labels], -1, 0)
    metric = metrics.CalibrationErrorMetric(num_bins=n_bins, metric_reduction="none")
    theirs = metric(torch.from_numpy(probs[np.newaxis]), torch.from_numpy(one_hot[np.newaxis]))
    scores = CalibrationSums(4, n_bins).update(labels, probs).result()
    np.testing.assert_allclose(scores.classwise_ece, theirs[0].numpy(), atol=1e-5)
    mean = expected_calibration_error(labels, probs, n_bins, of="classes")
    assert mean == pytest.approx(theirs.mean().item(), abs=1e-5)


@pytest.mark.parametrize("right", [False, True])
def test_monai_puts_an_edge_into_the_lower_bin_whatever_right_says(right):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    if not hasattr(metrics, "calibration_binning"):
        pytest.skip("this MONAI has no calibration bins")
    quarters = torch.tensor([[[0.0, 0.25, 0.5, 0.75, 1.0]]])
    count = metrics.calibration_binning(quarters, torch.zeros(1, 1, 5), 4, right=right)[2]
    values = quarters[0, 0].double().numpy()
    ours = reliability_bins(np.zeros(5, dtype=int), np.stack([values, 1 - values]), 4, 0).count
    assert ours.tolist() == [2, 1, 1, 1] == count[0, 0].tolist()
