"""Scores of anybody's probabilities: arrays in, no network and no prepared case."""

import numpy as np
import pytest
from conftest import REGIONS

from segcal_lite.calibration import (
    CalibrationSums,
    brier_score,
    expected_calibration_error,
    nll,
)
from segcal_lite.data.labels import region_labels, region_probs, segment_masks
from segcal_lite.entropy import mean_foreground_uncertainty, segment_entropy
from segcal_lite.experiments.scores import score_probabilities, segmentation_scores
from segcal_lite.segmentation_metrics import dice_coefficient, surface_metrics

SPACING_MM = (1.0, 1.5, 4.0)
BOX = (slice(1, 6), slice(0, 7), slice(2, 5))


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 3, (8, 7, 6))


@pytest.fixture
def probs():
    return np.random.default_rng(1).dirichlet((1, 1, 1), (8, 7, 6)).transpose(3, 0, 1, 2)


def by_name(scores):
    found = {(row["region"], row["segment"], row["metric"]): row["value"] for row in scores.rows}
    assert len(found) == len(scores.rows)
    return found


def test_scores_are_those_of_the_plain_functions(labels, probs):
    regions = {"whole": (slice(0, 8), slice(0, 7), slice(0, 6)), "box": BOX}
    scores = score_probabilities(labels, probs, SPACING_MM, ("a", "b"), regions, n_bins=5)
    found = by_name(scores)
    for region, box in regions.items():
        inside = labels[box], probs[(..., *box)]
        assert found[region, None, "nll"] == pytest.approx(nll(*inside))
        assert found[region, None, "brier"] == pytest.approx(brier_score(*inside))
        ece = expected_calibration_error(*inside, n_bins=5)
        assert found[region, None, "ece"] == pytest.approx(ece)
        assert found[region, None, "n_voxels"] == inside[0].size
        assert scores.sums[region].result().ece == found[region, None, "ece"]
    assert found["whole", None, "uncertainty"] == mean_foreground_uncertainty(probs)
    for k, segment in enumerate(("a", "b"), start=1):
        masks = labels == k, probs.argmax(axis=0) == k
        assert found["whole", segment, "segment_entropy"] == segment_entropy(probs, k)
        assert found["whole", segment, "dice"] == dice_coefficient(*masks)
        distances = surface_metrics(*masks, SPACING_MM)
        assert found["whole", segment, "hd95_mm"] == distances.hd95_mm
        assert found["whole", segment, "assd_mm"] == distances.assd_mm
        assert found["whole", segment, "n_true"] == masks[0].sum()
        assert found["whole", segment, "n_empty"] == 0


def test_a_region_may_be_a_mask_and_each_class_has_its_error(labels, probs):
    labels[:2] = -1
    mask = np.random.default_rng(2).random(labels.shape) < 0.4
    regions = {"band": mask, "box": BOX}
    found = by_name(score_probabilities(labels, probs, SPACING_MM, ("a", "b"), regions, 5))
    for region, inside in regions.items():
        known = (labels[inside] >= 0).ravel()
        values = np.stack([p[inside].ravel()[known] for p in probs])
        sums = CalibrationSums(3, 5).update(labels[inside].ravel()[known], values).result()
        for name in ("nll", "brier", "ece", "mce", "n_voxels"):
            assert found[region, None, name] == pytest.approx(getattr(sums, name), rel=1e-12)
        assert found[region, None, "n_ignored"] == known.size - known.sum()
        for k, segment in enumerate(("a", "b"), start=1):
            error = found[region, segment, "ece_class"]
            assert error == pytest.approx(sums.classwise_ece[k], rel=1e-12)


def test_masks_of_overlapping_segments(labels, probs):
    regions = REGIONS["regions"]
    targets, inside = region_labels(labels, regions), region_probs(probs, regions)
    mask = np.random.default_rng(2).random(labels.shape) < 0.4
    scores = score_probabilities(
        targets, inside, SPACING_MM, REGIONS["segments"], {"band": mask, "none": ~mask & mask}
    )
    found = by_name(scores)
    for r, segment in enumerate(REGIONS["segments"]):
        expected = nll(targets[r][mask], inside[:, r, mask])
        assert found["band", segment, "nll"] == pytest.approx(expected, rel=1e-12)
        assert np.isnan(found["none", segment, "nll"])
    assert scores.sums["band"].result().n_voxels == 2 * mask.sum()
    assert "ece_class" not in {metric for _, _, metric in found}


def test_without_regions_the_whole_is_scored(labels, probs):
    scores = score_probabilities(labels, probs, SPACING_MM, ("a", "b"))
    assert {row["region"] for row in scores.rows} == {"whole"} == set(scores.sums)
    assert by_name(scores)["whole", None, "nll"] == pytest.approx(nll(labels, probs))


def test_unannotated_voxels_are_counted_and_left_to_the_entropies(labels, probs):
    hidden = labels.copy()
    hidden[:3] = -1
    found = by_name(score_probabilities(hidden, probs, SPACING_MM, ("a", "b"), {"box": BOX}))
    known = labels[3:6, :, 2:5], probs[:, 3:6, :, 2:5]
    assert found["box", None, "nll"] == pytest.approx(nll(*known))
    assert found["box", None, "n_ignored"] == 2 * 7 * 3
    assert found["box", None, "n_voxels"] == known[0].size
    masks = segment_masks(hidden, probs.argmax(axis=0), 1)
    assert not masks[1][:3].any()
    assert found["whole", "a", "dice"] == dice_coefficient(*masks)
    assert found["whole", "a", "segment_entropy"] == segment_entropy(probs, 1)


def test_overlapping_segments_are_scored_together_and_each(labels, probs):
    labels[:3] = -1
    regions = REGIONS["regions"]
    targets, inside = region_labels(labels, regions), region_probs(probs, regions)
    scores = score_probabilities(targets, inside, SPACING_MM, REGIONS["segments"])
    found = by_name(scores)
    each = [nll(targets[r][3:], inside[:, r, 3:]) for r in range(2)]
    assert found["whole", None, "nll"] == pytest.approx(np.mean(each))
    assert found["whole", None, "n_ignored"] == 2 * 3 * 7 * 6
    for r, segment in enumerate(REGIONS["segments"]):
        assert found["whole", segment, "nll"] == pytest.approx(each[r])
        assert found["whole", segment, "n_ignored"] == 3 * 7 * 6
        assert found["whole", segment, "segment_entropy"] == segment_entropy(inside[:, r], 1)
    assert scores.sums["whole"].result().n_voxels == 2 * 5 * 7 * 6


def test_known_scores_of_masks_take_the_place_of_the_arg_max(labels, probs):
    own = score_probabilities(labels, probs, SPACING_MM, ("a", "b"))
    masks = segmentation_scores(labels, labels, SPACING_MM, ("a", "b"))
    given = score_probabilities(labels, probs, SPACING_MM, ("a", "b"), segmentation=masks)
    assert by_name(own)["whole", "a", "dice"] < 1 == by_name(given)["whole", "a", "dice"]
    assert given.segmentation == masks != own.segmentation
    of_probs = [
        {key: value for key, value in by_name(scores).items() if key[2] not in masks["a"]}
        for scores in (own, given)
    ]
    assert of_probs[0] == of_probs[1] and len(of_probs[0]) == 10 + 2  # class-wise ECE


@pytest.mark.parametrize("segments", [("a",), ("a", "b", "c"), ("a", "a")])
def test_another_number_of_segments_is_refused(labels, probs, segments):
    with pytest.raises(ValueError, match=r"segments: found \[.*\], expected 2 names"):
        score_probabilities(labels, probs, SPACING_MM, segments)


def test_labels_on_another_grid_are_refused_by_name(labels, probs):
    for other in (labels[:, :, :5], labels[:, :, :1]):  # the last would broadcast
        with pytest.raises(ValueError, match=r"found .*shape .*, expected"):
            score_probabilities(other, probs, SPACING_MM, ("a", "b"))
