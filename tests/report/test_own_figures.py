"""Figures of an evaluation: what is drawn where, and of what."""

import itertools

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from evaluations import write_evaluation
from own_predictions import write_study

from segcal_lite.experiments.own_model import evaluate
from segcal_lite.report import (
    draw_figures,
    own_figures,
    own_reliability,
    plot_review,
    read_evaluation,
)
from segcal_lite.report.own_figures import CAPTIONS, plot_differences, plot_risk_coverage


@pytest.fixture(autouse=True)
def no_figure_is_left():
    with plt.rc_context():
        yield
    plt.close("all")


def test_every_figure_with_a_caption_is_written_and_none_stays_open(tmp_path):
    out = write_evaluation(tmp_path, n_new=0)
    style = plt.rcParams.copy()
    assert [path.stem for path in draw_figures(out)] == list(CAPTIONS)
    assert plt.get_fignums() == []
    assert plt.rcParams == style


def test_differences_are_in_percentage_points_with_a_line_a_comparison():
    rows = [("b against a", "ece", -0.02, -0.03, -0.01), ("c against a", "ece", 0.01, 0.0, 0.02)]
    rows += [("b against a", "nll", -0.1, -0.2, 0.0), ("b against a", "brier", 1, 1, 1)]
    columns = ["comparison", "metric", "difference", "lo", "hi"]
    figure = plot_differences(pd.DataFrame(rows, columns=columns))
    nll, ece = figure.axes
    np.testing.assert_allclose(ece.lines[0].get_xydata(), [[-2, 0], [1, 1]])
    np.testing.assert_allclose(nll.collections[0].get_segments(), [[[-0.2, 0], [0, 0]]])
    assert ece.get_xlabel() == "difference in ECE (percentage points)"
    assert [tick.get_text() for tick in nll.get_yticklabels()] == ["b against a", "c against a"]
    with pytest.raises(ValueError, match="table: found no row"):
        plot_differences(pd.DataFrame(rows[3:], columns=columns))


@pytest.mark.parametrize("size", [1.0, 0.1, 0.001])
def test_numbers_below_differences_do_not_run_into_each_other(size):
    rows = [(name, -0.0346 * size, 0.001 * size) for name in ("nll", "ece")]
    table = pd.DataFrame(rows, columns=["metric", "lo", "hi"])
    figure = plot_differences(table.assign(comparison="b against a", difference=-0.02 * size))
    figure.draw_without_rendering()
    for axes in figure.axes:
        shown = [tick.label1 for tick in axes.xaxis.get_major_ticks()]
        boxes = sorted(label.get_window_extent().extents[[0, 2]].tolist() for label in shown)
        gaps = [right[0] - left[1] for left, right in itertools.pairwise(boxes)]
        assert len(boxes) > 2 and min(gaps) > 5  # pixels


def test_curves_run_to_all_cases_and_the_oracle_and_chance_have_looks_of_their_own():
    rows = [("doubt", 1.0, 0.3), ("doubt", 0.5, 0.2), ("oracle", 0.5, 0.1), ("oracle", 1.0, 0.3)]
    rows += [("random", 1.0, 0.3)]
    axes = plot_risk_coverage(pd.DataFrame(rows, columns=["score", "coverage", "risk"]))
    doubt, oracle, random = axes.lines
    np.testing.assert_allclose(doubt.get_xydata(), [[0.5, 0.2], [1.0, 0.3]])
    assert [line.get_linestyle() for line in (doubt, oracle, random)] == ["-", "--", ":"]
    with pytest.raises(ValueError, match="curves: found no row"):
        plot_risk_coverage(pd.DataFrame(columns=["score", "coverage", "risk"]))


def test_bins_of_several_members_are_pooled_by_their_voxels(tmp_path):
    rows = pd.DataFrame(
        {
            "lower": [0.0, 0.0, 0.5],
            "upper": [0.5, 0.5, 1.0],
            "count": [1, 3, 0],
            "confidence": [0.1, 0.5, np.nan],
            "accuracy": [1.0, 0.0, np.nan],
        }
    )
    bins = own_reliability.pooled_bins(rows)
    assert bins.count.tolist() == [4, 0]
    np.testing.assert_allclose(bins.confidence, [0.4, np.nan])
    np.testing.assert_allclose(bins.accuracy, [0.25, np.nan])


def test_each_case_has_a_line_and_the_worst_have_diagrams(tmp_path):
    evaluation = read_evaluation(write_evaluation(tmp_path, n_cases=6, n_new=0))
    figure = own_reliability.of_cases(evaluation)
    assert titles(figure) == ["ensemble of 3", "temperature scaling", "vector scaling"]
    rows = evaluation.reliability_cases
    rows = rows[(rows.method == "ensemble") & (rows["count"] >= own_reliability.FEW_VOXELS)]
    lines = figure.axes[0].collections[0].get_segments()
    assert len(lines) == 6
    for line, (_, of) in zip(lines, rows.groupby("case"), strict=True):
        np.testing.assert_allclose(line, of[["confidence", "accuracy"]])
    worst = evaluation.ece_of_cases().index[::-1][: own_reliability.MOST_WORST]
    told = titles(own_reliability.of_worst(evaluation))
    assert [title.split("\n")[0] for title in told] == list(worst)


def test_a_single_case_is_the_pooled_diagram(tmp_path):
    evaluation = read_evaluation(write_evaluation(tmp_path, n_cases=1, n_new=0))
    assert own_reliability.of_cases(evaluation) is None
    assert own_reliability.of_worst(evaluation) is None


def fitted_lines(evaluation):
    """The fitted lines of the scatter of entropy and Dice, by what the legend calls them."""
    axes = own_figures._entropy_against_dice(evaluation).axes[0]
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    lines = {line.get_label(): line for line in axes.lines if ": r = " in line.get_label()}
    assert set(lines) <= set(told)
    return lines


def test_lines_are_those_of_the_table_in_which_every_patient_has_one_weight(tmp_path):
    given = write_study(tmp_path, n_cases=9, n_members=1)
    rows = [f"case_{k:03},{min(k, 5)}" for k in range(9)]  # four scans of the last patient
    (tmp_path / "patients.csv").write_text("\n".join(["case,patient", *rows]))
    options = {"patients": tmp_path / "patients.csv", "report": lambda line: None}
    evaluation = read_evaluation(evaluate(**given, out=tmp_path / "out", n_workers=1, **options))
    lines = fitted_lines(evaluation)
    assert len(lines) == 2
    for fit in evaluation.entropy_fit.itertuples():
        logit_dice, entropies = lines[f"{fit.segment}: r = {fit.r:.2f}"].get_data()
        np.testing.assert_allclose(logit_dice, fit.intercept + fit.slope * entropies)
        pairs = evaluation.entropy_dice[evaluation.entropy_dice.segment == fit.segment]
        assert entropies.tolist() == [pairs.segment_entropy.min(), pairs.segment_entropy.max()]


def test_few_patients_or_many_segments_have_no_lines(tmp_path):
    evaluation = read_evaluation(write_evaluation(tmp_path, n_new=0))
    assert len(fitted_lines(evaluation)) == 3
    pairs, fits, fields = evaluation.entropy_dice, evaluation.entropy_fit, vars(evaluation)
    few = type(evaluation)(**fields | {"entropy_fit": fits.assign(slope=np.nan)})
    assert fitted_lines(few) == {}
    others = (table.assign(segment="other " + table.segment) for table in (pairs, fits))
    both = [pd.concat(two) for two in zip((pairs, fits), others, strict=True)]
    many = dict(zip(("entropy_dice", "entropy_fit"), both, strict=True))
    assert fitted_lines(type(evaluation)(**fields | many)) == {}


def test_one_member_alone_says_that_its_bars_are_of_each(tmp_path):
    evaluation = read_evaluation(write_evaluation(tmp_path, n_new=0))
    first, second, *_ = titles(own_reliability.of_methods(evaluation))
    ece = 100 * evaluation.level("ece", "baseline")["mean"]
    assert first == f"one member alone\n(each of 3 counted)\nECE {ece:.2f} %"
    assert second.startswith("ensemble of 3\nECE")


def test_names_are_written_as_they_are(tmp_path):
    names = {"RV": "$a$b_{", "LV": "_core"}
    evaluation = read_evaluation(write_evaluation(tmp_path, n_cases=2, n_new=0))
    tables = {
        name: getattr(evaluation, name).replace({"segment": names, "case": {"case_001": "p$1_$2"}})
        for name in ("scores", "entropy_dice", "entropy_fit", "reliability_cases")
    }
    evaluation = type(evaluation)(**vars(evaluation) | tables)
    figure = own_figures._entropy_against_dice(evaluation)
    figure.canvas.draw()  # where a formula is read
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {r"\$a\$b {", "  core"} < set(texts)  # legends have spaces for underscores
    worst = own_reliability.of_worst(evaluation)
    worst.canvas.draw()
    assert r"p\$1_\$2" in {title.split("\n")[0] for title in titles(worst)}
    picture = plot_review(None, np.eye(4, dtype=int), None, ["$1_$2"])
    picture.canvas.draw()
    assert [text.get_text() for text in picture.legends[0].get_texts()] == [r"\$1_\$2"]


# --- a doubtful case ------------------------------------------------------------------------------


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


@pytest.fixture
def slices():
    """An image (30, 20), a square of class 2 within it, and its entropy."""
    predicted = np.zeros((30, 20), dtype=int)
    predicted[10:14, 8:12] = 2
    return np.arange(600.0).reshape(30, 20), predicted, np.where(predicted, 0.5, 0.1)


def test_a_review_shows_all_panels_around_the_prediction(slices):
    figure = plot_review(*slices, ["a", "b"], spacing_mm=(1, 2), margin_mm=5)
    assert titles(figure) == ["image", "prediction", "entropy"]
    for axes in figure.axes[:3]:  # 4 by 8 mm, its centre at 12 and 20 mm
        assert (axes.get_xlim(), axes.get_ylim()) == ((3, 21), (11, 29))
    filled = figure.axes[1].images[1].get_array()
    np.testing.assert_array_equal(~np.ma.getmaskarray(filled), (slices[1] == 2).T)
    np.testing.assert_array_equal(figure.axes[2].images[1].get_array(), slices[2].T)
    assert figure.axes[2].images[1].get_clim() == (0, np.log(2))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b"]


def test_a_review_does_without_image_entropy_or_prediction(slices):
    image, predicted, entropy = slices
    assert titles(plot_review(None, predicted, entropy, ["a", "b"])) == ["prediction", "entropy"]
    assert titles(plot_review(image, predicted, None, ["a", "b"])) == ["image", "prediction"]
    empty = plot_review(image, np.zeros_like(predicted), None, ["a", "b"])
    assert empty.axes[0].get_xlim() == (0, 30)
    assert not empty.legends


def test_a_review_takes_regions_that_overlap(slices):
    image, predicted, _ = slices
    regions = np.stack([predicted > 0, np.zeros(predicted.shape, bool)])
    figure = plot_review(image, regions, None, ["whole", "core"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["whole"]


def test_a_review_names_what_does_not_fit(slices):
    image, predicted, entropy = slices
    with pytest.raises(ValueError, match=r"predicted_slice: found shape \(20, 30\)"):
        plot_review(image, predicted.T, entropy, ["a", "b"])
    with pytest.raises(ValueError, match="entropy_slice: found shape"):
        plot_review(image, predicted, entropy[1:], ["a", "b"])
