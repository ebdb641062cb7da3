"""What the figures draw: positions, heights, masks, labels; never the pixels."""

import warnings
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from segcal_lite.calibration import ReliabilityBins
from segcal_lite.report import overlays, own_figures, plotting, probabilities, style


@pytest.fixture(autouse=True)
def restored_state():
    """No test leaves a figure open or a style set, and none may warn."""
    with plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def legend_texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def line_labelled(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


# --- overlays -------------------------------------------------------------------------------------


@pytest.fixture
def slices():
    """An image (6, 4), a 2 x 2 square of class 1 and a probability that is not symmetric."""
    labels = np.zeros((6, 4), dtype=int)
    labels[3:5, 1:3] = 1
    labels[0, 0] = 2
    prob = np.zeros((6, 4))
    prob[3:5, 1:3] = 0.9
    prob[5, 0], prob[0, 3], prob[1, 1] = 0.001, 0.0011, np.nan
    return np.arange(24.0).reshape(6, 4), labels, prob


def test_overlay_is_transposed_in_mm_and_masked(slices):
    image, labels, prob = slices
    axes = plt.subplots()[1]
    assert overlays.plot_overlay(axes, image, labels, prob, 1, (2.0, 3.0)) is axes
    grey, colour = axes.images
    np.testing.assert_array_equal(grey.get_array(), image.T)
    assert grey.get_extent() == colour.get_extent() == [0, 12, 0, 12]
    assert (grey.origin, axes.get_aspect()) == ("lower", 1.0)
    coloured = colour.get_array()
    np.testing.assert_array_equal(~np.ma.getmaskarray(coloured), (prob > 0.001).T)
    assert coloured[3, 0] == 0.0011
    assert colour.get_clim() == (0, 1)
    assert grey.get_clim() == tuple(np.percentile(image, [0.5, 99.5]))


def test_contour_follows_the_boundary_of_one_class_in_mm(slices):
    image, labels, _ = slices
    axes = plt.subplots()[1]
    overlays.plot_overlay(axes, image, labels, None, 1, (2.0, 3.0))
    (contour,) = axes.collections
    np.testing.assert_allclose(contour.get_edgecolor()[0, :3], to_rgb("white"))
    box = contour.get_paths()[0].get_extents()
    np.testing.assert_allclose([box.x0, box.x1, box.y0, box.y1], [6, 10, 3, 9])


def test_contour_closes_at_the_edge_of_the_image(slices):
    image, labels, _ = slices
    axes = plt.subplots()[1]
    overlays.plot_overlay(axes, image, labels, None, class_index=2)
    path = axes.collections[0].get_paths()[0]
    np.testing.assert_allclose(path.vertices[0], path.vertices[-1])
    assert path.get_extents().x0 == path.get_extents().y0 == 0


def test_overlay_without_truth_class_or_probability(slices):
    image, labels, prob = slices
    axes = plt.subplots()[1]
    overlays.plot_overlay(axes, image, labels, np.zeros_like(prob), class_index=3)
    assert len(axes.collections) == 0
    assert axes.images[1].get_array().count() == 0
    axes = plt.subplots()[1]
    overlays.plot_overlay(axes, np.ones((3, 3)))
    assert len(axes.images) == 1


def test_scale_bar_has_the_length_it_states(slices):
    axes = plt.subplots()[1]
    overlays.plot_overlay(axes, np.zeros((100, 50)), spacing_mm=(0.7, 0.7))
    (bar,) = axes.lines
    assert np.ptp(bar.get_xdata()) == 20  # a quarter of 70 mm, rounded
    assert axes.texts[0].get_text() == "20 mm"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels_slice": np.zeros((4, 6), int)}, "labels_slice"),
        ({"prob_slice": np.zeros((6, 5))}, "prob_slice"),
        ({"prob_slice": np.full((6, 4), 1.1)}, "prob_slice"),
        ({"prob_slice": np.full((6, 4), -0.1)}, "prob_slice"),
        ({"image_slice": np.zeros((6, 4, 1))}, "image_slice"),
        ({"image_slice": np.full((6, 4), np.nan)}, "image_slice"),
        ({"spacing_mm": (1.0, 0.0)}, "spacing_mm"),
    ],
)
def test_overlay_refuses(slices, change, message):
    arguments = dict(zip(("image_slice", "labels_slice", "prob_slice"), slices, strict=True))
    with pytest.raises(ValueError, match=f"^{message}.*found.*expected"):
        overlays.plot_overlay(plt.subplots()[1], **(arguments | change))


def test_grid_draws_every_member_on_one_scale(slices):
    image, labels, prob = slices
    titles = [f"M = {m}" for m in (1, 2, 5, 10)]
    figure = overlays.plot_overlay_grid(image, labels, dict.fromkeys(titles, prob), n_columns=2)
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["image, truth", *titles]
    assert [len(axes.images) for axes in panels] == [1, 2, 2, 2, 2]
    assert all(len(axes.collections) == 1 for axes in panels)
    assert bar.get_ylim() == (0, 1)
    assert bar.get_ylabel() == "probability of class 1"


def test_grid_zoom_is_the_same_square_in_all_panels(slices):
    image, labels, prob = slices
    wide = prob.copy()
    wide[1, 1] = 0.6  # only this panel's prediction reaches so far
    figure = overlays.plot_overlay_grid(
        image, labels, {"narrow": prob, "wide": wide}, 1, (2.0, 3.0), margin_mm=4
    )
    # The class covers x 2 to 10 mm and y 3 to 9 mm; the larger side sets the square.
    for axes in figure.axes[:3]:
        assert axes.get_xlim() == (-2, 14)
        assert axes.get_ylim() == (-2, 14)


def test_grid_without_class_is_not_zoomed_and_needs_a_slice(slices):
    image, labels, prob = slices
    figure = overlays.plot_overlay_grid(image, labels, {"a": prob * 0}, 3, margin_mm=4)
    assert figure.axes[0].get_xlim() == (0, 6)
    assert overlays.plot_overlay_grid(image, None, {"a": prob}).axes[0].get_title() == "image"
    with pytest.raises(ValueError, match="prob_slices"):
        overlays.plot_overlay_grid(image, labels, {})


def test_a_refused_grid_leaves_no_figure(slices):
    image, labels, prob = slices
    with pytest.raises(ValueError, match="prob_slice"):
        overlays.plot_overlay_grid(image, labels, {"a": prob, "b": prob + 1})
    assert plt.get_fignums() == []


def test_probability_histogram_shares_sum_to_100_percent():
    figure = probabilities.plot_probability_histogram(
        {"sure": [0.99, 1.0, 1.0, 1.0 + 1e-7], "unsure": np.full((2, 3), 0.55), "none": []},
        n_bins=10,
    )
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]
    np.testing.assert_allclose(heights[0], [0] * 9 + [100])
    np.testing.assert_allclose(heights[1], [0] * 5 + [100] + [0] * 4)
    assert not any(heights[2])
    assert [text.get_text() for text in figure.axes[2].texts] == ["empty segment"]
    assert figure.axes[1].get_title() == "unsure\n6 voxels"
    assert figure.axes[0].get_ylabel() == "share of the segment (%)"


def test_probability_histogram_draws_on_given_panels_and_refuses():
    figure, axes = plt.subplots()
    assert probabilities.plot_probability_histogram({"a": [0.5]}, [axes]) is figure
    for wrong in ({}, {"a": [1.2]}, {"a": [np.nan]}):
        with pytest.raises(ValueError, match="found"):
            probabilities.plot_probability_histogram(wrong)
    assert len(plt.get_fignums()) == 1


# --- reliability ----------------------------------------------------------------------------------

EDGES = np.linspace(0, 1, 6)


@pytest.fixture
def bins():
    """Five bins: two empty, one of few voxels, one overconfident, one underconfident."""
    return ReliabilityBins(
        lower=EDGES[:-1],
        upper=EDGES[1:],
        count=np.array([0, 0, 7, 2000, 50_000]),
        confidence=np.array([np.nan, np.nan, 0.5, 0.7, 0.95]),
        accuracy=np.array([np.nan, np.nan, 0.4, 0.6, 0.98]),
    )


def test_reliability_bars_gaps_and_counts(bins):
    pair = plt.subplots(2, 1)[1]
    figure = probabilities.plot_reliability_diagram(bins, pair, 1000, "Dice", 0.0345)
    assert figure is pair[0].figure
    accuracy, gap, few = pair[0].containers
    np.testing.assert_allclose([bar.get_x() for bar in accuracy], [0.6, 0.8])
    np.testing.assert_allclose([bar.get_height() for bar in accuracy], [0.6, 0.98])
    np.testing.assert_allclose([bar.get_width() for bar in accuracy], 0.2)
    np.testing.assert_allclose([bar.get_y() for bar in gap], [0.6, 0.98])
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in gap], [0.7, 0.95])
    assert [bar.get_height() for bar in few] == [0.4]
    assert not few[0].get_fill()
    assert few.get_label() == "under 1,000 voxels"
    assert [bar.get_height() for bar in pair[1].patches] == [7, 2000, 50_000]
    assert pair[1].get_yscale() == "log"
    assert pair[1].get_ylim()[0] < 1  # a bin of one voxel is visible
    assert pair[1].lines[0].get_ydata()[0] == 1000
    assert pair[0].get_title() == "Dice\nECE 3.45 %"
    identity = line_labelled(pair[0], "perfect calibration")
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
    assert (pair[0].get_ylabel(), pair[1].get_xlabel()) == ("accuracy", "confidence")


@pytest.mark.parametrize("min_count, n_full", [(7, 3), (8, 2), (0, 3)])
def test_bins_at_the_limit_are_full(bins, min_count, n_full):
    pair = plt.subplots(2, 1)[1]
    probabilities.plot_reliability_diagram(bins, pair, min_count)
    assert len(pair[0].containers[0]) == n_full
    assert len(pair[0].containers) == (3 if n_full == 2 else 2)


def test_reliability_of_no_voxels_says_so():
    empty = ReliabilityBins(EDGES[:-1], EDGES[1:], np.zeros(5, int), *np.full((2, 5), np.nan))
    figure = probabilities.plot_reliability_diagram(empty)
    assert [text.get_text() for text in figure.axes[0].texts] == ["no voxels"]
    assert not figure.axes[1].patches


def test_diagrams_share_scales_and_one_legend(bins):
    fewer = bins._replace(count=np.array([0, 0, 3, 9000, 10]))
    figure = probabilities.plot_reliability_diagrams({"a": bins, "b": fewer}, 1000, {"a": 0.01})
    top, bottom = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title() for axes in top] == ["a\nECE 1.00 %", "b"]
    assert bottom[0].get_ylim() == bottom[1].get_ylim()
    assert bottom[0].get_ylim()[1] > 50_000
    (legend,) = figure.legends
    expected = ["perfect calibration", "accuracy", "confidence gap", "under 1,000 voxels"]
    assert legend_texts(legend) == expected
    assert [axes.get_ylabel() for axes in figure.axes] == ["accuracy", "", "voxels", ""]
    with pytest.raises(ValueError, match="bins_by_title"):
        probabilities.plot_reliability_diagrams({})


def bins_of_cases(bins):
    """The bins of two cases as a table; the second has little in its last one."""
    table = pd.DataFrame(bins._asdict()).dropna()
    other = table.assign(case="b", count=[2000, 3000, 7], accuracy=0.5)
    return pd.concat([table.assign(case="a"), other])


def test_each_case_has_a_line_through_its_bins_of_enough_voxels(bins):
    figure = probabilities.plot_reliability_of_cases({"x": bins_of_cases(bins)}, {"x": bins}, 1000)
    (axes,) = figure.axes
    a, b = axes.collections[0].get_segments()
    np.testing.assert_allclose(a, [[0.7, 0.6], [0.95, 0.98]])
    np.testing.assert_allclose(b, [[0.5, 0.5], [0.7, 0.5]])
    dots, pooled, diagonal = axes.lines
    np.testing.assert_allclose(dots.get_xydata(), np.concatenate([a, b]))
    np.testing.assert_allclose(pooled.get_xydata(), a)
    np.testing.assert_allclose(diagonal.get_xydata(), [[0, 0], [1, 1]])


def test_cases_without_enough_voxels_leave_an_empty_diagram_and_no_title_is_refused(bins):
    table = bins_of_cases(bins)
    figure = probabilities.plot_reliability_of_cases({"x": table}, {"x": bins}, 10**6)
    assert figure.axes[0].collections[0].get_segments() == []
    with pytest.raises(ValueError, match="cases_by_title: found no diagram"):
        probabilities.plot_reliability_of_cases({}, {})
    with pytest.raises(ValueError, match="table: found no column 'case'"):
        probabilities.plot_reliability_of_cases({"x": table.drop(columns="case")}, {"x": bins})


# --- against ensemble size ------------------------------------------------------------------------


def sweep(losses=("ce", "dice"), sizes=(1, 2, 5), n_subsets=21, metric="nll"):
    rows = [
        (loss, m, subset, metric, (1 + k) / m + 0.01 * subset)
        for k, loss in enumerate(losses)
        for m in sizes
        for subset in range(n_subsets)
    ]
    return pd.DataFrame(rows, columns=["loss", "n_members", "subset", "metric", "value"])


def test_ensemble_size_mean_band_and_oracle():
    axes = plt.subplots()[1]
    assert plotting.plot_against_ensemble_size(sweep(), "nll", axes, oracle=0.05) is axes
    ce, dice = axes.lines[:2]
    np.testing.assert_allclose(ce.get_xdata(), [1, 2, 5])
    np.testing.assert_allclose(ce.get_ydata(), np.array([1, 1 / 2, 1 / 5]) + 0.1)
    np.testing.assert_allclose(dice.get_ydata(), np.array([2, 1, 2 / 5]) + 0.1)
    assert to_rgb(ce.get_color()) == to_rgb(plotting.LOSS_COLOURS["ce"])
    band = axes.collections[0].get_paths()[0].vertices
    at_one = band[band[:, 0] == 1, 1]
    np.testing.assert_allclose([at_one.min(), at_one.max()], [1.005, 1.195])  # 2.5 and 97.5 %
    assert line_labelled(axes, "oracle").get_ydata()[0] == 0.05
    assert legend_texts(axes.get_legend()) == ["CE", "Dice", "oracle"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "5"]
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "NLL (nats per voxel)"


def test_ensemble_size_in_percent_for_ece():
    axes = plotting.plot_against_ensemble_size(sweep(metric="ece"), "ece", oracle=0.01)
    assert axes.get_ylabel() == "ECE (%)"
    assert axes.lines[0].get_ydata()[0] == pytest.approx(110)
    assert line_labelled(axes, "oracle").get_ydata()[0] == pytest.approx(1)


def test_single_size_single_subset_and_undefined_values():
    axes = plotting.plot_against_ensemble_size(sweep(["dice"], [5], 1), "nll")
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[5, 0.2]])
    table = sweep(n_subsets=3).assign(value=[np.nan, np.inf, *np.ones(16)])
    axes = plotting.plot_against_ensemble_size(table, "nll")
    assert axes.get_xlabel().endswith("(2 undefined left out)")
    axes = plotting.plot_against_ensemble_size(table.assign(value=np.nan), "nll")
    assert axes.get_xlabel().endswith("(18 undefined left out)")


@pytest.mark.parametrize(
    "table, message",
    [
        (pd.concat([sweep(), sweep()]), "one row for each loss, n_members, subset, metric"),
        (sweep().drop(columns="loss"), "no column 'loss'"),
        (sweep().iloc[:0], "no rows"),
        (sweep(metric="brier"), "metric: found 'nll', expected one of 'brier'"),
    ],
)
def test_ensemble_size_refuses(table, message):
    with pytest.raises(ValueError, match=message):
        plotting.plot_against_ensemble_size(table, "nll")
    assert plt.get_fignums() == []


# --- entropy against Dice -------------------------------------------------------------------------


def entropies():
    rows = [
        (segment, domain, z, 0.5 - 0.1 * z)
        for segment in ("RV", "LV")
        for domain, centre in (("source", 2.0), ("shifted", 0.0))
        for z in (centre - 1, centre, centre + (segment == "LV"))
    ]
    return pd.DataFrame(rows, columns=["segment", "domain", "logit_dice", "segment_entropy"])


def test_entropy_scatter_fit_and_dice_axis():
    fits = {
        "RV": SimpleNamespace(slope=-0.1, intercept=0.5, pearson_r=-0.876),
        "all": SimpleNamespace(slope=-0.2, intercept=0.6, pearson_r=-0.5),
    }
    axes = plt.subplots()[1]
    assert plotting.plot_entropy_against_dice(entropies(), fits, axes) is axes
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points, entropies()[["logit_dice", "segment_entropy"]])
    colours = axes.collections[0].get_facecolors()[:, :3]
    np.testing.assert_allclose(colours[0], to_rgb(plotting.DOMAIN_COLOURS["source"]))
    np.testing.assert_allclose(colours[3], to_rgb(plotting.DOMAIN_COLOURS["shifted"]))
    fit = line_labelled(axes, "RV: r = -0.88")
    np.testing.assert_allclose(fit.get_xydata(), [[-1, 0.6], [2, 0.3]])  # the range of RV only
    np.testing.assert_allclose(line_labelled(axes, "all: r = -0.50").get_xdata(), [-1, 3])
    assert {"source", "shifted", "RV", "LV"} <= set(legend_texts(axes.get_legend()))
    assert axes.get_ylabel() == "segment entropy (nats)"
    (dice_axis,) = axes.child_axes
    ticks = dict(zip(map(float, dice_axis.get_xticks()), dice_axis.get_xticklabels(), strict=True))
    assert ticks[0.0].get_text() == "0.5"
    assert dice_axis.get_xlabel() == "Dice coefficient (0 to 1)"


def test_entropy_undefined_values_and_undefined_fit():
    table = entropies()
    table.loc[0, "segment_entropy"] = np.nan
    table.loc[1, "logit_dice"] = -np.inf
    undefined = SimpleNamespace(slope=np.nan, intercept=np.nan, pearson_r=np.nan)
    axes = plotting.plot_entropy_against_dice(table, {"LV": undefined})
    assert len(axes.collections[0].get_offsets()) == len(table) - 2
    assert axes.get_xlabel() == "logit Dice (no unit)\n(2 undefined left out)"
    assert "LV: r = nan" in legend_texts(axes.get_legend())
    axes = plotting.plot_entropy_against_dice(table.assign(segment_entropy=np.nan))
    assert axes.get_xlabel().endswith("(12 undefined left out)")


# --- out of distribution --------------------------------------------------------------------------


def test_oodm_histograms_count_every_score_and_show_the_threshold():
    scores = {"training": [0.01, 0.012, 0.013, 0.021], "shifted": [0.045, 0.06, np.inf]}
    axes = plt.subplots()[1]
    assert plotting.plot_oodm_histograms(scores, 0.025, axes, n_bins=5) is axes
    # Bins are 0.01 wide: the highest of the training's holds three, those of the shifted one each.
    assert [patch.get_xy()[:, 1].max() for patch in axes.patches] == [3, 1]
    assert line_labelled(axes, "threshold $\\tau$ = 0.025").get_xdata()[0] == 0.025
    assert legend_texts(axes.get_legend())[:2] == ["training, n = 4", "shifted, n = 2"]
    assert axes.get_xscale() == "linear"
    assert axes.get_xlabel() == "OODM (distance, no unit)\n(1 undefined left out)"
    assert axes.get_ylabel() == "number of cases"


@pytest.mark.parametrize("log", [True, False])
def test_no_score_falls_outside_the_bins(log, monkeypatch):
    counted = []
    axes = plt.subplots()[1]
    original = axes.hist

    def spy(*arguments, **look):
        counts, edges, patches = original(*arguments, **look)
        counted.append((counts, edges))
        return counts, edges, patches

    monkeypatch.setattr(axes, "hist", spy)
    scores = {"a": np.geomspace(0.001, 0.3, 17), "b": [0.001, 0.7], "c": []}
    plotting.plot_oodm_histograms(scores, 0.01, axes, log, n_bins=10)
    assert [counts.sum() for counts, _ in counted] == [17, 2, 0]
    assert all(len(edges) == 11 for _, edges in counted)
    steps = np.diff(np.log(counted[0][1]) if log else counted[0][1])
    np.testing.assert_allclose(steps, steps[0])
    assert axes.get_xscale() == ("log" if log else "linear")


@pytest.mark.parametrize(
    "ends, labels",
    [((0.3, 3), ["0.5", "1", "2"]), ((0.003, 5), ["0.01", "0.1", "1"])],
)
def test_logarithmic_axes_have_plain_numbers(ends, labels):
    figure, axes = plt.subplots()
    axes.plot([0, 1], ends)
    style.use_log_scale(axes, "y")
    figure.canvas.draw()
    low, high = axes.get_ylim()
    shown = [t.get_text() for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high]
    assert shown == labels
    assert not any(tick.get_text() for tick in axes.get_yticklabels(minor=True))


@pytest.mark.parametrize(
    "scores, scale",
    [
        ([0.1, 2.9], "linear"),
        ([0.1, 3.1], "log"),
        ([0.0, 3.1], "linear"),  # a duplicate among the training cases has distance 0
        ([0.1, 0.1], "linear"),
    ],
)
def test_log_axis_from_a_factor_of_30(scores, scale):
    axes = plotting.plot_oodm_histograms({"a": scores}, scores[0])
    assert axes.get_xscale() == scale


def test_a_log_axis_leaves_out_scores_of_zero_and_says_so():
    axes = plotting.plot_oodm_histograms({"a": [0.0, 0.2, 1.0], "b": [0.0]}, 0.5, log=True)
    assert axes.get_xlabel().endswith("(2 undefined or 0 left out)")
    assert legend_texts(axes.get_legend())[:2] == ["a, n = 2", "b, n = 0"]
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] > 0.1


def test_oodm_refuses_log_without_a_score_above_zero_and_an_undefined_threshold():
    for scores, threshold, low in ([-0.1, 1.0], 0.5, -0.1), ([0.0, 0.0], 0.0, 0):
        with pytest.raises(ValueError, match=f"scores: found a smallest value of {low}"):
            plotting.plot_oodm_histograms({"a": scores}, threshold, log=True)
    with pytest.raises(ValueError, match="threshold"):
        plotting.plot_oodm_histograms({"a": [0.1, 1.0]}, np.nan)
    assert plt.get_fignums() == []


def test_signatures_against_index_from_one():
    signatures = {"training": np.arange(12.0).reshape(3, 4), "shifted": np.ones(4)}
    axes = plotting.plot_signatures(signatures)
    assert len(axes.lines) == 4
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[1, 4], [2, 5], [3, 6], [4, 7]])
    assert legend_texts(axes.get_legend()) == ["training, n = 3", "shifted, n = 1"]
    assert len({line.get_color() for line in axes.lines}) == 2
    assert axes.get_ylabel() == "log S / ||log S|| (no unit)"
    with pytest.raises(ValueError, match="shifted"):
        plotting.plot_signatures({"shifted": [np.nan, 1.0]})


def test_auc_lines_bands_and_chance():
    table = pd.DataFrame(
        {
            "detector": ["spectral"] * 3 + ["voxel_count"] * 3,
            "strength": [1.0, 0.0, 0.5, 0.0, 0.5, 1.0],
            "auc": [1.0, 0.5, 0.8, 0.5, np.nan, 0.55],
            "lo": [0.9, 0.4, 0.7, 0.4, np.nan, 0.45],
            "hi": [1.0, 0.6, 0.9, 0.6, np.nan, 0.65],
        }
    )
    axes = plotting.plot_auc_against_strength(table)
    spectral = line_labelled(axes, "spectral")
    np.testing.assert_allclose(spectral.get_xydata(), [[0, 0.5], [0.5, 0.8], [1, 1]])
    band = axes.collections[0].get_paths()[0].vertices
    at_half = band[band[:, 0] == 0.5, 1]
    np.testing.assert_allclose([at_half.min(), at_half.max()], [0.7, 0.9])
    assert line_labelled(axes, "chance").get_ydata()[0] == 0.5
    assert axes.get_ylim()[0] < 0 < 1 < axes.get_ylim()[1]
    assert axes.get_xlabel().endswith("(1 undefined left out)")
    assert legend_texts(axes.get_legend()) == ["spectral", "voxel count", "chance"]
    with pytest.raises(ValueError, match="one row for each detector, strength"):
        plotting.plot_auc_against_strength(pd.concat([table, table]))


def test_a_shift_is_drawn_above_what_it_does_to_the_segmentation():
    table = pd.DataFrame({"detector": ["a_b"] * 2 + ["c"] * 2, "strength": [1.0, 0.0] * 2})
    table = table.assign(auc=0.5, lo=0.4, hi=0.6, flagged=[0.9, 0.1, 0.3, 0.2], dice=[0.2, 0.8] * 2)
    top, bottom = plotting.plot_shift(table).axes
    assert top.get_xlabel() == ""
    drawn = line_labelled(bottom, "flagged: a_b")
    np.testing.assert_allclose(drawn.get_xydata(), [[0, 0.1], [1, 0.9]])
    assert drawn.get_color() == line_labelled(top, "a_b").get_color()
    np.testing.assert_allclose(line_labelled(bottom, "mean Dice").get_ydata(), [0.8, 0.2])
    assert not bottom.collections
    assert legend_texts(bottom.get_legend()) == ["flagged: a b", "flagged: c", "mean Dice"]
    _, bottom = plotting.plot_shift(table.assign(dice_lo=0.1, dice_hi=0.9)).axes
    band = bottom.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.1, 0.9)
    with pytest.raises(ValueError, match="no column 'flagged'"):
        plotting.plot_shift(table.drop(columns="flagged"))


# --- one line a method ----------------------------------------------------------------------------


def test_nll_against_eps_on_a_log_axis():
    table = pd.DataFrame(
        {
            "method": ["baseline", "ensemble"] * 4,
            "loss": ["ce"] * 4 + ["dice"] * 4,
            "eps": [1e-12, 1e-12, 1e-3, 1e-3] * 2,
            "nll": [0.4, 0.2, 0.3, np.inf, 0.8, 0.4, 0.6, 0.3],
        }
    )
    axes = plotting.plot_nll_against_eps(table)
    assert axes.get_xscale() == "log"
    drawn = [line for line in axes.lines if len(line.get_xdata())]
    np.testing.assert_allclose(drawn[0].get_xydata(), [[1e-12, 0.4], [1e-3, 0.3]])
    assert to_rgb(drawn[0].get_color()) == to_rgb(plotting.METHOD_COLOURS["baseline"])
    assert drawn[0].get_linestyle() != drawn[1].get_linestyle()
    assert axes.get_xlabel() == "floor eps (no unit)\n(1 undefined left out)"
    assert axes.get_ylabel() == "NLL (nats per voxel)"
    texts = legend_texts(axes.get_legend())
    assert texts == ["method", "baseline", "ensemble", "loss", "CE", "Dice"]
    with pytest.raises(ValueError, match="eps: found 0, expected values above 0"):
        plotting.plot_nll_against_eps(table.assign(eps=0))
    with pytest.raises(ValueError, match="no column 'eps'"):
        plotting.plot_nll_against_eps(table.drop(columns="eps"))


def test_ece_against_bins_in_percent():
    table = pd.DataFrame({"method": "baseline", "n_bins": [5, 10, 20], "ece": [0.02, 0.03, 0.05]})
    axes = plt.subplots()[1]
    assert plotting.plot_ece_against_bins(table, axes) is axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[5, 2], [10, 3], [20, 5]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("number of bins", "ECE (%)")
    assert axes.get_ylim()[0] == 0
    with pytest.raises(ValueError, match="one row for each method, n_bins"):
        plotting.plot_ece_against_bins(pd.concat([table, table]))
    axes = plotting.plot_ece_against_bins(table.assign(ece=np.nan))
    assert axes.get_xlabel().endswith("(3 undefined left out)")


# --- training and summary -------------------------------------------------------------------------


def history():
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "train_loss": [0.9, 0.5, 0.4, 0.3],
            "validation_dice": [0.1, 0.8, np.nan, 0.7],
            "learning_rate": [0.005, 0.005, 0.005, 0.0025],
        }
    )


def test_training_curves_mark_the_best_epoch():
    figure = plotting.plot_training_curves(history())
    loss, dice, rate = figure.axes
    np.testing.assert_allclose(loss.lines[0].get_ydata(), history().train_loss)
    np.testing.assert_allclose(dice.lines[0].get_xdata(), [1, 2, 4])
    np.testing.assert_allclose(dice.lines[1].get_xydata(), [[2, 0.8]])
    assert legend_texts(dice.get_legend()) == ["0.800, epoch 2"]
    assert dice.get_xlabel() == "epoch\n(1 undefined left out)"
    np.testing.assert_allclose(rate.lines[0].get_ydata(), history().learning_rate)
    assert dice.get_ylabel() == "validation Dice (0 to 1)"


def test_training_curves_without_validation_and_of_one_epoch():
    figure = plotting.plot_training_curves(history().assign(validation_dice=np.nan))
    assert figure.axes[1].get_legend() is None
    figure = plotting.plot_training_curves(history().iloc[:1])
    assert len(figure.axes[1].lines) == 2
    with pytest.raises(ValueError, match="no column 'learning_rate'"):
        plotting.plot_training_curves(history().drop(columns="learning_rate"))


def summary():
    rows = [
        (loss, method, metric, value, value - 0.05, value + 0.1)
        for metric, scale in (("nll", 1.0), ("brier", 0.5), ("ece", 0.1))
        for loss, method, value in (
            ("ce", "ensemble", 2 * scale),
            ("ce", "baseline", 4 * scale),
            ("dice", "baseline", 6 * scale),
            ("ce", "oracle", 1 * scale),
        )
    ]
    return pd.DataFrame(rows, columns=["loss", "method", "metric", "mean", "lo", "hi"])


def test_summary_dots_intervals_and_oracle():
    figure = plotting.plot_calibration_summary(summary().assign(interval="mean"))
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["NLL (nats per voxel)", "Brier score (no unit)", "ECE (%)"]
    nll, _, ece = figure.axes
    np.testing.assert_allclose(line_labelled(ece, "ce").get_xdata(), [20, 40])
    np.testing.assert_allclose(line_labelled(ece, "oracle").get_xdata()[0], 10)
    np.testing.assert_allclose(ece.collections[0].get_segments()[0][:, 0], [15, 30])
    rows = dict(zip((4, 2), line_labelled(nll, "ce").get_ydata()[::-1], strict=True))
    assert rows[4] == pytest.approx(-0.125)  # baseline first, CE above Dice
    assert rows[2] == pytest.approx(1 - 0.125)
    np.testing.assert_allclose(line_labelled(nll, "dice").get_xydata(), [[6, 0.125]])
    assert [tick.get_text() for tick in nll.get_yticklabels()] == ["baseline", "ensemble"]
    assert nll.get_ylim() == (1.5, -0.5)
    assert nll.get_xlim()[0] == 0
    (legend,) = figure.legends
    assert legend_texts(legend) == ["CE", "Dice", "oracle"]
    assert legend.get_title().get_text() == "95 % CI of the mean"
    assert all(axes.get_legend() is None for axes in figure.axes)


def test_summary_without_oracle_interval_or_mean():
    table = summary()[lambda table: table.method == "baseline"].assign(lo=np.nan, hi=np.nan)
    table.loc[table.loss == "dice", "mean"] = np.nan
    figure = plotting.plot_calibration_summary(table, metrics=["brier"])
    (axes,) = figure.axes
    np.testing.assert_allclose(line_labelled(axes, "ce").get_xdata(), [2.0])
    assert axes.get_xlabel().endswith("(1 undefined left out)")
    assert legend_texts(figure.legends[0]) == ["CE", "Dice"]


def test_summary_takes_one_kind_of_interval_and_known_metrics():
    both = pd.concat([summary().assign(interval=kind) for kind in ("cases", "mean")])
    with pytest.raises(ValueError, match="one row for each loss, method, metric"):
        plotting.plot_calibration_summary(both)
    with pytest.raises(ValueError, match="metrics: found 'mce'"):
        plotting.plot_calibration_summary(summary(), ["mce"])
    assert plt.get_fignums() == []


# --- style ----------------------------------------------------------------------------------------


def all_figures(bins):
    """Every function once, in a new figure."""
    prob = np.full((3, 3), 0.5)
    auc = pd.DataFrame({"detector": "a", "strength": [0, 1], "auc": 0.5, "lo": 0.4, "hi": 0.6})
    eps = pd.DataFrame({"method": "baseline", "eps": [1e-3, 1e-2], "nll": 0.5})
    yield overlays.plot_overlay_grid(np.eye(3), np.eye(3, dtype=int), {"M = 1": prob})
    yield probabilities.plot_reliability_diagram(bins)
    yield probabilities.plot_reliability_of_cases({"": bins_of_cases(bins)}, {"": bins})
    yield probabilities.plot_probability_histogram({"a": [0.5]})
    yield plotting.plot_against_ensemble_size(sweep(), "nll")
    yield plotting.plot_entropy_against_dice(entropies())
    yield plotting.plot_oodm_histograms({"a": [0.1, 0.2]}, 0.3)
    yield plotting.plot_signatures({"a": np.ones((2, 3))})
    yield plotting.plot_nll_against_eps(eps)
    yield plotting.plot_ece_against_bins(eps.assign(n_bins=[5, 10], ece=0.1))
    yield plotting.plot_training_curves(history())
    yield plotting.plot_auc_against_strength(auc)
    yield plotting.plot_shift(auc.assign(flagged=0.2, dice=0.8))
    yield plotting.plot_calibration_summary(summary())
    yield overlays.plot_review(np.eye(3), np.eye(3, dtype=int), prob, ["organ"])
    yield own_figures.plot_risk_coverage(
        pd.DataFrame({"score": "entropy", "coverage": [0.5, 1], "risk": 0.1})
    )
    change = {"comparison": "a against b", "difference": -0.1, "lo": -0.2, "hi": 0.1}
    yield own_figures.plot_differences(pd.DataFrame([change | {"metric": "nll"}]), ["nll"])


def test_every_figure_is_one_figure_labelled_legible_and_at_most_notebook_wide(bins):
    style.use_style()
    for n_figures, drawn in enumerate(all_figures(bins), start=1):
        figure = drawn if isinstance(drawn, Figure) else drawn.figure
        assert len(plt.get_fignums()) == n_figures
        assert figure.get_figwidth() <= 10
        figure.canvas.draw()  # an error or a warning of the layout shows only here
        for axes in figure.axes:
            assert axes.has_data() or axes.get_ylabel(), "an empty panel"
            picture = bool(axes.images)
            shared = axes.get_shared_x_axes().get_siblings(axes)
            assert picture or any(a.get_xlabel() or a.get_ylabel() for a in shared)
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text)]
        assert min(sizes) >= 9


def test_functions_with_axes_make_no_figure():
    axes = plt.subplots()[1]
    plotting.plot_against_ensemble_size(sweep(), "nll", axes)
    plotting.plot_signatures({"a": np.ones((2, 3))}, axes)
    assert len(plt.get_fignums()) == 1


def test_colours_are_fixed_whatever_is_drawn_beside_them():
    colours = plotting._colours(["mine", "dice", "yours", "mine"], plotting.LOSS_COLOURS)
    assert list(colours) == ["dice", "mine", "yours"]
    assert colours["dice"] == plotting.LOSS_COLOURS["dice"]
    assert len(set(colours.values())) == 3
    assert colours["mine"] not in plotting.LOSS_COLOURS.values()
    assert set(plotting._colours(map(str, range(30)), {})) == set(map(str, range(30)))


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]


@pytest.mark.parametrize("matrix", [np.eye(3), PROTANOPIA, DEUTERANOPIA])
@pytest.mark.parametrize("family", ["METHOD_COLOURS", "LOSS_COLOURS", "DOMAIN_COLOURS"])
def test_colours_stay_apart_for_the_colour_blind(family, matrix):
    color = pytest.importorskip("skimage.color")
    rgb = np.array([to_rgb(colour) for colour in getattr(plotting, family).values()])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(matrix), 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = color.rgb2lab(seen)
    distance = color.deltaE_ciede2000(lab[:, None], lab[None])
    assert distance[~np.eye(len(lab), dtype=bool)].min() > 15
