"""AUC, confusion counts and tables of detectors against scikit-learn, SciPy and hand cases."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from segcal_lite.detection import (
    auc,
    auc_difference,
    auc_interval,
    compare_detectors,
    detection_counts,
    detection_table,
    fit_detectors,
    flagged_patients,
    patient_dice,
    patient_means,
    patients_of,
    spearman_interval,
    spectral_verdict,
)
from segcal_lite.detectors import ScalarDetector
from segcal_lite.report.verdicts import CONTROLS
from segcal_lite.statistics import interval_of_difference

score_sets = hnp.arrays(
    float, st.integers(1, 15), elements=st.integers(-4, 4).map(lambda value: value / 3)
)


# AUC


def test_auc_by_hand():
    assert auc([1, 2, 3], [4, 5]) == 1.0
    assert auc([4, 5], [1, 2, 3]) == 0.0
    assert auc([1, 3], [2]) == 0.5
    assert auc([1, 1], [1]) == 0.5
    assert auc([0, 1, 2, 3], [1, 2.5]) == (1.5 + 3) / 8


@given(score_sets, score_sets)
@settings(max_examples=40, deadline=None)
def test_auc_agrees_with_scikit_learn_and_scipy(scores_in, scores_out):
    metrics = pytest.importorskip("sklearn.metrics")
    is_ood = np.repeat([0, 1], [scores_in.size, scores_out.size])
    oracle = metrics.roc_auc_score(is_ood, np.concatenate([scores_in, scores_out]))
    assert auc(scores_in, scores_out) == pytest.approx(oracle, abs=1e-12)
    u_statistic = stats.mannwhitneyu(scores_out, scores_in, method="asymptotic").statistic
    assert auc(scores_in, scores_out) == pytest.approx(
        u_statistic / (scores_in.size * scores_out.size), abs=1e-12
    )


@given(score_sets, score_sets)
@settings(max_examples=40, deadline=None)
def test_auc_symmetry_and_monotone_maps(scores_in, scores_out):
    value = auc(scores_in, scores_out)
    assert auc(scores_out, scores_in) == pytest.approx(1 - value, abs=1e-12)
    assert auc(np.exp(scores_in), np.exp(scores_out)) == value


def _normal_scores(n_in, n_out, area=0.9, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    shift = stats.norm.ppf(area) * np.hypot(1, spread)
    return rng.normal(size=n_in), rng.normal(shift, spread, size=n_out)


def _hanley_mcneil(area, n_in, n_out):
    """The variance of 1982 as printed, both numbers of pairs with the mean of the two sizes."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    others = (n_in + n_out) / 2 - 1
    terms = area * (1 - area) + others * (q1 - area**2) + others * (q2 - area**2)
    return terms / (n_in * n_out)


def test_auc_interval_solves_its_equation():
    # Equal spreads, sizes of 12 and 30: DeLong's variance is below that of the formula here.
    area, lo, hi = auc_interval(*_normal_scores(12, 30, seed=4))
    quantile = stats.t.ppf(0.975, 40)
    assert 0 < lo < area < hi < 1
    for bound in (lo, hi):
        excess = (bound - area) ** 2 / _hanley_mcneil(bound, 12, 30)
        assert np.sqrt(excess) == pytest.approx(quantile, rel=1e-6)


def test_auc_interval_widens_to_delongs_variance():
    # Narrow inside, wide outside: of 50 and 10 images only the ten tell anything.
    scores_in, scores_out = _normal_scores(50, 10, area=0.7, spread=10)
    area, lo, hi = auc_interval(scores_in, scores_out)
    wins = (scores_out > scores_in[:, None]).astype(float)
    delong = wins.mean(axis=0).var(ddof=1) / 10 + wins.mean(axis=1).var(ddof=1) / 50
    usual = _hanley_mcneil(area, 50, 10)
    assert delong > 1.5 * usual
    excess = (lo - area) ** 2 / (_hanley_mcneil(lo, 50, 10) * delong / usual)
    assert np.sqrt(excess) == pytest.approx(stats.t.ppf(0.975, 58), rel=1e-6)


def test_separated_sets_have_an_interval():
    lows = []
    for n in (5, 10, 50):
        area, lo, hi = auc_interval(np.arange(n), n + np.arange(n))
        assert (area, hi) == (1.0, 1.0)
        mirrored = auc_interval(n + np.arange(n), np.arange(n))
        assert mirrored == (0.0, 0.0, pytest.approx(1 - lo, abs=1e-9))
        lows.append(lo)
    assert 0.5 < lows[0] < lows[1] < lows[2] < 0.96
    # One pair out of order never says more than none.
    assert auc_interval(np.arange(5), [3.5, 6, 7, 8, 9])[1] < lows[0]


def test_few_images_have_no_interval():
    for sizes in ((4, 4), (4, 30), (30, 4)):
        pair = _normal_scores(*sizes)
        assert auc_interval(*pair)[0] == auc(*pair)
        assert np.isnan(auc_interval(*pair)[1:]).all()
        assert np.isnan(auc_difference(pair, pair)[1:]).all()


def test_auc_interval_of_ties_only():
    area, lo, hi = auc_interval(np.ones(8), np.ones(6))
    assert area == 0.5
    assert 0 < lo < 0.3
    assert hi == pytest.approx(1 - lo)


@given(
    hnp.arrays(float, 9, elements=st.integers(-4, 4)),
    hnp.arrays(float, 7, elements=st.integers(-4, 4)),
)
@settings(max_examples=60, deadline=None)
def test_auc_interval_keeps_within_bounds(scores_in, scores_out):
    area, lo, hi = auc_interval(scores_in, scores_out)
    assert 0 <= lo <= area <= hi <= 1
    assert lo < hi
    wider = auc_interval(scores_in, scores_out, level=0.99)
    assert wider[1] <= lo
    assert wider[2] >= hi


@pytest.mark.parametrize(
    ("sizes", "area", "spread"),
    [((10, 10), 0.9, 1), ((20, 20), 0.98, 3), ((10, 50), 0.7, 1 / 3), ((5, 20), 0.98, 1)],
)
def test_auc_interval_covers(sizes, area, spread):
    runs = [auc_interval(*_normal_scores(*sizes, area, spread, run))[1:] for run in range(500)]
    # Percentiles of resampled AUC hold the truth in 87, 66, 88 and 59 % of these.
    assert np.mean([lo <= area <= hi for lo, hi in runs]) > 0.91


def test_auc_interval_of_patients_who_have_one_image_each_is_that_of_images():
    pair = _normal_scores(12, 9, seed=3)
    names = [[f"p{k}" for k in range(12)], [f"q{k}" for k in range(9)]]
    assert auc_interval(*pair, patients=names) == auc_interval(*pair)


def test_copies_of_an_image_tell_nothing_new_of_a_patient():
    pair = _normal_scores(12, 9, seed=3)
    names = np.arange(12), 100 + np.arange(9)
    copies, whose = ([np.repeat(part, 3) for part in parts] for parts in (pair, names))
    assert auc_interval(*copies, patients=whose) == pytest.approx(auc_interval(*pair))
    assert auc_interval(*copies)[1] > auc_interval(*pair)[1]


def test_auc_interval_of_patients_uses_obuchowskis_variance():
    # Patients have images of both kinds, and of each another number.
    rng = np.random.default_rng(2)
    of_in, of_out = rng.integers(8, size=40), rng.integers(8, size=25)
    level = 2 * rng.normal(size=8)
    scores = level[of_in] + rng.normal(size=40), level[of_out] + 1 + rng.normal(size=25)
    area, lo, _ = auc_interval(*scores, patients=(of_in, of_out))
    wins = (scores[1] > scores[0][:, None]).astype(float)
    parts = {}
    for patient in range(8):
        known = sum(wins[i].mean() - area for i in range(40) if of_in[i] == patient)
        ood = sum(wins[:, j].mean() - area for j in range(25) if of_out[j] == patient)
        parts[patient] = known, ood
    known, ood = np.array(list(parts.values())).T
    variance = 8 / 7 * ((known**2).sum() / 40**2 + (ood**2).sum() / 25**2)
    variance += 2 * 8 / 7 * (known * ood).sum() / (40 * 25)
    inflation = max(1, variance / _hanley_mcneil(area, 8, 8))
    excess = (lo - area) ** 2 / (inflation * _hanley_mcneil(lo, 8, 8))
    assert np.sqrt(excess) == pytest.approx(stats.t.ppf(0.975, 6), rel=1e-6)


def test_few_patients_have_no_interval_however_many_images():
    pair = _normal_scores(40, 12)
    whose = np.arange(40), 100 + np.arange(12) % 4
    assert np.isnan(auc_interval(*pair, patients=whose)[1:]).all()
    with pytest.raises(ValueError, match=r"patients: found shape \(11,\), .* each of 12 images"):
        auc_interval(*pair, patients=(whose[0], whose[1][1:]))
    for others in ([], whose[:1], [*whose, whose[0]]):
        with pytest.raises(ValueError, match=f"patients: found {len(others)} sequences, expected"):
            auc_interval(*pair, patients=others)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, "NaN of a Series"])
def test_a_missing_patient_is_refused(missing):
    names = [f"p{k}" for k in range(9)]
    whose = pd.Series([*names, np.nan]) if isinstance(missing, str) else [*names, missing]
    one, other = np.arange(10.0), np.arange(10.0) + 0.5
    described = {"voxel_count": one + 1, "dice": one / 10}
    described["patient"] = np.array(whose, dtype=object)
    for work in (
        lambda: auc_interval(one, other, patients=(names + ["p9"], whose)),
        lambda: auc_difference((one, other), (other, one), patients=(whose, names + ["p9"])),
        lambda: flagged_patients(one > 5, whose),
        lambda: patient_means(described, one),
        lambda: patients_of(described),
        lambda: patient_dice(described),
        lambda: fit_detectors(described),
    ):
        with pytest.raises(ValueError, match="^patients: found 1 missing, expected one for each"):
            work()


def test_a_patient_may_be_called_as_python_writes_what_is_missing():
    assert flagged_patients([True, False, True], ["nan", "None", "nan"]) == (1.0, 2)


def test_auc_difference_is_paired():
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=20), rng.normal(1, size=25)  # shared by both detectors
    better = [part + 0.05 * rng.normal(size=part.size) for part in hardness]
    better[1] = better[1] + 0.5
    difference, lo, hi = auc_difference(better, hardness)
    assert difference == pytest.approx(auc(*better) - auc(*hardness))
    assert 0 < lo < difference < hi
    alone = [auc_interval(*scores)[1:] for scores in (better, hardness)]
    assert alone[0][0] < alone[1][1]  # unpaired intervals overlap


def test_auc_difference_combines_both_intervals():
    rng = np.random.default_rng(5)
    first = _normal_scores(12, 15, 0.9, seed=1)
    second = [part + rng.normal(size=part.size) for part in first]
    wins = [(pair[1] > pair[0][:, None]).astype(float) for pair in (first, second)]
    # DeLong et al. 1988: covariances of the rows' and of the columns' means.
    rows, columns = (np.cov([w.mean(axis=axis) for w in wins]) for axis in (1, 0))
    covariance = rows / 12 + columns / 15
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    expected = interval_of_difference(auc_interval(*first), auc_interval(*second), correlation)
    assert auc_difference(first, second) == pytest.approx(expected, rel=1e-9)


def test_two_detectors_that_separate_the_sets_are_not_known_to_be_equal():
    pair = np.arange(6.0), 10 + np.arange(8.0)
    difference, lo, hi = auc_difference(pair, pair)
    assert difference == 0
    assert hi == -lo == pytest.approx(1 - auc_interval(*pair)[1])


def test_auc_difference_of_a_detector_and_itself():
    scores = _normal_scores(20, 20, 0.7)
    difference, lo, hi = auc_difference(scores, scores)
    assert difference == 0
    # Fully correlated: all that is left is how unequal the two arms are.
    area, low, high = auc_interval(*scores)
    assert hi == -lo == pytest.approx(abs((high - area) - (area - low)), rel=1e-5)
    swapped = [[-value for value in part] for part in scores]
    assert auc_difference(scores, swapped)[0] == pytest.approx(2 * auc(*scores) - 1)


def test_auc_difference_needs_the_same_images():
    with pytest.raises(ValueError, match=r"scores_b: found \(1, 2\) images, expected \(2, 2\)"):
        auc_difference(([0.0, 1.0], [1.0, 2.0]), ([0.0], [1.0, 2.0]))


def test_auc_difference_covers():
    hits = []
    for run in range(300):
        rng = np.random.default_rng(run)
        inside = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=10).T
        shifts = np.sqrt(2) * stats.norm.ppf([0.98, 0.8])
        outside = rng.multivariate_normal(shifts, [[1, 0.8], [0.8, 1]], size=10).T
        _, lo, hi = auc_difference(*zip(inside, outside, strict=True))
        hits.append(lo <= 0.18 <= hi)
    assert np.mean(hits) > 0.94  # DeLong's standard error: 88 %


# Spearman's rho


def test_spearman_interval_by_hand():
    x, y = np.arange(10.0), np.array([1, 0, 3, 2, 5, 4, 7, 6, 9, 8.0])
    rho = 1 - 6 * 10 / 990  # ten ranks off by one
    found, lo, hi = spearman_interval(x, y)
    arm = stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / 7)
    assert found == pytest.approx(rho)
    assert (lo, hi) == pytest.approx(tuple(np.tanh(np.arctanh(rho) + arm * np.array([-1, 1]))))


def test_spearman_interval_of_full_agreement_has_a_width():
    for sign in (1, -1):
        rho, lo, hi = spearman_interval(np.arange(8), sign * np.arange(8))
        assert rho == pytest.approx(sign)
        assert -1 <= lo < hi <= 1
        assert lo <= rho <= hi
        assert min(abs(lo), abs(hi)) < 0.95


def test_spearman_interval_without_an_answer():
    assert np.isnan(spearman_interval([1, 1, 1, 1, 1, 1], np.arange(6))).all()
    assert np.isnan(spearman_interval([1], [2])).all()
    assert spearman_interval([1, 2, 3, 4], [1, 2, 3, 4])[0] == pytest.approx(1)
    assert np.isnan(spearman_interval([1, 2, 3, 4], [1, 2, 3, 4])[1:]).all()
    with pytest.raises(
        ValueError, match=r"^y_values: found shape \(2,\), expected \(3,\), one axis"
    ):
        spearman_interval([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="^x_values and y_values: found 1 NaN, expected numbers"):
        spearman_interval([1, 2, np.nan], [1, 2, 3])


def test_spearman_interval_ranks_infinity_last():
    # "No organ found" scores infinity, as `_check_scores` has it.
    dice, scores = np.arange(8.0)[::-1], np.array([1, 2, 5, 3, 4, 6, np.inf, np.inf])
    finite = np.where(np.isinf(scores), 7.0, scores)
    assert spearman_interval(scores, dice) == spearman_interval(finite, dice)
    assert spearman_interval(scores, dice)[0] == pytest.approx(stats.spearmanr(finite, dice)[0])


def test_spearman_interval_covers():
    rng, hits = np.random.default_rng(1), []
    truth = 6 / np.pi * np.arcsin(0.45)
    for _ in range(500):
        pair = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=10).T
        _, lo, hi = spearman_interval(*pair)
        hits.append(lo <= truth <= hi)
    assert np.mean(hits) > 0.92


# Confusion counts


def test_detection_counts_by_hand():
    counts = detection_counts([0.1, 0.2, 0.5, 0.9], [0.5, 0.6, 0.7], threshold=0.5)
    # A score at the threshold is not above it.
    assert (counts.tp, counts.fn, counts.tn, counts.fp) == (2, 1, 3, 1)
    assert counts.sensitivity == 2 / 3
    assert counts.specificity == 3 / 4
    assert counts.accuracy == 5 / 7


@given(score_sets, score_sets, st.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_detection_counts_agree_with_scikit_learn(scores_in, scores_out, threshold):
    metrics = pytest.importorskip("sklearn.metrics")
    is_ood = np.repeat([0, 1], [scores_in.size, scores_out.size])
    called_ood = np.concatenate([scores_in, scores_out]) > threshold
    oracle = metrics.confusion_matrix(is_ood, called_ood, labels=[0, 1])
    counts = detection_counts(scores_in, scores_out, threshold)
    assert [[counts.tn, counts.fp], [counts.fn, counts.tp]] == oracle.tolist()
    assert counts.accuracy == metrics.accuracy_score(is_ood, called_ood)
    # Accuracy is an average of the two rates: it cannot lie outside them.
    rates = counts.sensitivity, counts.specificity
    assert min(rates) - 1e-12 <= counts.accuracy <= max(rates) + 1e-12


@pytest.mark.parametrize("function", [auc, auc_interval, lambda a, b: detection_counts(a, b, 0.0)])
def test_wrong_scores_are_refused(function):
    good = [1.0, 2.0]
    with pytest.raises(ValueError, match="^scores_in: found 1 NaN"):
        function([np.nan, 1.0], good)
    with pytest.raises(ValueError, match="^scores_out: found 1 NaN"):
        function(good, [np.nan, 1.0])
    with pytest.raises(ValueError, match=r"^scores_out: found shape \(0,\), expected \(n,\)"):
        function(good, [])
    with pytest.raises(ValueError, match=r"^scores_in: found shape \(1, 2\), expected \(n,\)"):
        function([good], good)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="^threshold: found 1 NaN"):
        detection_counts([1.0], [2.0], threshold=np.nan)
    with pytest.raises(ValueError, match="^level: found 95, expected a number between 0 and 1"):
        auc_interval([1.0], [2.0], level=95)


def test_an_infinite_score_is_the_most_suspicious():
    assert auc([0.1, 0.2], [np.inf, 0.15]) == 0.75
    assert auc([np.inf], [np.inf]) == 0.5
    assert detection_counts([0.1, np.inf], [np.inf, 0.3], threshold=0.5)[3:] == (1, 1, 1, 1)


# Tables of many detectors


def cases(n, level, dice=0.8):
    """Described cases of one set whose scores rise from `level`, the same for the controls."""
    described = {"set": np.full(n, "atrium"), "dice": np.full(n, dice)}
    return described | {name: np.linspace(0, 0.5, n) + level for name in ("spectral", *CONTROLS)}


@pytest.fixture
def fitted():
    """Detectors of which each looks at one number."""
    return {name: ScalarDetector().fit([0.0, 0.1]) for name in ("spectral", *CONTROLS)}


def test_the_table_holds_what_the_plain_functions_say(fitted):
    inside, outside = cases(12, 0), cases(14, 0.2)
    table = detection_table(fitted, inside, outside)
    assert list(table.detector) == list(fitted)
    own, scores = table.iloc[0], (inside["spectral"], outside["spectral"])
    assert (own.auc, own.lo, own.hi) == auc_interval(*scores)
    assert own[["accuracy", "sensitivity", "specificity", "tp", "fn", "tn", "fp"]].tolist() == list(
        detection_counts(*scores, fitted["spectral"].threshold)
    )


def test_without_ood_cases_the_table_says_what_it_can(fitted):
    inside = cases(12, 0)
    own = detection_table(fitted, inside).iloc[0]
    whole = detection_table(fitted, inside, cases(5, 1)).iloc[0]
    known = ["detector", "n_in", "n_empty_in", "specificity", "tn", "fp", "threshold"]
    assert own[known].tolist() == whole[known].tolist()
    assert (own.n_out, own.n_empty_out) == (0, 0)
    assert own[["auc", "lo", "hi", "accuracy", "sensitivity", "tp", "fn"]].isna().all()


def test_rivals_are_compared_on_the_same_cases(fitted):
    inside, outside = cases(12, 0), cases(14, 0.2)
    outside["intensities"] = np.linspace(0, 0.5, 14)
    comparison = compare_detectors(fitted, inside, outside, {"atrium": 0.8}).set_index("rival")
    assert list(comparison.index) == list(CONTROLS)
    pairs = [(inside[name], outside[name]) for name in ("spectral", "intensities")]
    expected = auc_difference(*pairs)
    row = comparison.loc["intensities"]
    assert (row.difference, row.lo, row.hi) == expected
    assert comparison.verdict.to_dict() == dict.fromkeys(CONTROLS, "undecided") | {
        "intensities": "better" if expected[1] > 0 else "undecided"
    }
    few = compare_detectors(fitted, cases(9, 0), outside, {"atrium": 0.8})
    assert few.verdict.str.startswith("no conclusion: 9 test cases").all()
    poor = compare_detectors(fitted, inside, outside, {"atrium": 0.3})
    assert poor.verdict.str.startswith("no conclusion: mean Dice 0.30 (atrium)").all()


def test_several_images_of_a_patient_say_no_more_than_one():
    rng = np.random.default_rng(0)
    kinds = ("uncertainty", "voxel_count", "segment_entropy")
    train, inside, outside = (
        {kind: rng.normal(moved, 1, n) for kind in kinds} | {"patient": np.arange(n) + first}
        for n, moved, first in ((30, 5, 0), (20, 5, 30), (20, 6, 40))  # ten have images of both
    )
    fitted = fit_detectors(train)
    thrice = [{key: np.repeat(of[key], 3) for key in of} for of in (inside, outside)]
    table, repeated = (detection_table(fitted, *of) for of in ((inside, outside), thrice))
    assert repeated.n_patients_in.tolist() == [20] * 3 and repeated.n_in.tolist() == [60] * 3
    columns = ["auc", "lo", "hi", "n_patients_out", "accuracy"]
    np.testing.assert_allclose(repeated[columns], table[columns], rtol=1e-9)
    scores = [[of[kind] for of in (inside, outside)] for kind in kinds[:2]]
    patients = [of["patient"] for of in (inside, outside)]
    again = [[np.repeat(of, 3) for of in pair] for pair in (*scores, patients)]
    expected = auc_difference(*scores, patients=patients)
    np.testing.assert_allclose(auc_difference(*again[:2], patients=again[2]), expected, rtol=1e-9)
    assert np.ptp(auc_difference(*again[:2])[1:]) < 0.8 * np.ptp(expected[1:])  # as many people


def test_a_perfect_auc_that_a_control_reaches_too_is_no_merit(fitted):
    def judged(inside, outside, dice):
        comparison = compare_detectors(fitted, inside, outside, dice)
        return spectral_verdict(True, detection_table(fitted, inside, outside), comparison, dice)

    inside, outside = cases(12, 0), cases(14, 1)
    assert judged(inside, outside, {"atrium": 0.8}) == "no conclusion: " + "; ".join(
        f"{title} may do as well" for title in CONTROLS.values()
    )
    for name in CONTROLS:
        outside[name] = np.linspace(0, 0.5, 14)  # the controls guess
    assert judged(inside, outside, {"atrium": 0.8}) == "seen"
    assert judged(inside, outside, {"atrium": 0.31}) == (
        "no conclusion: mean Dice 0.31 (atrium), at least 0.5 needed"
    )


def test_a_detector_with_too_few_training_images_is_absent():
    pooled = np.random.default_rng(0).normal(size=(4, 4))
    described = {"mahalanobis": pooled, "voxel_count": [900, 1000, 1100, 950], "set": list("aaab")}
    assert list(fit_detectors(described)) == ["voxel_count"]
    one_set = described | {"set": ["a"] * 4}
    assert set(fit_detectors(one_set)) == {"voxel_count", "mahalanobis"}
    assert list(fit_detectors(one_set | {"mahalanobis": np.ones((4, 4))})) == ["voxel_count"]
    with pytest.raises(ValueError, match=r"expected \(R, r\) with R >= 2"):
        fit_detectors({"voxel_count": [900]})
    with pytest.raises(ValueError, match="features: found 16 NaN"):
        fit_detectors(one_set | {"mahalanobis": np.full((4, 4), np.nan)})


def test_a_table_of_no_known_case_is_refused():
    fitted = fit_detectors({"uncertainty": [0.1, 0.2, 0.3]})
    with pytest.raises(ValueError, match="inside: found no case, expected at least one"):
        detection_table(fitted, {"uncertainty": []})
