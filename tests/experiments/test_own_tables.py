"""Tables of your own model from hand-made scores."""

import numpy as np
import pandas as pd
import pytest

from segcal_lite import statistics
from segcal_lite.experiments.own_model.tables import (
    aurc,
    differences,
    entropy_and_dice,
    entropy_fit,
    own_tables,
    risk_coverage,
    risks_and_doubts,
    summary,
)
from segcal_lite.report.review import area_under_risk_coverage, fit_dice

COLUMNS = ["case", "patient", "method", "member", "n_members", "region", "segment", "metric"]
N = 12
RNG = np.random.default_rng(0)
ENTROPIES = RNG.uniform(0.1, 0.4, N)
DICE = 1 - 1.5 * ENTROPIES + 0.02 * RNG.normal(size=N)
NLL = RNG.uniform(0.2, 0.4, N)


def row(case, method, metric, value, segment=None, member=0, region="whole", patient=None):
    n_members = 2 if method == "ensemble" else 1
    key = case, patient or f"p{case}", method, member, n_members, region, segment, metric
    return dict(zip(COLUMNS, key, strict=True)) | {"value": value}


def scores_of(n=N, n_members=2, patients=None):
    """Two members, their ensemble and its corrections, of one segment."""
    rows, whole = [], "ensemble" if n_members > 1 else "baseline"
    for i in range(n):
        case, patient = f"{i:02d}", patients[i] if patients else None
        new = []
        for member in range(n_members):
            new.append(row(case, "baseline", "nll", NLL[i] + 0.1 + member / 10, member=member))
            new.append(row(case, "baseline", "dice", DICE[i] - 0.1, "organ", member))
        if n_members > 1:
            new.append(row(case, "ensemble", "nll", NLL[i]))
            new.append(row(case, "ensemble", "dice", DICE[i], "organ"))
            new.append(row(case, "ensemble", "pairwise_dice", DICE[i] - 0.05, "organ"))
        new.append(row(case, whole, "segment_entropy", ENTROPIES[i], "organ"))
        new.append(row(case, whole, "uncertainty", 0.3 - ENTROPIES[i] / 2))
        new.append(row(case, whole, "n_true", 100, "organ"))
        new.append(row(case, "temperature", "nll", NLL[i] - 0.05))
        new.append(row(case, "temperature", "dice", DICE[i], "organ"))
        new.append(row(case, "vector_scaling", "nll", NLL[i] + 0.05 * (-1) ** i))
        rows += [one | {"patient": patient or one["patient"]} for one in new]
    return pd.DataFrame(rows)


def one_row(table, **wanted):
    found = table
    for name, value in wanted.items():
        found = found[found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


# summary


def test_a_summary_has_both_intervals_of_each_group():
    found = summary(scores_of())
    of_mean = one_row(found, method="ensemble", metric="nll", interval="mean")
    assert of_mean["mean"] == pytest.approx(NLL.mean()) and of_mean.segment == ""
    expected = statistics.mean_interval(NLL, bounds=(0, np.inf))
    assert tuple(of_mean[["mean", "lo", "hi"]]) == pytest.approx(expected)
    assert of_mean.n_cases == N
    of_members = one_row(found, method="baseline", metric="nll", interval="cases")
    assert of_members["mean"] == pytest.approx(NLL.mean() + 0.15)
    assert not found.metric.str.startswith("n_").any()
    assert list(found.columns) == [
        *["method", "region", "segment", "metric"],
        *["mean", "lo", "hi", "interval", "n_cases", "n_missing"],
    ]


def test_scans_of_one_patient_are_averaged():
    patients = [f"p{i // 3}" for i in range(N)]
    found = summary(scores_of(patients=patients))
    of_mean = one_row(found, method="ensemble", metric="nll", interval="mean")
    by_patient = NLL.reshape(-1, 3).mean(axis=1)
    assert of_mean.n_cases == 4 and of_mean["mean"] == pytest.approx(by_patient.mean())
    assert np.isnan(of_mean.lo)


def test_what_is_missing_is_counted():
    scores = scores_of()
    is_first = (scores.case == "00") & (scores.metric == "segment_entropy")
    scores.loc[is_first, "value"] = np.nan
    found = one_row(summary(scores), metric="segment_entropy", interval="mean")
    assert (found.n_cases, found.n_missing) == (N - 1, 1)
    assert found["mean"] == pytest.approx(ENTROPIES[1:].mean())


# differences


def test_differences_are_paired_over_patients():
    found = differences(scores_of())
    pairs = list(zip(found.method, found.against, found.metric, strict=True))
    assert pairs == [
        *[("ensemble", "baseline", "nll"), ("ensemble", "baseline", "dice")],
        *[("temperature", "ensemble", "nll"), ("vector_scaling", "ensemble", "nll")],
        ("vector_scaling", "temperature", "nll"),
    ]
    of_ensemble = found.iloc[0]
    assert of_ensemble.difference == pytest.approx(-0.15)
    assert of_ensemble.verdict == "better" and of_ensemble.why == ""
    assert found.iloc[1].difference == pytest.approx(0.1) and found.iloc[1].verdict == "better"
    assert found.iloc[2].verdict == "better" and found.iloc[2].p < 0.01
    of_vector = found.iloc[3]
    interval = statistics.paired_interval(0.05 * (-1.0) ** np.arange(N), np.zeros(N))
    assert of_vector.verdict == "undecided" and of_vector.lo < 0 < of_vector.hi
    assert (of_vector.difference, of_vector.lo, of_vector.hi) == pytest.approx(interval, abs=1e-9)


def test_without_several_members_the_one_is_corrected():
    found = differences(scores_of(n_members=1))
    assert found.against.tolist() == ["baseline", "baseline", "temperature"]
    assert found.method.tolist() == ["temperature", "vector_scaling", "vector_scaling"]
    assert found.difference[0] == pytest.approx(-0.15)


def test_vector_scaling_stands_against_the_temperature_in_calibration_alone():
    scores = scores_of()
    dice = scores[(scores.method == "temperature") & (scores.metric == "dice")]
    both = pd.concat([scores, dice.assign(method="vector_scaling")], ignore_index=True)
    found = differences(both)
    rival = one_row(found, method="vector_scaling", against="temperature")
    signs = (-1.0) ** np.arange(N)
    interval = statistics.paired_interval(0.05 * signs + 0.05, np.zeros(N))
    assert rival.metric == "nll"
    assert (rival.difference, rival.lo, rival.hi) == pytest.approx(interval, abs=1e-9)
    for one in ("temperature", "vector_scaling"):
        assert "temperature" not in set(differences(both[both.method != one]).against)


@pytest.mark.parametrize("n_members", [1, 2])
def test_a_model_that_segments_poorly_allows_no_difference_but_an_order(n_members):
    scores = scores_of(n_members=n_members)
    of_whole = scores.method == ("ensemble" if n_members > 1 else "baseline")
    scores.loc[of_whole & (scores.metric == "dice"), "value"] -= 0.3
    mean = scores[of_whole & (scores.metric == "dice")].value.mean()
    found = differences(scores)
    assert len(found) > 2 and (found.verdict == "no conclusion").all()
    assert set(found.why) == {f"mean Dice {mean:.2f} (organ), at least 0.5 needed"}
    orders = aurc(risks_and_doubts(scores)).set_index("score")
    assert orders.verdict["segment_entropy"] == "better"


def test_the_dice_that_allows_a_difference_is_of_labels_that_hold_the_segment():
    extra = []
    for i in range(N):  # a lesion in half of the labels, and found there; elsewhere invented
        is_there, case = i % 2, f"{i:02d}"
        extra.append(row(case, "ensemble", "dice", 0.8 * is_there, "lesion"))
        extra.append(row(case, "ensemble", "n_true", 9 * is_there, "lesion"))
        extra.append(row(case, "baseline", "dice", 0.7 * is_there, "lesion"))
    found = differences(pd.concat([scores_of(), pd.DataFrame(extra)], ignore_index=True))
    assert one_row(found, method="temperature").verdict == "better"
    of_lesion = one_row(found, segment="lesion")
    assert (of_lesion.n_cases, of_lesion.difference) == (N / 2, pytest.approx(0.1))


def test_a_segment_that_no_label_holds_allows_no_difference():
    extra = [row(f"{i:02d}", "ensemble", "dice", 0.0, "never") for i in range(N)]
    extra += [row(f"{i:02d}", "ensemble", "n_true", 0, "never") for i in range(N)]
    found = differences(pd.concat([scores_of(), pd.DataFrame(extra)], ignore_index=True))
    said = one_row(found, method="temperature")
    assert (said.verdict, said.why) == ("no conclusion", "no label holds never")


def test_the_seed_moves_every_interval_and_no_number():
    scores = scores_of()
    scores.loc[scores.metric == "nll", "value"] *= np.resize(
        [1, 1.1, 1.3], sum(scores.metric == "nll")
    )
    tables = [own_tables(scores, **seed) for seed in ({}, {"seed": 0}, {"seed": 1})]
    for name in ("summary", "differences", "entropy_fit", "aurc"):
        default, first, second = (table[name] for table in tables)
        pd.testing.assert_frame_equal(default, first)
        ends = ["lo", "hi"]
        rest = first.columns.difference([*ends, "p"])
        pd.testing.assert_frame_equal(first[rest], second[rest])
        assert not first[ends].equals(second[ends]), name


def test_worse_is_told():
    scores = scores_of()
    scores.loc[(scores.method == "temperature"), "value"] += 1
    assert one_row(differences(scores), method="temperature").verdict == "worse"


@pytest.mark.parametrize(("n", "why"), [(4, "4 patients"), (9, "9 patients")])
def test_too_few_patients_allow_no_conclusion(n, why):
    found = differences(scores_of(n))
    assert (found.verdict == "no conclusion").all() and found.why.str.startswith(why).all()
    assert (found.n_cases == n).all()
    assert found.p.isna().all() == (n < 5)


def test_without_anything_to_compare_there_is_no_difference():
    scores = scores_of(n_members=1)
    found = differences(scores[scores.method == "baseline"])
    assert found.empty and list(found.columns[:2]) == ["method", "against"]


# entropy and Dice


def test_pairs_are_of_the_ensemble_and_the_fit_is_that_of_review():
    pairs = entropy_and_dice(scores_of())
    assert list(pairs.columns) == ["case", "patient", "segment", "segment_entropy", "dice"]
    assert pairs.dice.tolist() == pytest.approx(DICE.tolist())
    fit, line = entropy_fit(pairs).iloc[0], fit_dice(ENTROPIES, DICE)
    assert (fit.slope, fit.intercept, fit.error) == pytest.approx(
        (line.slope, line.intercept, line.error)
    )
    assert fit.lo < fit.r < fit.hi < 0 and (fit.n, fit.n_missing, fit.n_patients) == (N, 0, N)


def test_hard_labels_have_no_entropy():
    scores = scores_of()
    scores = scores[scores.metric.isin(["dice", "n_true"])]
    pairs = entropy_and_dice(scores)
    assert pairs.segment_entropy.isna().all()
    fit = entropy_fit(pairs).iloc[0]
    assert np.isnan(fit.slope) and fit.n_missing == N
    assert list(risks_and_doubts(scores).columns) == ["patient", "risk"]
    assert aurc(risks_and_doubts(scores)).empty


# orders of review


def test_orders_are_judged_by_the_dice_of_present_segments():
    doubts = risks_and_doubts(scores_of())
    assert doubts.risk.tolist() == pytest.approx((1 - DICE).tolist())
    assert list(doubts.columns) == [
        *["patient", "risk", "segment_entropy", "uncertainty", "disagreement"]
    ]
    assert doubts.disagreement.tolist() == pytest.approx((1.05 - DICE).tolist())
    found = aurc(doubts).set_index("score")
    assert found.verdict.to_dict() == {
        "segment_entropy": "better",
        "uncertainty": "worse",
        "disagreement": "better",
    }
    expected = area_under_risk_coverage(1 - DICE, ENTROPIES)
    assert found.aurc.segment_entropy == pytest.approx(expected)
    assert found.aurc.disagreement == pytest.approx(found.oracle.disagreement)
    assert (found.n_cases == N).all()


def test_an_absent_segment_has_no_risk():
    scores = scores_of()
    extra = [row("00", "ensemble", "dice", 1.0, "lesion"), row("00", "ensemble", "n_true", 0)]
    extra[1]["segment"] = "lesion"
    both = pd.concat([scores, pd.DataFrame(extra)], ignore_index=True)
    assert risks_and_doubts(both).risk["00"] == pytest.approx(1 - DICE[0])
    both.loc[(both.case == "00") & (both.metric == "n_true"), "value"] = 0
    assert "00" not in risks_and_doubts(both).index


def test_curves_stand_beside_the_oracle_and_random_order():
    doubts = risks_and_doubts(scores_of())
    curves = risk_coverage(doubts)
    assert curves.groupby("score").size().eq(N).all()
    random = curves[curves.score == "random"].risk
    assert random.to_numpy() == pytest.approx(doubts.risk.mean())
    means = curves.groupby("score").risk.mean()
    assert means.oracle == means.min() < means["random"] < means.uncertainty
    assert means.segment_entropy == pytest.approx(aurc(doubts).aurc[0])


def test_all_tables_come_together_and_as_from_a_file(tmp_path):
    scores = scores_of()
    tables = own_tables(scores)
    assert set(tables) == {
        *["summary", "differences", "entropy_dice", "entropy_fit", "risk_coverage", "aurc"]
    }
    as_read = own_tables(scores.assign(segment=scores.segment.where(scores.segment.notna())))
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, as_read[name])
