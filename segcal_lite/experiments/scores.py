"""Class probabilities of one case in, scores out: of slices, of volumes, or of your own network.

Voxels that nobody annotated are left out of all that compares with the truth, and counted. Entropy
and uncertainty look at the prediction alone, as they will where there is no truth: they take all.
Segments that overlap are binary problems: calibration of all of them together, and of each.
"""

from typing import NamedTuple

import numpy as np

from .._checks import wrong_input
from .._loops import predicted_classes
from ..calibration import CalibrationSums, sums_by_region
from ..data.labels import binary_problems, exclusive_classes, segment_masks
from ..entropy import foreground_uncertainty, segment_entropies
from ..segmentation_metrics import dice_coefficient, surface_metrics

CALIBRATION = ("nll", "brier", "ece", "mce", "n_voxels", "n_floored")


class Scores(NamedTuple):
    """What `score_probabilities` returns."""

    rows: list  # of dict: region, metric, value, segment (None: of all together)
    sums: dict  # of CalibrationSums by region, of all segments together: to pool and to resample
    segmentation: dict  # as from `segmentation_scores`


def score_probabilities(
    targets, probs, spacing_mm, segments, regions=None, n_bins=10, segmentation=None
):
    """Reduce the class probabilities of one case to scores.

    Parameters
    ----------
    targets : int array, shape (X, Y, Z) of classes or (R, X, Y, Z) of overlapping segments
        -1 where nobody annotated.
    probs : float array, shape (K, X, Y, Z), or (2, R, X, Y, Z) of overlapping segments
        Without padding.
    spacing_mm : sequence of three float
        Voxel size.
    segments : sequence of str
        Names of the classes 1 to K - 1, or of the R segments.
    regions : dict of tuple of three slices, or of bool array of shape (X, Y, Z), optional
        Where calibration is measured; by default ``whole``. An empty region scores NaN.
    n_bins : int
        Of ECE and MCE.
    segmentation : dict, optional
        Scores of the masks where they are known: of the whole patient where a crop has cut
        foreground away, or of other probabilities with this arg max. By default
        `segmentation_scores` of the arg max of `probs`.

    Returns
    -------
    Scores
        Its metrics are, of each region, ``nll``, ``brier``, ``ece``, ``mce``, ``n_voxels``,
        ``n_floored`` and ``n_ignored``, and of each class ``ece_class`` (its class-wise ECE); in
        ``whole`` also the ``uncertainty``, and of each segment the ``segment_entropy`` and those of
        `segmentation`. Segments that overlap have the metrics of regions themselves.

    Raises
    ------
    ValueError
        If shapes, types or ranges are wrong, or `segments` are not as many as in `probs`.

    Examples
    --------
    >>> labels = np.array([0, 0, 1, 1]).reshape(4, 1, 1)
    >>> inside = np.array([0.1, 0.2, 0.6, 0.9]).reshape(4, 1, 1)
    >>> scores = score_probabilities(labels, np.stack([1 - inside, inside]), (1, 1, 5), ["organ"])
    >>> found = {row["metric"]: round(row["value"], 3) for row in scores.rows}
    >>> found["nll"], found["ece"], found["dice"]
    (0.236, 0.2, 1.0)
    """
    overlap = np.ndim(targets) == 4
    n_segments = probs.shape[1] if overlap else len(probs) - 1
    if len(set(segments)) != n_segments:
        raise wrong_input("segments", list(segments), f"{n_segments} names, as in probs")
    regions = regions or {"whole": (slice(None),) * 3}
    problems = list(binary_problems(targets, probs))
    found = [sums_by_region(*problem, regions, n_bins) for problem in problems]
    predicted = [one.predicted for one in found]
    predicted = np.stack(predicted) if overlap else predicted[0]
    rows, sums = [], {}
    for region in regions:
        sums[region] = CalibrationSums(len(probs), n_bins)
        for one in found:
            sums[region].merge(one.sums[region])
        rows += _region_rows(region, sums[region], found, segments, overlap)
    rows += metric_rows("whole", {"uncertainty": foreground_uncertainty(probs, predicted)})
    entropies = [
        entropy_nats
        for (_, of_problem), one in zip(problems, found, strict=True)
        for entropy_nats in segment_entropies(of_problem, one.predicted)
    ]
    if segmentation is None:
        segmentation = segmentation_scores(targets, predicted, spacing_mm, segments)
    known = {s: {"segment_entropy": e} for s, e in zip(segments, entropies, strict=True)}
    for segment in known | segmentation:
        metrics = known.get(segment, {}) | segmentation.get(segment, {})
        rows += metric_rows("whole", metrics, segment)
    return Scores(rows, sums, segmentation)


def metric_rows(region, metrics, segment=None):
    """One row a metric."""
    return [
        {"region": region, "metric": metric, "value": value, "segment": segment}
        for metric, value in metrics.items()
    ]


def _region_rows(region, together, found, segments, overlap):
    """Rows of a region: of all segments together, then of each class, or of each binary problem."""
    rows = metric_rows(region, _metrics(together, sum(one.n_ignored[region] for one in found)))
    if overlap:
        of_segments = [_metrics(one.sums[region], one.n_ignored[region]) for one in found]
    else:
        errors = together.result().classwise_ece[1:]
        of_segments = [{"ece_class": float(error)} for error in errors]
    for segment, metrics in zip(segments, of_segments, strict=True):
        rows += metric_rows(region, metrics, segment)
    return rows


def _metrics(sums, n_ignored):
    """Calibration of a region by name, with how many of its voxels nobody annotated."""
    result = sums.result()
    return {name: getattr(result, name) for name in CALIBRATION} | {"n_ignored": n_ignored}


def segmentation_scores(targets, predicted, spacing_mm, segments):
    """Return, by segment, Dice, distances, the number of empty masks and of true voxels."""
    scores = {}
    for k, segment in enumerate(segments, start=1):
        masks = segment_masks(targets, predicted, k)
        # On a single slice distances are in its plane, else every voxel would be surface.
        surfaces = [mask[..., 0] for mask in masks] if masks[0].shape[-1] == 1 else masks
        distances = surface_metrics(*surfaces, spacing_mm[: surfaces[0].ndim])
        scores[segment] = {
            "dice": dice_coefficient(*masks),
            **distances._asdict(),
            "n_empty": sum(not mask.any() for mask in masks),
            "n_true": np.count_nonzero(masks[0]),
        }
    return scores


def score_case(case, probs, segments, n_bins, region_order=(), segmentation=None):
    """`score_probabilities` of a prepared case, without padding; masks are of the whole patient."""
    whole = case.regions["whole"]
    starts = [part.start for part in whole]
    regions = {
        name: tuple(slice(p.start - s, p.stop - s) for p, s in zip(box, starts, strict=True))
        for name, box in case.regions.items()
    }
    if segmentation is None:
        segmentation = _patient_segmentation(case, predicted_classes(probs), segments, region_order)
    of_case = case.targets[(..., *whole)], probs, case.spacing_mm, segments
    return score_probabilities(*of_case, regions, n_bins, segmentation)


def _patient_segmentation(case, predicted, segments, region_order):
    """Scores of masks in which what the crop has cut away counts as missed."""
    on_patient = case.on_patient(predicted)
    scores = segmentation_scores(case.patient_targets, on_patient, case.spacing_mm, segments)
    if region_order:
        left = case.on_patient(exclusive_classes(predicted, region_order))
        for k in sorted(set(region_order)):
            dice = dice_coefficient(*segment_masks(case.patient_labels, left, k))
            scores.setdefault(f"class {k}", {})["dice_exclusive"] = dice
    return scores
