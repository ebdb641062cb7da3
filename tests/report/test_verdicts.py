import numpy as np
import pytest
from scipy.stats import beta

from segcal_lite.report import verdicts
from segcal_lite.report.verdicts import (
    collapsed_members,
    detector_verdict,
    doubts,
    false_alarms,
    no_conclusion,
    read_verdicts,
    share_interval,
    verdict,
    write_verdicts,
)


@pytest.mark.parametrize(
    "just_met, just_missed, reason",
    [
        ({"n_test": 10}, {"n_test": 9}, "9 test cases, at least 10 needed"),
        ({"n_validation": 5}, {"n_validation": 4}, "4 validation cases, at least 5 needed"),
        ({"n_validation": 5}, {"n_validation": 1}, "1 validation case, at least 5 needed"),
        ({"dice": 0.5}, {"dice": 0.49}, "mean Dice 0.49, at least 0.5 needed"),
        ({"dice": 0.5}, {"dice": np.nan}, "mean Dice nan, at least 0.5 needed"),
        ({"dice": {"rim": 0.5}}, {"dice": {"rim": np.nan}}, "no label holds rim"),
        (
            {"dice": {"liver": 0.5, "spleen": 0.9}},
            {"dice": {"liver": 0.02, "spleen": 0.9}},
            "mean Dice 0.02 (liver), at least 0.5 needed",
        ),
    ],
)
def test_each_rule_just_met_and_just_missed(just_met, just_missed, reason):
    assert doubts(**just_met) == []
    assert doubts(**just_missed) == [reason]


def test_all_reasons_stand_in_one_verdict():
    found = no_conclusion(doubts(n_test=0, n_validation=0, dice=0.1))
    assert found == (
        "no conclusion: 0 test cases, at least 10 needed; 0 validation cases, at least 5 needed; "
        "mean Dice 0.10, at least 0.5 needed"
    )


@pytest.mark.parametrize(
    "lo, hi, null, expected",
    [
        (0.1, 0.2, 0.0, "above"),
        (-0.2, -0.1, 0.0, "below"),
        (0.0, 0.2, 0.0, "undecided"),  # a bound on the null value does not exclude it
        (-0.2, 0.0, 0.0, "undecided"),
        (0.0, 0.0, 0.0, "undecided"),
        (0.4, 0.9, 0.5, "undecided"),
        (1.0, 1.0, 0.5, "above"),
    ],
)
def test_an_interval_is_read_against_the_null_value(lo, hi, null, expected):
    assert verdict(lo, hi, n_test=10, null=null) == expected
    assert verdict(lo, hi, n_test=9, null=null).startswith("no conclusion: 9 test cases")


def test_the_words_of_a_notebook_take_the_place_of_below_and_above():
    words = ("better", "worse")
    assert verdict(-2, -1, n_test=10, words=words) == "better"
    assert verdict(1, 2, n_test=10, words=words) == "worse"


def test_an_interval_that_is_absent_or_covers_everything_is_no_finding():
    assert verdict(np.nan, np.nan, n_test=10) == "no conclusion: there is no interval"
    nothing = "no conclusion: the interval from -1.00 to 0.80 excludes next to nothing"
    assert verdict(-1, 0.8, n_test=10, span=(-1, 1)) == nothing
    assert verdict(-1, 0.79, n_test=10, span=(-1, 1)) == "undecided"
    assert verdict(-1, 0.8, n_test=10) == "undecided"  # of a quantity without bounds


def test_what_was_fitted_on_few_or_says_nothing_good_of_poor_networks():
    assert verdict(1, 2, n_test=10, n_validation=4).startswith("no conclusion: 4 validation")
    assert verdict(1, 2, n_test=10, dice=0.3) == (
        "no conclusion: mean Dice 0.30, at least 0.5 needed"
    )


SEEN = {
    "is_seen": True,
    "interval": (0.95, 1.0),
    "n_in": 10,
    "n_out": 10,
    "dice": {"a": 0.5},
    "controls": {"spectral_shuffled": 1e-6},
}


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, "seen"),
        ({"is_seen": False}, "not seen"),
        ({"n_in": 9}, "no conclusion: 9 in-distribution cases, at least 10 needed"),
        ({"n_out": 9}, "no conclusion: 9 OOD cases, at least 10 needed"),
        ({"dice": {"a": 0.31, "b": 0.02}}, "no conclusion: mean Dice 0.31 (a), at least 0.5 needed"
         "; mean Dice 0.02 (b), at least 0.5 needed"),
        ({"controls": {"spectral_shuffled": 0.0}},
         "no conclusion: shuffled weights may do as well"),
        ({"controls": {"intensities": np.nan}}, "no conclusion: intensities alone may do as well"),
        ({"interval": (np.nan, np.nan)}, "no conclusion: there is no interval"),
        ({"interval": (0.0, 0.9)},
         "no conclusion: the interval from 0.00 to 0.90 excludes next to nothing"),
        ({"is_seen": False, "controls": {"intensities": -1.0}}, "not seen"),
    ],
)  # fmt: skip
def test_a_detector_must_beat_its_controls_on_enough_cases_of_sets_it_knows(change, expected):
    assert detector_verdict(**(SEEN | change)) == expected


def test_a_collapsed_member_is_named_and_a_weak_one_is_not():
    pool = {"seed 0": 0.8, "seed 1": 0.8, "seed 2": 0.4}
    assert collapsed_members(pool) == []
    pool["seed 2"] = 0.39
    assert collapsed_members(pool) == ["seed 2: Dice 0.39, median of the pool 0.80"]


def test_total_failures_have_collapsed_whatever_the_median():
    assert len(collapsed_members({"seed 0": 0.05, "seed 1": 0.05})) == 2
    assert collapsed_members({"seed 0": 0.051, "seed 1": 0.051}) == []
    assert collapsed_members({"seed 0": 0.03}) == ["seed 0: Dice 0.03, median of the pool 0.03"]
    assert collapsed_members({}) == []


@pytest.mark.parametrize("n_flagged, n_known", [(0, 12), (3, 12), (6, 12), (7, 12), (12, 12)])
def test_false_alarms_have_the_interval_of_clopper_and_pearson(n_flagged, n_known):
    lo = beta.ppf(0.025, n_flagged, n_known - n_flagged + 1) if n_flagged else 0
    hi = beta.ppf(0.975, n_flagged + 1, n_known - n_flagged) if n_flagged < n_known else 1
    text = false_alarms(n_flagged, n_known)
    assert f"(95 % interval {100 * lo:.0f} to {100 * hi:.0f} %)" in text
    assert text.endswith("does not work here") == (n_flagged > 6)


def test_few_known_images_say_nothing_good_of_a_threshold_but_something_bad():
    assert false_alarms(0, 9).endswith("no conclusion: 9 known patients, at least 10 needed")
    assert false_alarms(4, 4).endswith("the threshold does not work here")
    assert "conclusion" not in false_alarms(0, 10)
    assert false_alarms(2.5, 12).startswith(
        "2.5 of 12 known patients flagged (95 % interval 2 to 57"
    )
    wide = share_interval(2, 12)[0], share_interval(3, 12)[1]
    assert share_interval(2.5, 12) == wide
    for wrong in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="n_flagged: found"):
            false_alarms(*wrong)


def test_verdicts_of_the_notebooks_are_read_in_order_and_as_text(tmp_path):
    assert read_verdicts(tmp_path).empty
    write_verdicts(tmp_path, "03_b", {"NA": "above", "002": "no conclusion: 1 case; no interval"})
    write_verdicts(tmp_path, "02_a", {"first": "collapsed: seed 1: Dice 0.03"})
    write_verdicts(tmp_path, "02_a", {"x": "collapsed: seed 1: Dice 0.03"})  # a rerun
    assert read_verdicts(tmp_path).to_numpy().tolist() == [
        ["02_a", "x", "collapsed", "seed 1: Dice 0.03"],
        ["03_b", "NA", "above", ""],
        ["03_b", "002", "no conclusion", "1 case; no interval"],
    ]


def test_what_is_counted_can_be_patients():
    assert doubts(n_test=9, unit="patient") == ["9 patients, at least 10 needed"]
    found = verdict(-1, 1, n_test=1, unit="patient")
    assert found == "no conclusion: 1 patient, at least 10 needed"


def test_the_printed_rules_are_those_that_hold():
    for number in (verdicts.LEAST_TEST_CASES, verdicts.LEAST_VALIDATION_CASES, verdicts.POOR_DICE):
        assert f" {number}" in verdicts.RULES
