"""Score every method on every case: one long table, and sums that pool and resample exactly.

Cases are taken one by one. All members predict a case, their scores are reduced to numbers and
sums, and the probabilities are dropped: they lie in a temporary file while the sweep needs them,
so that neither memory nor what stays on disk grows with the number of members.

Voxels that nobody annotated are left out of all that compares with the truth, and counted. Entropy
and uncertainty look at the prediction alone, as they will where there is no truth: they take all.
Regions that overlap are binary problems: calibration of all of them together, and of each.
"""

from dataclasses import asdict, dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path
from tempfile import TemporaryFile
from zipfile import is_zipfile

import numpy as np
import pandas as pd

from .._checks import IGNORED
from ..calibration import CalibrationSums
from ..data.labels import (
    annotated,
    binary_problems,
    exclusive_classes,
    segment_masks,
    segment_probs,
)
from ..data.prepared import read_prepared
from ..ensembles import SweepSums, mean_probability, selection_matrix
from ..entropy import mean_foreground_uncertainty, segment_entropy
from ..inference import mc_dropout_passes, predict_logits, softmax
from ..runs.folders import (
    as_json_values,
    is_sealed,
    read_json,
    write_json,
    write_table,
    written_aside,
)
from ..scaling import fit_temperature, fit_vector_scaling, sample_voxels, scale_logits
from ..segmentation_metrics import dice_coefficient, surface_metrics
from ..training.models import load_model

SLAB_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Scoring:
    """What a worker needs to score the models of one loss: paths and settings, no arrays.

    Attributes
    ----------
    out : path
        Scores go to ``out/scores/<loss>-<digest of these settings>/``.
    loss : str
    members, dropout_members : tuple of path
        Folders of finished models.
    segments : tuple of str
    region_order : tuple of int
        Where segments are overlapping regions, the class that each leaves; else empty.
    ensemble_sizes, n_resamples, n_passes, n_bins, seed
        From the profile, and the seed of dropout masks and of drawn ensembles.
    """

    out: Path
    loss: str
    members: tuple
    dropout_members: tuple
    segments: tuple
    ensemble_sizes: tuple
    n_resamples: int
    n_passes: int
    n_bins: int
    seed: int
    region_order: tuple = ()

    @property
    def folder(self):
        """Other settings, other folder: scores are cheap beside the models they come from."""
        settings = as_json_values(asdict(self) | {"out": ""})
        for key in ("members", "dropout_members"):
            settings[key] = [Path(path).relative_to(self.out).as_posix() for path in settings[key]]
        digest = sha256(dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        return Path(self.out) / "scores" / f"{self.loss}-{digest}"

    def holds(self, name):
        """Whether the rows and the sums of a case are there, and neither was cut short."""
        return is_sealed(self.folder / f"{name}.csv") and is_zipfile(self.folder / f"{name}.npz")


def fit_member_scalings(folder, prepared_folder, device):
    """Fit a member's scalings on the validation cases, once: the first unit of work."""
    if (folder / "scaling.json").exists():
        return
    validation = [case for case in read_prepared(prepared_folder) if case.split == "validation"]
    model, settings = load_model(folder, device)
    write_json(folder / "scaling.json", fit_scalings(model, settings.loss, validation))


def score_cases(scoring, prepared_folder, names, device):
    """Score the cases called `names` that have no scores yet: the second unit of work.

    The members' scalings are there: see `fit_member_scalings`.
    """
    cases = {case.name: case for case in read_prepared(prepared_folder)}
    waiting = [name for name in names if not scoring.holds(name)]
    if not waiting:
        return names
    members = [
        (*load_model(folder, device), read_json(folder / "scaling.json"))
        for folder in scoring.members
    ]
    dropout_models = [load_model(folder, device) for folder in scoring.dropout_members]
    for name in waiting:
        _score_case(scoring, cases[name], members, dropout_models)
    return names


def fit_scalings(model, loss, cases):
    """Temperature and vector scaling of one model, fitted on validation cases.

    Parameters
    ----------
    model : torch.nn.Module
    loss : str
    cases : list of segcal_lite.data.prepared.PreparedCase

    Returns
    -------
    dict
        ``temperature`` (float), ``scale`` and ``shift`` (lists of K); overlapping regions share
        them, with K = 2.
    """
    labels, logits = [], []
    for case in cases:
        whole = case.regions["whole"]
        case_logits = predict_logits(model, case.image, loss)[(..., *whole)]
        case_labels, case_logits = annotated(case.targets[(..., *whole)], case_logits)
        labels.append(case_labels.ravel())
        logits.append(case_logits.reshape(len(case_logits), -1))
    labels, logits = sample_voxels(np.concatenate(labels), np.concatenate(logits, axis=1))
    scale, shift = fit_vector_scaling(labels, logits)
    temperature = fit_temperature(labels, logits)
    return {"temperature": temperature, "scale": scale.tolist(), "shift": shift.tolist()}


def _score_case(scoring, case, members, dropout_models):
    """Write the sums, the sweep and, last, the rows of one case."""
    rows, sums, targets = [], {}, case.targets
    with TemporaryFile() as file:
        shape = (len(members), _n_classes(scoring), *targets.shape)
        member_probs = np.memmap(file, np.float32, "w+", shape=shape)
        for method, index, n_members, probs in _methods(scoring, case, members, dropout_models):
            labelled = {"method": method, "member": index, "n_members": n_members}
            for region, box in case.regions.items():
                inside = targets[(..., *box)], probs[(..., *box)]
                found, of_region = _calibration(scoring, *inside)
                sums[f"{method}|{index}|{region}"] = of_region.as_vector()
                rows += [labelled | {"region": region} | row for row in found]
            rows += _segment_rows(labelled, case, probs, scoring.segments)
            rows += _exclusive_rows(labelled, case, probs, scoring.region_order)
            if method == "baseline":
                member_probs[index] = probs
        rows += _sweep_rows(scoring, case, member_probs)
        del member_probs  # some systems cannot delete a file that is still mapped
    _write_scores(scoring, case, rows, sums)


def _n_classes(scoring):
    """K of the probabilities: 2 where each region is a problem of its own."""
    return 2 if scoring.region_order else len(scoring.segments) + 1


def _write_scores(scoring, case, rows, sums):
    """Write one case's sums and then its rows, whose presence says complete."""
    table = pd.DataFrame(rows)
    for name, value in (("case", case.name), ("domain", case.domain), ("loss", scoring.loss)):
        table.insert(0, name, value)
    scoring.folder.mkdir(parents=True, exist_ok=True)
    with written_aside(scoring.folder / f"{case.name}.npz") as partial:
        np.savez(partial, **sums)
    write_table(scoring.folder / f"{case.name}.csv", table, sealed=True)


def _methods(scoring, case, members, dropout_models):
    """Yield method, member's index, number of members and probabilities, one at a time."""
    n_members = len(members)
    total = 0.0
    for index, (model, settings, scaling) in enumerate(members):
        logits = predict_logits(model, case.image, settings.loss)
        probs = softmax(logits)
        total = total + probs.astype(np.float64)
        yield "baseline", index, 1, probs
        yield "temperature", index, 1, softmax(logits / np.float32(scaling["temperature"]))
        scaled = scale_logits(logits, scaling["scale"], scaling["shift"])
        yield "vector_scaling", index, 1, softmax(scaled)
    yield "ensemble", 0, n_members, (total / n_members).astype(np.float32)
    for index, (model, settings) in enumerate(dropout_models):
        seed = scoring.seed + index
        passes = mc_dropout_passes(model, case.image, settings.loss, scoring.n_passes, seed)
        yield "mc_dropout", index, 1, mean_probability(passes).astype(np.float32)
    if case.posterior is not None:
        yield "oracle", 0, 1, np.asarray(case.posterior)


def _calibration(scoring, labels, probs):
    """Rows and sums of a part of the volume: of all its problems together, and of each region."""
    total, total_ignored = CalibrationSums(_n_classes(scoring), scoring.n_bins), 0
    of_regions = []
    for segment, pair in zip(scoring.segments, binary_problems(labels, probs), strict=False):
        sums = CalibrationSums(_n_classes(scoring), scoring.n_bins).update(*annotated(*pair))
        n_ignored = np.count_nonzero(pair[0] == IGNORED)
        total, total_ignored = total.merge(sums), total_ignored + n_ignored
        if scoring.region_order:
            of_regions += [row | {"segment": segment} for row in _calibration_rows(sums, n_ignored)]
    return _calibration_rows(total, total_ignored) + of_regions, total


def _calibration_rows(sums, n_ignored):
    """Rows of the calibration metrics of the annotated voxels, and how many were not."""
    result = sums.result()
    names = ("nll", "brier", "ece", "mce", "n_voxels", "n_floored")
    values = {name: getattr(result, name) for name in names} | {"n_ignored": n_ignored}
    return [{"metric": metric, "value": value} for metric, value in values.items()]


def _segment_rows(labelled, case, probs, segments):
    """Rows of entropies on the unpadded volume, Dice and distances of the patient, by segment."""
    probs = probs[(..., *case.regions["whole"])]
    truth, predicted = case.patient_targets, case.on_patient(probs.argmax(axis=0))
    labelled = labelled | {"region": "whole"}
    rows = [labelled | {"metric": "uncertainty", "value": mean_foreground_uncertainty(probs)}]
    for k, segment in enumerate(segments, start=1):
        values = {"segment_entropy": segment_entropy(*segment_probs(probs, k))}
        if labelled["method"] != "temperature":  # the baseline's arg max, and so its masks
            masks = segment_masks(truth, predicted, k)
            values["dice"] = dice_coefficient(*masks)
            values |= _distances(*masks, case.spacing_mm)._asdict()
            values["n_empty"] = sum(not mask.any() for mask in masks)
            values["n_true"] = np.count_nonzero(masks[0])
        for metric, value in values.items():
            rows.append(labelled | {"segment": segment, "metric": metric, "value": value})
    return rows


def _distances(mask_gt, mask_pred, spacing_mm):
    """HD95 and ASSD; of a single slice in its plane, else every voxel would be surface."""
    if mask_gt.shape[-1] == 1:
        mask_gt, mask_pred, spacing_mm = mask_gt[..., 0], mask_pred[..., 0], spacing_mm[:2]
    return surface_metrics(mask_gt, mask_pred, spacing_mm)


def _exclusive_rows(labelled, case, probs, region_order):
    """Rows of the Dice of the exclusive classes that overlapping regions leave."""
    if not region_order or labelled["method"] == "temperature":
        return []
    probs, rows = probs[(..., *case.regions["whole"])], []
    predicted = case.on_patient(exclusive_classes(probs.argmax(axis=0), region_order))
    for k in sorted(set(region_order)):
        dice = dice_coefficient(*segment_masks(case.patient_labels, predicted, k))
        row = {"region": "whole", "segment": f"class {k}", "metric": "dice_exclusive"}
        rows.append(labelled | row | {"value": dice})
    return rows


def _sweep_rows(scoring, case, member_probs):
    """Rows of NLL and mean Dice of ensembles of each size drawn from the pool."""
    sizes = np.repeat(scoring.ensemble_sizes, scoring.n_resamples)
    selection = np.concatenate(
        [
            selection_matrix(len(member_probs), size, scoring.n_resamples, scoring.seed)
            for size in scoring.ensemble_sizes
        ]
    )
    rows, targets, n_problems = [], case.targets, len(scoring.region_order) or 1
    n_missed = np.split(case.n_cut_away(len(scoring.segments)), n_problems)
    for region, box in case.regions.items():
        sums = [SweepSums(selection, _n_classes(scoring), n_missed=n) for n in n_missed]
        for number, labels, probs in _slabs(targets, member_probs, box, len(selection)):
            sums[number].update(labels, probs)
        both = np.mean([one.result() for one in sums], axis=0)
        for metric, values in zip(("nll", "dice"), both, strict=True):
            for index, (n_members, value) in enumerate(zip(sizes, values, strict=True)):
                row = {"method": "sweep", "member": index % scoring.n_resamples}
                row |= {"n_members": n_members, "region": region, "metric": metric}
                rows.append(row | {"value": value})
    return rows


def _slabs(targets, member_probs, box, n_ensembles):
    """Yield, of a few sagittal planes, each problem's number, labels and members' probabilities.

    Labels are (N,), probabilities (M, K, N), of the annotated voxels.
    """
    n_members, n_classes = member_probs.shape[:2]
    plane_bytes = 4 * n_classes * targets.size // targets.shape[-3] * (n_members + n_ensembles)
    n_planes = max(1, SLAB_BYTES // plane_bytes)
    for start in range(box[0].start, box[0].stop, n_planes):
        slab = (..., slice(start, min(start + n_planes, box[0].stop)), *box[1:])
        for number, pair in enumerate(binary_problems(targets[slab], member_probs[slab])):
            labels, probs = annotated(*pair)
            probs = np.ascontiguousarray(probs).reshape(n_members, n_classes, -1)
            yield number, labels.ravel(), probs
