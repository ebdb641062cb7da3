"""One case of somebody's predictions: its scores, and the voxels that corrections are fitted to.

Members come one by one: each is read, scored and dropped, only the sum of their probabilities and
their masks stay. What a case leaves on disk is small, but for probabilities that wait for their
correction. Its facts, written last, say which files it was made from: with other files, or another
correction, it is made again.
"""

import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
import pandas as pd

from ...data.cases import label_classes
from ...data.labels import LabelNames, region_labels, segment_masks, state_of_file
from ...data.volumes import doubts_noted, foreground_box, read_label
from ...runs.arrays import write_arrays
from ...runs.claims import claimed
from ...runs.folders import as_json_values, read_json, write_json, written_aside
from ...runs.tables import check_columns, is_sealed, read_table, write_table
from ...segmentation_metrics import boundary_band
from ..case_scores import sums_key
from ..scores import metric_rows, score_probabilities, segmentation_scores
from .correction import CORRECTED, METHODS, corrected, draw_voxels, write_corrected
from .members import combine, facts_of, pairwise_agreement, volumes_ml

KEPT = ".kept"  # folder of probabilities on their way to a correction
LAYOUT = 3  # of what a case leaves; where it changes, cases are scored again
REGIONS = ("whole", "box", "band")
OF_MASKS = ("dice", "hd95_mm", "assd_mm", "n_empty", "n_true")  # what no temperature changes


@dataclass(frozen=True)
class Judging:
    """How cases are judged: what a worker needs beside the case, no arrays."""

    out: Path
    names: LabelNames
    members: tuple  # of PredictionFolder
    members_averaged: str
    regions: tuple  # of `REGIONS`
    n_bins: int
    box_mm: float
    band_mm: float
    seed: int
    n_voxels: int = 0  # of a case, that corrections are fitted to
    keeps_probs: bool = False  # of all members together, from scoring to correction

    @property
    def has_probabilities(self):
        """Whether members say how sure they are; hard labels alone do not."""
        return self.members[0].has_probabilities

    @property
    def uncorrected(self):
        """The method whose probabilities are corrected: the ensemble, or the one member."""
        has_ensemble = len(self.members) > 1 and self.has_probabilities
        return "ensemble" if has_ensemble else "baseline"

    def only(self, case):
        """The same for one case."""
        return replace(self, members=tuple(member.only(case.name) for member in self.members))

    def path(self, kind, case, suffix):
        """Where something of a case lies."""
        return self.out / kind / f"{case.name}{suffix}"


def score_own_case(judging, case):
    """Score all members of a labelled case and their ensemble; return its facts, or why not."""
    return made(judging, case, "scores", {}, _score)


def score_corrected_case(judging, case, correction, write):
    """Score the corrected probabilities of a labelled case; write those by the methods `write`."""
    asked = {"correction": correction.to_json(), "write": write}
    return made(judging, case, "corrected", asked, _score_corrected, correction, write)


def made(judging, case, kind, asked, make, *arguments):
    """Return the facts of a case, made unless they stand there whole, of the same files and asks.

    What is wrong with a case comes back as ``{"why": sentence, "folder": where}``: others go on
    without it.
    """
    path = judging.path(kind, case, ".json")
    with claimed(path.parent, f".claim-{case.name}"):
        try:
            state = {"files": _state(judging, case), "members": _read_as(judging)}
            asked = as_json_values(asked | {"layout": LAYOUT} | state)
            with suppress(ValueError, FileNotFoundError):  # damaged or missing: it is made again
                facts = read_json(path, shape={"asked": dict})
                if _answers(facts["asked"], asked) and _is_whole(judging, kind, case, asked):
                    return facts
            facts = make(judging, case, *arguments) | {"asked": asked}
        except ValueError as error:
            return {"why": str(error), "folder": _folder_at_fault(judging, case, str(error))}
        write_json(path, facts, sealed=True)
    return as_json_values(facts)


def _folder_at_fault(judging, case, why):
    """Return which of the folders that a case is read from a sentence names, members first."""
    folders = [member.path for member in judging.members]
    folders += [path.parent for path in case.paths]
    named = (folder for folder in folders if re.search(rf"{re.escape(str(folder))}(?![\w.-])", why))
    return str(next(named, folders[0]))


def _answers(made_for, asked):
    """Whether facts are of the same files and asks; that more was written does no harm."""
    rest = [{k: v for k, v in of.items() if k != "write"} for of in (made_for, asked)]
    return rest[0] == rest[1] and {*asked.get("write", ())} <= {*made_for.get("write", ())}


def _is_whole(judging, kind, case, asked):
    """Whether what a case leaves beside its facts is there, and none of it cut short."""
    methods = asked["write"] if asked.get("correction") else ()
    if not all(written_path(judging, case, method).exists() for method in methods):
        return False
    has_voxels = kind == "scores" and judging.has_probabilities
    arrays = [judging.path(name, case, ".npz") for name in (kind, "voxels")[: 1 + has_voxels]]
    has_rows = kind == "new" or is_sealed(judging.path(kind, case, ".csv"))
    return has_rows and all(map(is_zipfile, arrays))


def _state(judging, case):
    """What changes when a file of a case is written anew."""
    paths = [case.label_path] if case.label_path else []
    paths += [path for member in judging.members for path in member.files_of(case.name)]
    paths += [] if case.label_path else case.image_paths[:1]  # what is shown of a new case
    return [state_of_file(path) for path in paths]


def _read_as(judging):
    """How each folder's files are read: its ``dataset.json`` and ``plans.json`` may be mended."""
    names = ("form", "order", "added_to", "reader", "is_one_hot")
    read_as = [{name: getattr(of, name) for name in names} for of in judging.members]
    return [how | asdict(of.names) for how, of in zip(read_as, judging.members, strict=True)]


def written_path(judging, case, method):
    """Where the corrected probabilities of a case are written."""
    return judging.path(f"{CORRECTED}/{method}", case, ".nii.gz")


def write_or_remove(judging, case, method, probs, affine):
    """Write corrected probabilities; None: remove those of an earlier call, which were others."""
    path = written_path(judging, case, method)
    if probs is None:
        path.unlink(missing_ok=True)
    else:
        write_corrected(path, probs, affine)


def _score(judging, case):
    """Write the rows and sums of a labelled case, and the voxels drawn from it."""
    rows, sums, notes = [], {}, []
    label, targets = read_targets(judging.names, case, notes)
    regions = _regions(judging, targets, label.spacing_mm)

    def add(probs, method, member, n_members):
        scores = _scores(judging, targets, probs, label.spacing_mm, regions)
        labelled = {"method": method, "member": member, "n_members": n_members}
        rows.extend(labelled | row for row in scores.rows)
        for region, found in scores.sums.items():
            sums[sums_key(method, member, region)] = found.as_vector()

    def add_member(member, prediction):
        if prediction.probs is not None:
            add(prediction.probs, "baseline", member, 1)
            return
        labelled = {"method": "baseline", "member": member, "n_members": 1}
        segments = judging.names.segments
        found = segmentation_scores(targets, prediction.predicted, label.spacing_mm, segments)
        for segment, metrics in found.items():
            rows.extend(labelled | row for row in metric_rows("whole", metrics, segment))

    together = combine(judging, case, label, add_member)
    if together.probs is not None:
        if judging.uncorrected == "ensemble":
            add(together.probs, "ensemble", 0, len(judging.members))
        drawn = draw_voxels(targets, together.probs, judging.n_voxels, judging.seed)
        write_arrays(judging.path("voxels", case, ".npz"), **drawn._asdict())
        _keep(judging, case, together.probs)
    of_all = {"method": judging.uncorrected, "member": 0, "n_members": len(judging.members)}
    agreement, segments = pairwise_agreement(judging, together.masks), judging.names.segments
    true = volumes_ml(segments, targets, targets, label.spacing_mm)
    predicted = volumes_ml(segments, targets, together.predicted, label.spacing_mm)
    for segment in segments:
        metrics = {"true_ml": true[segment], "predicted_ml": predicted[segment]}
        metrics |= agreement.get(segment, {})
        rows.extend(of_all | row for row in metric_rows("whole", metrics, segment))
    _write(judging, case, "scores", rows, sums)
    facts = facts_of(together, notes)
    facts["counts"]["n_floored"] = _floored(rows, judging.regions[0])
    return facts


def _floored(rows, region):
    """Return in how many voxels each member gives the true class a probability of 0."""
    wanted = {"method": "baseline", "region": region, "segment": None, "metric": "n_floored"}
    return [row["value"] for row in rows if {name: row[name] for name in wanted} == wanted]


def _score_corrected(judging, case, correction, write):
    """Write the rows and sums of what corrections make of a labelled case."""
    label, targets = read_targets(judging.names, case, [])  # noted when it was scored
    regions = _regions(judging, targets, label.spacing_mm)
    kept = judging.path(KEPT, case, ".npy")
    probs = np.load(kept) if kept.exists() else combine(judging, case, label).probs
    rows, sums, known = [], {}, None
    for method in METHODS:
        changed = corrected(probs, correction, method)
        write_or_remove(judging, case, method, changed if method in write else None, label.affine)
        # a temperature leaves the arg max, and so the masks, as they were
        known = _known_masks(judging, case) if method == "temperature" else None
        scores = _scores(judging, targets, changed, label.spacing_mm, regions, known)
        labelled = {"method": method, "member": 0, "n_members": len(judging.members)}
        rows.extend(labelled | row for row in scores.rows)
        sums |= {sums_key(method, 0, region): s.as_vector() for region, s in scores.sums.items()}
    _write(judging, case, "corrected", rows, sums)
    kept.unlink(missing_ok=True)
    return {}


def _keep(judging, case, probs):
    """Keep what is corrected next, where the disk has room: reading the members anew costs more."""
    path = judging.path(KEPT, case, ".npy")
    path.unlink(missing_ok=True)  # of files that were other ones
    if judging.keeps_probs:
        with written_aside(path) as partial:
            np.save(partial, probs)


def remove_kept(out):
    """Remove what no correction took: of a single patient, or of a call that did not end."""
    shutil.rmtree(out / KEPT, ignore_errors=True)


def read_targets(names, case, notes):
    """Return the label volume of a case, and what it is judged by: classes, or (R, X, Y, Z).

    What its header leaves open is added to `notes`.
    """
    with doubts_noted(notes, "label"):
        label = read_label(case.label_path)
    labels = label_classes(names, label)
    return label, region_labels(labels, names.regions) if names.regions else labels


def _regions(judging, targets, spacing_mm):
    """Return the scored regions: whole, the dilated box, and a band around true boundaries."""
    n_segments = len(judging.names.segments)
    masks = np.stack([segment_masks(targets, targets, k + 1)[0] for k in range(n_segments)])
    foreground, box = masks.any(axis=0), (slice(0, 0),) * 3
    if foreground.any():
        n_slices = max(1, int(np.ceil(judging.box_mm / spacing_mm[2] - 1e-3)))
        box = foreground_box(foreground, spacing_mm, judging.box_mm, n_slices)
    band = boundary_band(masks, spacing_mm, judging.band_mm)
    regions = {"whole": (slice(None),) * 3, "box": box, "band": band}
    return {name: regions[name] for name in judging.regions}


def _scores(judging, targets, probs, spacing_mm, regions, known=None):
    """`score_probabilities` as this evaluation asks."""
    segments, n_bins = judging.names.segments, judging.n_bins
    return score_probabilities(targets, probs, spacing_mm, segments, regions, n_bins, known)


def _known_masks(judging, case):
    """Return the segmentation scores that a case's probabilities had before they were corrected."""
    table = read_rows(judging.path("scores", case, ".csv"))
    rows = table[(table.method == judging.uncorrected) & table.metric.isin(OF_MASKS)]
    by_segment = rows.groupby("segment", sort=False)
    return {segment: dict(zip(of.metric, of.value, strict=True)) for segment, of in by_segment}


def read_rows(path):
    """Return the scores that a case left."""
    table = read_table(path, sealed=True)
    return check_columns(path, table, numbers=["value"], texts=["case", "method", "metric"])


def _write(judging, case, kind, rows, sums):
    """Write the sums of a case, and its rows."""
    write_arrays(judging.path(kind, case, ".npz"), **sums)
    table = pd.DataFrame([{"case": case.name} | row for row in rows])
    write_table(judging.path(kind, case, ".csv"), table, sealed=True)
