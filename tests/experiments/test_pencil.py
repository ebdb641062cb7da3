"""Bounds on printed tables: the papers' misprints are found, and nothing that a network gives."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score

from segcal_lite import calibration
from segcal_lite.detection import auc, detection_counts
from segcal_lite.experiments.claims.pencil import BRIER_PER_NLL, check_table, repeated_rows
from segcal_lite.runs.folders import project_root
from segcal_lite.runs.tables import read_table

ACCURACY = "accuracy between sensitivity and specificity (test sets of one class ratio)"
AUC = "AUC within the rectangles of sensitivity and specificity (one test set)"
PAPERS = {
    "mehrtash_table2_boxes_and_dice": ["task", "loss", "method"],
    "mehrtash_s1_whole_volume": ["task", "loss", "method"],
    "mehrtash_s3_3d_prostate": ["loss", "method"],
    "karimi_table2_joint_vs_dedicated": ["training", "dataset"],
    "karimi_table3_transfer_vs_joint": ["training_sequence", "test_dataset"],
    "karimi_tables456_ood": ["experiment", "method"],
}


def printed(name):
    return read_table(project_root() / "results" / "papers" / f"{name}.csv")


def broken(table, labels):
    found = check_table(table, labels)
    return found[~found.holds][["row", "bound"]].values.tolist()


def test_the_papers_break_three_bounds():
    found = {name: broken(printed(name), labels) for name, labels in PAPERS.items()}
    impossible = [["heart, Dice, mc_dropout", "Brier <= 0.815 NLL"]]
    assert {name: rows for name, rows in found.items() if rows} == {
        "mehrtash_table2_boxes_and_dice": impossible,
        "mehrtash_s1_whole_volume": impossible,
        "karimi_tables456_ood": [["liver DUAL vs SPIR, uncertainty", ACCURACY]],
    }


def test_the_papers_repeat_two_rows():
    labels = PAPERS["mehrtash_table2_boxes_and_dice"]
    table = printed("mehrtash_table2_boxes_and_dice")
    calibration = [name for name in table if name.startswith(("nll", "brier", "ece"))]
    pairs = repeated_rows(table[labels + calibration], labels)
    assert pairs == [
        (f"brain, Dice, {method}", f"heart, Dice, {method}") for method in ("baseline", "ensemble")
    ]


def test_an_empty_cell_equals_an_empty_cell():
    table = pd.DataFrame({"task": list("xyz"), "a": 0.62, "b": 0.23, "c": 13.2})
    again = repeated_rows(table.assign(d=[np.nan, np.nan, 1.0]), ["task"])
    assert again == [("x", "y")]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.floats(0.05, 8))
def test_what_probabilities_give_breaks_no_bound(seed, n_classes, sharpness):
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(n_classes, 200))
    probs = np.exp(logits) / np.exp(logits).sum(axis=0)
    given = rng.integers(0, n_classes, 200), probs
    row = {"nll": calibration.nll(*given), "brier": calibration.brier_score(*given)}
    row |= {"ece": calibration.expected_calibration_error(*given)}
    row |= {"mce": calibration.maximum_calibration_error(*given)}
    assert broken(pd.DataFrame([row | {"of": "one"}]).round(2), ["of"]) == []
    assert broken(pd.DataFrame([row | {"of": "one"}]), ["of"]) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(-2, 3), st.floats(-2, 2))
def test_what_a_detector_gives_breaks_no_bound(seed, moved, threshold):
    rng = np.random.default_rng(seed)
    is_ood = np.repeat([False, True], 30)
    scores = rng.normal(size=60) + moved * is_ood
    tn, fp, fn, tp = confusion_matrix(is_ood, scores > threshold).ravel()
    row = {"accuracy": (tp + tn) / 60, "sensitivity": tp / 30, "specificity": tn / 30}
    row |= {"auc": roc_auc_score(is_ood, scores), "of": "one"}
    assert broken(pd.DataFrame([row]), ["of"]) == []


def of_detectors(*pairs):
    """The means of what detectors give that flag scores above 0, and which bound they break."""
    found = [(*detection_counts(*pair, 0)[:3], auc(*pair)) for pair in pairs]
    columns = ["accuracy", "sensitivity", "specificity", "auc"]
    table = pd.DataFrame([np.mean(found, axis=0)], columns=columns)
    return [bound for _, bound in broken(table.assign(of="one"), ["of"])]


def test_means_over_test_sets_keep_the_bounds_of_detectors_only_as_they_say():
    ones = np.ones
    all_flagged, none_flagged = (ones(2), ones(18)), (-ones(18), -ones(2))
    assert of_detectors(all_flagged, none_flagged) == [ACCURACY]
    strict = np.r_[-ones(11), 3 * ones(9)], ones(20)  # and one of the same class ratio:
    lax = -ones(20), np.r_[ones(11), -3 * ones(9)]
    assert of_detectors(strict, lax) == [AUC]
    for alone in (all_flagged, none_flagged, strict, lax):
        assert of_detectors(alone) == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9), st.floats(0, 1)
)
def test_means_over_test_sets_of_one_class_ratio_keep_the_bound_of_accuracy(rates, share):
    sensitivity, specificity = np.transpose(rates)
    accuracy = share * sensitivity + (1 - share) * specificity
    means = {"accuracy": accuracy.mean(), "sensitivity": sensitivity.mean()}
    table = pd.DataFrame([means | {"specificity": specificity.mean(), "of": "one"}])
    assert broken(table, ["of"]) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_what_overlaps_give_breaks_no_bound(dice):
    dice = np.array(dice)
    row = {"dice": dice.mean(), "iou": (dice / (2 - dice)).mean(), "of": "one"}
    assert broken(pd.DataFrame([row]), ["of"]) == []


@pytest.mark.parametrize(
    ("row", "bound"),
    [
        ({"ece": 0.51, "brier": 0.25}, "ECE^2 <= Brier"),
        ({"ece": 0.21, "mce": 0.19}, "ECE <= MCE"),
        ({"iou": 0.84, "dice": 0.82}, "IoU between Dice / (2 - Dice) and Dice"),
        ({"iou": 0.50, "dice": 0.82}, "IoU between Dice / (2 - Dice) and Dice"),
        ({"dsc": 1.02}, "dice in [0, 1]"),
        ({"nll": -0.1}, "nll in [0, inf]"),
        ({"ece_percent": 101.0}, "ece in [0, 1]"),
        (
            {"auc": 0.70, "sensitivity": 0.91, "specificity": 0.92},
            AUC,
        ),
        (
            {"auc": 0.98, "sensitivity": 0.61, "specificity": 0.72},
            AUC,
        ),
        (
            {"accuracy": 0.95, "sensitivity": 0.91, "specificity": 0.82},
            ACCURACY,
        ),
        (
            {"accuracy": 0.75, "sensitivity": 0.91, "specificity": 0.82},
            ACCURACY,
        ),
    ],
)
def test_each_bound_can_be_broken(row, bound):
    assert broken(pd.DataFrame([row | {"of": "one"}]), ["of"]) == [["one", bound]]


def test_what_rounds_to_the_bound_keeps_it():
    row = {"nll": 0.10, "brier": 0.09, "of": "one"}  # 0.0855 <= 0.815 * 0.105, 0.09 > 0.815 * 0.10
    assert broken(pd.DataFrame([row]), ["of"]) == []
    assert broken(pd.DataFrame([row | {"nll": 0.101}]), ["of"]) != []  # three digits say more


@pytest.mark.parametrize("row", [(100, 90, 80), (100.0, 90.0, 80.0)])
def test_digits_are_those_of_the_printed_per_cent(row):
    names = ["accuracy_percent", "sensitivity_percent", "specificity_percent"]
    table = pd.DataFrame([row], columns=names)
    assert broken(table.assign(of="one"), ["of"]) == [["one", ACCURACY]]
    table = pd.DataFrame({"of": ["one"], "ece_percent": [20], "mce_percent": [10]})
    assert broken(table, ["of"]) == [["one", "ECE <= MCE"]]
    assert broken(table.assign(mce_percent=19), ["of"]) == []  # 19.5 and 19.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "Float32", "Float64"])
def test_digits_are_those_of_a_column_in_its_own_precision(dtype):
    columns = {"nll": [0.41, np.nan], "brier": [0.335, 0.1]}  # Brier by half of a digit too large
    table = pd.DataFrame({name: pd.Series(of, dtype=dtype) for name, of in columns.items()})
    assert broken(table.assign(of=["a", "b"]), ["of"]) == []
    assert broken(table.assign(of=["a", "b"], nll=[0.401, 1.0]), ["of"]) == [
        ["a", "Brier <= 0.815 NLL"]
    ]


@pytest.mark.parametrize("again", [{"dsc": 0.5}, {"dice_percent": 50.0}, {"dsc_percent": 50.0}])
def test_two_columns_of_one_score_are_refused(again):
    table = pd.DataFrame([{"of": "one", "dice": 1.5} | again])
    with pytest.raises(ValueError, match=f"table: found a second column of dice, {[*again][0]}, "):
        check_table(table, ["of"])


def test_an_empty_cell_is_no_number():
    table = pd.DataFrame({"of": ["a", "b"], "nll": [np.nan, 0.2], "brier": [0.9, 0.1]})
    found = check_table(table, ["of"])
    assert found[found.bound == "Brier <= 0.815 NLL"].row.tolist() == ["b"]


def test_the_factor_is_the_largest_ratio():
    p = np.linspace(1e-3, 1 - 1e-3, 100_001)
    largest = (2 * (1 - p) ** 2 / -np.log(p)).max()
    assert largest < BRIER_PER_NLL < largest + 1e-4


@pytest.mark.parametrize(
    ("table", "labels", "said"),
    [
        ({"of": ["a"], "nll": [0.1]}, ["by"], "labels: found by, expected columns: of, nll"),
        ({"of": ["a"], "loss": [0.1]}, ["of"], "table: found columns of, loss, expected one of"),
        ({"of": ["a"], "nll": ["0.1 (0.0)"]}, ["of"], "column nll: found text, expected numbers"),
    ],
)
def test_another_table_is_refused(table, labels, said):
    with pytest.raises(ValueError, match=said):
        check_table(pd.DataFrame(table), labels)


@pytest.mark.parametrize("columns", [{"of": [], "nll": []}, {"of": [], "loss": []}, {}])
def test_a_table_without_a_row_is_told_so(columns):
    for work in (check_table, repeated_rows):
        with pytest.raises(ValueError, match="^table: found no row, expected at least one"):
            work(pd.DataFrame(columns), ["of"])


def test_rows_that_repeat_need_their_labels():
    with pytest.raises(ValueError, match="^labels: found by, expected columns: of, nll"):
        repeated_rows(pd.DataFrame({"of": ["a"], "nll": [0.1]}), ["by"])
