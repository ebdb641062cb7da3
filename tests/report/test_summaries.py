"""Summary tables and the boldface rule."""

import numpy as np
import pandas as pd
import pytest

from segcal_lite.report.summaries import mark_best, patient_means, summarise, with_patients
from segcal_lite.statistics import case_interval, mean_interval, paired_p_value

RNG = np.random.default_rng(0)
BASELINE = RNG.normal(0.80, 0.05, size=30)


def _long(values, **columns):
    return pd.DataFrame({"case": np.arange(len(values)), "value": values, **columns})


# patients


@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_patient_missing_in_a_column_of_patients_is_refused(missing):
    table = _long(BASELINE[:3], patient=["a", "a", missing])
    for work in (with_patients, lambda table: patient_means(table, [])):
        with pytest.raises(ValueError, match="table, column patient: found 1 missing, expected"):
            work(table)
    assert with_patients(table.drop(columns="patient")).patient.tolist() == [0, 1, 2]


# summarise


def test_each_group_has_both_intervals():
    table = pd.concat([_long(BASELINE, method="b"), _long(BASELINE[:20] + 0.1, method="a")])
    summary = summarise(table, by="method", seed=3)
    assert list(summary.columns) == [
        *["method", "mean", "lo", "hi", "interval", "n_cases", "n_missing"]
    ]
    assert summary["method"].tolist() == ["b", "b", "a", "a"]  # in order of appearance
    assert summary["interval"].tolist() == ["cases", "mean", "cases", "mean"]
    assert summary["n_cases"].tolist() == [30, 30, 20, 20]
    bounds = [tuple(row) for row in summary[["mean", "lo", "hi"]].to_numpy()]
    assert bounds[0] == case_interval(BASELINE)
    assert bounds[1] == mean_interval(BASELINE, seed=3)
    assert bounds[2] == case_interval(BASELINE[:20] + 0.1)


def test_missing_values_are_left_out_and_counted():
    values = np.append(BASELINE, [np.nan, np.nan])
    summary = summarise(_long(values, method="a"), by=["method"])
    assert summary["n_cases"].tolist() == [30, 30]
    assert summary["n_missing"].tolist() == [2, 2]
    assert tuple(summary.loc[1, ["mean", "lo", "hi"]]) == mean_interval(BASELINE)


def test_a_group_of_missing_values_stays_in_the_table():
    table = pd.concat([_long([np.nan] * 3, method="empty"), _long(BASELINE, method="full")])
    summary = summarise(table, by="method")
    empty = summary[summary["method"] == "empty"]
    assert empty["interval"].tolist() == ["cases", "mean"]
    assert empty[["mean", "lo", "hi"]].isna().all(axis=None)
    assert empty["n_cases"].tolist() == [0, 0]
    assert empty["n_missing"].tolist() == [3, 3]


def test_a_missing_group_name_is_a_group():
    table = _long(BASELINE, method="a", segment=[None] * 10 + ["RV"] * 20)
    summary = summarise(table, by=["method", "segment"])
    assert summary["n_cases"].tolist() == [10, 10, 20, 20]


def test_several_columns_make_a_group():
    table = pd.concat(
        [
            _long(BASELINE + shift, loss=loss, method=method)
            for loss, method, shift in [("ce", "a", 0.0), ("ce", "b", 1.0), ("dice", "a", 2.0)]
        ]
    )
    summary = summarise(table, by=["loss", "method"]).query("interval == 'mean'")
    assert summary[["loss", "method"]].to_numpy().tolist() == [
        ["ce", "a"],
        ["ce", "b"],
        ["dice", "a"],
    ]
    assert (summary["mean"] - BASELINE.mean()).tolist() == pytest.approx([0, 1, 2])


def test_members_are_averaged_for_cases_and_resampled_for_the_mean():
    members = np.stack([BASELINE, BASELINE + 0.1, BASELINE**2])
    table = pd.concat([_long(values, seed=m, method="a") for m, values in enumerate(members)])
    shuffled = table.sample(frac=1, random_state=1)
    summary = summarise(shuffled, by="method", member="seed", n_resamples=2000)
    bounds = [tuple(row) for row in summary[["mean", "lo", "hi"]].to_numpy()]
    assert bounds[0] == pytest.approx(case_interval(members.mean(axis=0)), rel=1e-12)
    assert bounds[1] == pytest.approx(mean_interval(members, n_resamples=2000), rel=1e-12)
    assert summary["n_cases"].tolist() == [30, 30]


def test_a_case_that_one_member_lacks_is_missing():
    table = pd.concat([_long(BASELINE, seed=m, method="a") for m in range(2)], ignore_index=True)
    table.loc[4, "value"] = np.nan  # member 0
    without_a_row = table.drop(index=30 + 7)  # member 1
    summary = summarise(without_a_row, by="method", member="seed")
    assert summary["n_cases"].tolist() == [28, 28]
    assert summary["n_missing"].tolist() == [2, 2]
    assert summary["mean"][0] == pytest.approx(np.delete(BASELINE, [4, 7]).mean())


def test_one_case():
    summary = summarise(_long([0.5], method="a"), by="method")
    assert summary.loc[0, ["mean", "lo", "hi"]].tolist() == [0.5, 0.5, 0.5]
    assert summary.loc[1, "mean"] == 0.5
    assert summary.loc[1, ["lo", "hi"]].isna().all()


def test_four_cases_have_no_interval_of_the_mean():
    summary = summarise(_long(BASELINE[:4], method="a"), by="method")
    assert np.isfinite(summary.loc[0, ["mean", "lo", "hi"]].tolist()).all()
    assert summary.loc[1, "mean"] == BASELINE[:4].mean()
    assert summary.loc[1, ["lo", "hi"]].isna().all()


def test_a_known_metric_keeps_its_bounds():
    good = np.array([0.99, 0.98, 0.97, 0.99, 0.8, 0.98])
    assert mean_interval(good)[2] > 1
    table = pd.concat([_long(values, metric=name) for name, values in _metric_values(good).items()])
    summary = summarise(table, by=["metric"]).query("interval == 'mean'").set_index("metric")
    assert summary.hi["dice"] == 1
    assert summary.lo["ece"] == summary.lo["nll"] == summary.lo["hd95_mm"] == 0
    assert summary.hi["another"] == mean_interval(good)[2]
    with pytest.raises(ValueError, match="^values: found values from 80 to 99, expected .* 0 to 1"):
        summarise(_long(100 * good, metric="dice"), by="metric")


def _metric_values(good):
    bad = 1 - good
    return {"dice": good, "another": good, "ece": bad, "nll": 3 * bad, "hd95_mm": 50 * bad}


def test_other_column_names():
    table = _long(BASELINE, method="a").rename(columns={"case": "patient", "value": "dice"})
    summary = summarise(table, by="method", value="dice", case="patient", level=0.5)
    assert tuple(summary.loc[0, ["mean", "lo", "hi"]]) == case_interval(BASELINE, level=0.5)


def test_an_empty_table_gives_an_empty_summary():
    summary = summarise(_long([], method=[]), by="method")
    assert len(summary) == 0
    assert "n_missing" in summary.columns


def test_summarise_refuses_what_it_cannot_count():
    table = _long(BASELINE, method="a")
    with pytest.raises(ValueError, match="^table: found 30 repeated rows, expected one row for"):
        summarise(pd.concat([table, table]), by="method")
    with pytest.raises(ValueError, match="^table: found no column 'loss', expected columns"):
        summarise(table, by=["method", "loss"])
    with pytest.raises(ValueError, match="^table: found no column 'dice'"):
        summarise(table, by="method", value="dice")
    with pytest.raises(ValueError, match="^by: found .*, expected at least one column"):
        summarise(table, by=[])
    with pytest.raises(ValueError, match="^values: found 1 NaN or infinite"):
        summarise(_long([1.0, np.inf], method="a"), by="method")


# mark_best


def test_the_best_in_either_direction():
    noise = RNG.normal(0, 0.01, size=30)
    table = pd.DataFrame({"a": BASELINE, "b": BASELINE + 0.1 + noise, "c": BASELINE + 0.2})
    highest = mark_best(table, metric_higher_is_better=True)
    assert highest.method == "c"
    assert highest.is_significant is True
    assert list(highest.p_values.index) == ["a", "b"]
    assert highest.p_values["b"] == paired_p_value(table["c"], table["b"])
    lowest = mark_best(table, metric_higher_is_better=False)
    assert lowest.method == "a"
    assert lowest.is_significant is True


def test_every_other_method_must_be_beaten():
    noise = RNG.normal(0, 0.01, size=30)
    table = pd.DataFrame({"a": BASELINE, "b": BASELINE + 0.1, "c": BASELINE + 0.1 + noise})
    best = mark_best(table, metric_higher_is_better=True)
    assert best.method in ("b", "c")
    assert best.is_significant is False
    assert best.p_values["a"] < 0.01


def test_alpha_is_a_strict_bound():
    table = pd.DataFrame({"a": BASELINE, "b": BASELINE + 0.1})
    smallest = 2 / 2001
    assert not mark_best(table, True, alpha=smallest, n_resamples=2000).is_significant
    assert mark_best(table, True, alpha=smallest * 1.01, n_resamples=2000).is_significant


def test_four_cases_have_no_p_value_and_no_mark():
    best = mark_best(pd.DataFrame({"a": BASELINE[:4], "b": BASELINE[:4] + 0.5}), True)
    assert (best.method, best.is_significant) == ("b", False)
    assert np.isnan(best.p_values["a"])


def test_equal_methods_are_not_significant():
    best = mark_best(pd.DataFrame({"a": BASELINE, "b": BASELINE}), True)
    assert (best.method, best.is_significant, best.p_values["b"]) == ("a", False, 1.0)


def test_mark_best_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="^table: .* expected at least two methods"):
        mark_best(pd.DataFrame({"a": BASELINE}), True)
    with pytest.raises(ValueError, match="^table: .* each named once"):
        mark_best(pd.DataFrame(np.ones((3, 2)), columns=["a", "a"]), True)
    with pytest.raises(ValueError, match="^table: found no rows, expected at least one case"):
        mark_best(pd.DataFrame({"a": [], "b": []}), True)
    with pytest.raises(ValueError, match="^table: found 1 NaN or infinite values"):
        mark_best(pd.DataFrame({"a": [1.0, np.nan], "b": [1.0, 2.0]}), True)
