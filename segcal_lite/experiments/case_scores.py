"""Score every method on every case: one long table, and sums that pool and resample exactly.

Cases are taken one by one. All members predict a case, their scores are reduced to numbers and
sums, and the probabilities are dropped: they lie in a temporary file while the ensembles need them,
so that neither memory nor what stays on disk grows with the number of members.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from json import dumps
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple
from zipfile import is_zipfile

import numpy as np
import pandas as pd
import torch

from .._checks import check_number, wrong_input
from ..data.labels import annotated, binary_problems
from ..data.prepared import of_split, read_prepared
from ..ensembles import SweepSums, mean_probability, selection_matrix
from ..inference import mc_dropout_passes, predict_logits, softmax
from ..runs.arrays import write_arrays
from ..runs.claims import each_claimed
from ..runs.devices import choose_device
from ..runs.folders import read_json, text_digest, write_json
from ..runs.tables import is_sealed, write_table
from ..scaling import (
    LARGEST_SCALE,
    fit_temperature,
    fit_vector_scaling,
    sample_voxels,
    scale_logits,
)
from ..training.checkpoints import trained_digest
from ..training.models import load_model
from .scores import score_case

LAYOUT = 5  # of score files; where it changes, older ones are left alone and cases scored again
SLAB_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Scoring:
    """What a worker needs to score the models of one loss: paths and settings, no arrays."""

    out: Path
    loss: str
    members: tuple  # folders of finished models
    dropout_members: tuple
    segments: tuple
    ensemble_sizes: tuple
    n_resamples: int
    n_passes: int
    n_bins: int
    seed: int  # of dropout masks and of drawn ensembles
    region_order: tuple = ()  # of overlapping regions, the class that each leaves

    @cached_property
    def folder(self):
        """Other settings or other models, other folder: scores are cheap beside the models."""
        settings = asdict(self) | {"out": "", "layout": LAYOUT}
        for key in ("members", "dropout_members"):
            settings[key] = [
                [Path(folder).relative_to(self.out).as_posix(), trained_digest(folder)]
                for folder in settings[key]
            ]
        digest = text_digest(dumps(settings, sort_keys=True), 8)
        return Path(self.out) / "scores" / f"{self.loss}-{digest}"

    @property
    def n_classes(self):
        """K of the probabilities: 2 where each segment is a problem of its own."""
        return 2 if self.region_order else len(self.segments) + 1


class ScoredCase(NamedTuple):
    """A case and how it is scored."""

    scoring: Scoring
    name: str

    def path(self, suffix):
        """Of its rows (.csv), which are written last, or of its sums (.npz)."""
        return self.scoring.folder / f"{self.name}{suffix}"

    @property
    def is_complete(self):
        """Whether rows and sums are there, and neither was cut short."""
        return is_sealed(self.path(".csv")) and is_zipfile(self.path(".npz"))


def sums_key(method, member, region):
    """Name the sums of one method, member and region in the file of a case."""
    return f"{method}|{member}|{region}"


def fit_member_scalings(folder, prepared_folder, device):
    """Fit a member's scalings on the validation cases, once: the first unit of work.

    A member that was made anew is fitted anew; fits of earlier versions do not say whose they are.
    """
    trained = trained_digest(folder)

    def is_fitted(name):
        path = folder / name
        return path.exists() and read_json(path, shape=dict).get("model", trained) == trained

    for name in each_claimed(folder, ["scaling.json"], is_fitted):
        validation = of_split(read_prepared(prepared_folder), "validation")
        model, settings = load_model(folder, device)
        scaling = fit_scalings(model, settings.loss, validation)
        write_json(folder / name, scaling | {"model": trained})


def read_scaling(folder, n_classes):
    """Return the scalings of a member as `fit_scalings` gave them; damaged ones are named."""
    path = Path(folder) / "scaling.json"
    scaling = read_json(path, shape={"temperature": float, "scale": list, "shift": list})
    lowest = {"temperature": 1 / LARGEST_SCALE, "scale": 1 / LARGEST_SCALE, "shift": -np.inf}
    try:
        for name, least in lowest.items():
            values = scaling[name] if name != "temperature" else [scaling[name]] * n_classes
            if len(values) != n_classes:
                raise wrong_input(name, f"{len(values)} numbers", f"{n_classes}")
            for value in values:
                check_number(name, value, least)
    except ValueError as error:
        expected = "that of a fit; remove it and run again"
        raise wrong_input(path, f"no scaling ({error})", expected) from error
    return scaling


def score_cases(scoring, prepared_folder, names, device):
    """Score the cases called `names` that have no scores yet: the second unit of work.

    The members' scalings are there: see `fit_member_scalings`.
    """
    cases = {case.name: case for case in read_prepared(prepared_folder)}

    def is_scored(name):
        return ScoredCase(scoring, name).is_complete

    if all(map(is_scored, names)):
        return names
    members = [
        (*load_model(folder, device), read_scaling(folder, scoring.n_classes))
        for folder in scoring.members
    ]
    dropout_models = [load_model(folder, device) for folder in scoring.dropout_members]
    for name in each_claimed(scoring.folder, names, is_scored):
        _score_case(scoring, cases[name], members, dropout_models, device)
    return names


def fit_scalings(model, loss, cases):
    """Return ``temperature``, and ``scale`` and ``shift`` (lists of K), fitted on validation cases.

    Overlapping regions share them, with K = 2.
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


def _score_case(scoring, case, members, dropout_models, device):
    """Write the sums, the sweep and, last, the rows of one case."""
    rows, sums, found = [], {}, None
    with TemporaryFile(dir=scoring.folder) as file:  # the run's disk is large enough
        shape = (len(members), scoring.n_classes, *case.targets.shape)
        methods = _methods(scoring, case, members, dropout_models, file, shape)
        for method, member, n_members, probs in methods:
            # a temperature leaves the arg max, and so the masks, of the baseline before it
            known = found.segmentation if method == "temperature" else None
            probs = probs[(..., *case.regions["whole"])]
            found = score_case(
                case, probs, scoring.segments, scoring.n_bins, scoring.region_order, known
            )
            labelled = {"method": method, "member": member, "n_members": n_members}
            rows += [labelled | row for row in found.rows]
            for region, of_region in found.sums.items():
                sums[sums_key(method, member, region)] = of_region.as_vector()
        rows += _sweep_rows(scoring, case, _mapped(file, shape), device)
    _write_scores(scoring, case, rows, sums)


def _write_scores(scoring, case, rows, sums):
    """Write one case's sums and then its rows, whose presence says complete."""
    scored = ScoredCase(scoring, case.name)
    of_case = {"loss": scoring.loss, "domain": case.domain, "case": case.name}
    write_arrays(scored.path(".npz"), **sums)
    write_table(scored.path(".csv"), pd.DataFrame([of_case | row for row in rows]), sealed=True)


def _mapped(file, shape):
    """Map the members' probabilities (M, K, *S), all of which are written.

    Written through a map they would end the process, without a word, on a disk that is full.
    """
    return np.memmap(file, np.float32, "r", shape=shape)


def _methods(scoring, case, members, dropout_models, file, shape):
    """Yield method, member's index, number of members and probabilities, one at a time.

    Writes the baseline's (M, K, *S) to `file`.
    """
    for index, (model, settings, scaling) in enumerate(members):
        logits = predict_logits(model, case.image, settings.loss)
        probs = softmax(logits)
        try:
            file.write(probs)
            file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(scoring.folder)) from error
        yield "baseline", index, 1, probs
        yield "temperature", index, 1, softmax(logits / np.float32(scaling["temperature"]))
        scaled = scale_logits(logits, scaling["scale"], scaling["shift"])
        yield "vector_scaling", index, 1, softmax(scaled)
    yield "ensemble", 0, len(members), mean_probability(_mapped(file, shape)).astype(np.float32)
    for index, (model, settings) in enumerate(dropout_models):
        seed = scoring.seed + index
        passes = mc_dropout_passes(model, case.image, settings.loss, scoring.n_passes, seed)
        yield "mc_dropout", index, 1, mean_probability(passes).astype(np.float32)
    if case.posterior is not None:
        yield "oracle", 0, 1, np.asarray(case.posterior)


def _sweep_rows(scoring, case, member_probs, device):
    """Rows of NLL, mean Dice and Brier score of ensembles of each size drawn from the pool.

    On CUDA a GPU computes them, and reads the probabilities slab by slab: they are on the host, in
    their file, because every member is scored there.
    """
    sizes = np.repeat(scoring.ensemble_sizes, scoring.n_resamples)
    drawn = scoring.n_resamples, scoring.seed
    selections = [selection_matrix(len(member_probs), m, *drawn) for m in scoring.ensemble_sizes]
    selection = np.concatenate(selections)
    if choose_device(device).type == "cuda":
        selection = torch.from_numpy(selection).to(device)
    rows, targets, n_problems = [], case.targets, len(scoring.region_order) or 1
    n_missed = np.split(case.n_cut_away(len(scoring.segments)), n_problems)
    for region, box in case.regions.items():
        sums = [SweepSums(selection, scoring.n_classes, n_missed=n) for n in n_missed]
        for number, labels, probs in _slabs(targets, member_probs, box):
            sums[number].update(labels, probs)
        found = np.mean([(*one.result(), one.brier()) for one in sums], axis=0)
        for metric, values in zip(("nll", "dice", "brier"), found, strict=True):
            for index, (n_members, value) in enumerate(zip(sizes, values, strict=True)):
                row = {"method": "sweep", "member": index % scoring.n_resamples}
                row |= {"n_members": n_members, "region": region, "metric": metric}
                rows.append(row | {"value": value})
    return rows


def _slabs(targets, member_probs, box):
    """Yield, of a few sagittal planes, each problem's number, labels and members' probabilities.

    Labels are (N,), probabilities (M, K, N), of the annotated voxels.
    """
    n_members, n_classes = member_probs.shape[:2]
    plane_bytes = 4 * n_classes * targets.size // targets.shape[-3] * n_members
    n_planes = max(1, SLAB_BYTES // plane_bytes)
    for start in range(box[0].start, box[0].stop, n_planes):
        slab = (..., slice(start, min(start + n_planes, box[0].stop)), *box[1:])
        for number, pair in enumerate(binary_problems(targets[slab], member_probs[slab])):
            labels, probs = annotated(*pair)
            probs = np.array(probs, order="C").reshape(n_members, n_classes, -1)
            yield number, labels.ravel(), probs
