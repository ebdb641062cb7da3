"""What docstrings quote is what the benchmark measured, and what it measured is good enough."""

import importlib.util
import re

import numpy as np
import pandas as pd
import pytest

from segcal_lite import detection as detection_statistics
from segcal_lite import statistics
from segcal_lite.report import review
from segcal_lite.runs.folders import project_root

KEYS = ["statistic", "data", "sizes", "method"]


@pytest.fixture(scope="module")
def coverage():
    table = pd.read_csv(project_root() / "results" / "coverage.csv")
    return table.assign(sizes=table.sizes.astype(str)).set_index(KEYS)


def _quoted(coverage, statistic, data, method="package", column="coverage_percent", digits=0):
    """As docstrings have it: for 5, 10, 20 and 50 patients."""
    numbers = [coverage.loc[(statistic, data, n, method), column] for n in ("5", "10", "20", "50")]
    return " / ".join(f"{number:.{digits}f}" for number in numbers) + " %"


def _range(coverage, statistic):
    numbers = coverage.xs((statistic, "package"), level=("statistic", "method")).coverage_percent
    return f"{numbers.min():.0f} to {numbers.max():.0f} %"


def _text(function):
    return re.sub(r"\s+", " ", function.__doc__)


def test_docstrings_quote_what_was_measured(coverage):
    for data, words in (
        ("normal", "normal"),
        ("lognormal", "lognormal"),
        ("Dice near 1", "Dice near 1"),
        ("tied differences", "differences of which 60 % are zero"),
    ):
        found = _quoted(coverage, "mean", data)
        assert f"{words} {found}" in _text(statistics.mean_interval)
    for data in ("normal", "lognormal"):
        found = _quoted(coverage, "members x patients", data)
        assert f"six members by patients, {data} {found}" in _text(statistics.mean_interval)
        found = _quoted(coverage, "mean", data, "percentile, n = 100 (A)")
        assert f"{data} {found}" in _text(statistics.percentile_interval)
    for data in ("normal", "lognormal", "tied differences"):
        found = _quoted(coverage, "mean", data, column="p_below_0.01_percent", digits=1)
        words = {"tied differences": "60 % zeros"}.get(data, data)
        assert f"{words} {found}" in _text(statistics.paired_p_value)
    for statistic, data, words in (
        ("ratio of sums", "voxels", "ratio of sums"),
        ("Pearson by patient", "r = -0.8", "Pearson's r of -0.8 over three segments a patient"),
    ):
        found = _quoted(coverage, statistic, data)
        assert f"{words} {found}" in _text(statistics.bootstrap_statistic)


def test_docstrings_of_detection_quote_what_was_measured(coverage):
    found = _range(coverage, "AUC")
    assert f"{found} of simulated studies" in _text(detection_statistics.auc_interval)
    found = _range(coverage, "AUC of unequal sizes")
    words = f"Of 5 and 50, or 50 and 5, it holds it in {found} of them: too rarely"
    assert words in _text(detection_statistics.auc_interval)
    measured = coverage.loc[["AUC", "AUC of unequal sizes"]].index
    for sizes in measured.unique("sizes"):  # an interval says of which it is known
        assert sizes in _text(detection_statistics.auc_interval)
    found = _range(coverage, "AUC by patient")
    assert f"holds it in {found} of studies" in _text(detection_statistics.auc_interval)
    found = _range(coverage, "AUC difference")
    assert f"{found} of simulated studies" in _text(detection_statistics.auc_difference)
    found = _range(coverage, "AUC difference by patient")
    assert f"holds it in {found} of studies" in _text(detection_statistics.auc_difference)
    for data, words in (("r = 0.0", "independent"), ("r = 0.9", "correlation 0.9")):
        found = _quoted(coverage, "Spearman", data)
        assert f"{words} {found}" in _text(detection_statistics.spearman_interval)


def test_docstrings_of_review_quote_what_was_measured(coverage):
    for data, words in (
        ("correlation 0.0", "scores without meaning"),
        ("correlation 0.8", "scores that correlate by 0.8 with logit risk"),
    ):
        found = _quoted(coverage, "AURC - random", data)
        assert f"{words} {found}" in _text(review.order_of_review)
    for data, words in (("1 a patient", "one scan"), ("3 a patient", "three scans")):
        found = _quoted(coverage, "expected Dice", data)
        assert f"{words} a patient {found}" in _text(review.expected_dice)


def test_the_targets_are_met(coverage):
    package = coverage.xs("package", level="method")
    for n in ("10", "20", "50"):
        for statistic in ("mean", "members x patients"):
            assert package.loc[(statistic, "normal", n), "coverage_percent"] >= 93
        assert package.loc[("mean", "lognormal", n), "coverage_percent"] >= 90
        assert package.loc[("members x patients", "lognormal", n), "coverage_percent"] >= 90
        assert package.loc[("ratio of sums", "voxels", n), "coverage_percent"] >= 92
        assert package.loc[("mean", "normal", n), "p_below_0.01_percent"] <= 1.5
    assert package.loc[["AURC - random", "expected Dice"]].coverage_percent.min() >= 93
    detection = package.loc[["AUC", "AUC difference", "AUC difference by patient", "Spearman"]]
    assert detection.coverage_percent.min() >= 92
    assert (package.n_repetitions >= 1000).all()


def test_the_benchmark_still_measures_what_is_kept(tmp_path, coverage):
    path = project_root() / "tests" / "benchmarks" / "bench_coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    benchmark.main(n_repetitions=2, path=tmp_path / "coverage.csv")
    found = pd.read_csv(tmp_path / "coverage.csv")
    found = found.assign(sizes=found.sizes.astype(str)).set_index(KEYS)
    assert found.index.tolist() == coverage.index.tolist()
    assert list(found.columns) == list(coverage.columns)
    assert np.isfinite(found.median_width).all()
