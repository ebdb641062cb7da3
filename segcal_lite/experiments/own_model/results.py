"""The tables that an evaluation of somebody's predictions ends with."""

from collections import Counter, defaultdict

import numpy as np
import pandas as pd

from ..._checks import named
from ...calibration import CalibrationSums, ReliabilityBins
from ...data.predictions.orders import WITHOUT_FOREGROUND
from ...data.volumes import without_numbers
from ...report.own_tables import UNPLACED
from ...report.review import expected_dice, expected_volume, fit_dice, fit_volume
from ...runs.arrays import read_arrays
from ...runs.tables import write_table
from ..case_scores import sums_key
from .correction import METHODS as CORRECTIONS
from .inputs import GROUPS
from .labelled_cases import read_rows
from .tables import own_tables

COUNTS = {  # what `members.COUNTED` means, in words
    "n_all_zero": "voxels to which no class has a probability count as certain background",
    "n_differ": "voxels differ between the arg max and the segmentation beside (postprocessing)",
    "n_floored": "voxels have a probability below 1e-12 of the true class, mostly 0, and the "
    "floor of the NLL decides",
    "is_float16": "predictions are float16: a true class at 0 may be rounding, and the floor of "
    "the NLL decides",
}
OPTIONAL = ("reliability", "reliability_cases", "review", "oodm")  # tables


def write_results(judging, facts, patients, is_corrected, new_facts, far=None):
    """Write the tables of scores, and the list of new cases to review.

    `far` is what `signatures.distances` returns, where there are signatures.
    """
    scores = _scores_table(judging, facts, patients, is_corrected)
    if far is not None:
        scores = pd.concat([scores, _oodm_rows(judging, far, patients)], ignore_index=True)
    tables = {"scores": scores} | own_tables(scores, judging.seed)
    if judging.has_probabilities:
        tables |= _reliability_tables(judging, facts, is_corrected)
    if new_facts:
        tables["review"] = review_table(scores, judging, new_facts)
    if far is not None:
        tables["oodm"] = far
        if new_facts:
            of_new = far.loc[far.group == "new", ["case", "oodm", "is_ood"]]
            tables["review"] = tables["review"].merge(of_new, on="case", how="left")
    for name in OPTIONAL:  # of an earlier call that had them
        (judging.out / "tables" / f"{name}.csv").unlink(missing_ok=True)
    for name, table in tables.items():
        write_table(judging.out / "tables" / f"{name}.csv", table)


def review_table(scores, judging, new_facts):
    """Return the new cases, the most doubtful first, and what is to be expected of each.

    The order is that of the mean segment entropy, or from hard labels of the members'
    disagreement; where nothing is predicted there is neither, and such a case comes first.
    """
    lines, rows = _lines(scores, judging.uncorrected), []
    for case, facts in new_facts.items():
        row, of_segments = {"case": case.name}, facts["segments"]
        entropies = [of.get("segment_entropy", np.nan) for of in of_segments.values()]
        agreement = [of["pairwise_dice"] for of in of_segments.values() if "pairwise_dice" in of]
        row["score"] = _mean(entropies) if "uncertainty" in facts else 1 - _mean(agreement)
        row |= {"uncertainty": facts.get("uncertainty"), "pairwise_dice": _mean(agreement)}
        for segment, found in of_segments.items():
            row |= _expected_of(segment, found, lines[segment])
        rows.append(row)
    table = pd.DataFrame(rows).sort_values("score", ascending=False, na_position="first")
    table.insert(0, "rank", range(1, len(table) + 1))
    unknown = [name for name in ("uncertainty", "pairwise_dice") if table[name].isna().all()]
    return table.drop(columns=unknown)  # of hard labels, and of a single member


def _mean(values):
    """The mean of those that are no NaN, NaN where there are none."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def _lines(scores, method):
    """Fit, for each segment, lines of Dice and volume to the labelled cases."""
    rows = scores[(scores.method == method) & (scores.region == "whole") & scores.segment.notna()]
    rows = rows[rows["member"] == 0]
    lines = {}
    for segment, of in rows.groupby("segment", sort=False):
        wide = of.pivot(index=["case", "patient"], columns="metric", values="value").reset_index()
        lines[segment] = {"volume": fit_volume(wide.predicted_ml, wide.true_ml, wide.patient)}
        if "segment_entropy" in wide:
            lines[segment]["dice"] = fit_dice(wide.segment_entropy, wide.dice, wide.patient)
    return lines


def _expected_of(segment, found, lines):
    """Columns of one segment of a new case: what was predicted, and what that lets expect."""
    row = {f"{segment} volume_ml": found["predicted_ml"]}
    expected = {"expected_ml": expected_volume(lines["volume"], found["predicted_ml"])}
    if "dice" in lines:
        row[f"{segment} segment_entropy"] = found["segment_entropy"]
        expected["expected_dice"] = expected_dice(lines["dice"], found["segment_entropy"])
    for name, (value, lo, hi) in expected.items():
        names = (f"{segment} {name}", f"{segment} {name} lo", f"{segment} {name} hi")
        row |= dict(zip(names, map(float, (value, lo, hi)), strict=True))
    return row


def _unplaced(left_out):
    """Return the labelled cases that are out since nothing was predicted in a crop, without place.

    Where the truth holds a segment they are complete failures, so means without them flatter.
    """
    labelled = [(case, why) for case, _, why, group in left_out if group == GROUPS[0]]
    return [case for case, why in labelled if WITHOUT_FOREGROUND in why]


def write_notes(out, facts, new_facts, left_out):
    """Write what was left out and why, and what was taken for what, in how many cases."""
    table = pd.DataFrame(left_out, columns=["case", "folder", "why", "group"])
    write_table(out / "tables" / "left_out.csv", table)
    of_kind, totals = defaultdict(list), Counter()  # (note, case) by what all of a kind say
    for case, found in (facts | new_facts).items():
        notes = list(found["notes"])
        for name, words in COUNTS.items():
            if n := sum(found["counts"].get(name, ())):  # a new case has no true class
                totals[words] += n
                notes.append(words)
        for note in notes:
            of_kind[without_numbers(note)].append((note, case.name))
    if missing := _unplaced(left_out):
        of_kind[UNPLACED] = [(UNPLACED, case) for case in missing]
    table = pd.DataFrame(
        [_row_of_notes(same, totals) for same in of_kind.values()],
        columns=["note", "n_cases", "cases"],
    )
    write_table(out / "tables" / "notes.csv", table)


def _row_of_notes(same, totals):
    """Return note, number and names of cases of notes that differ in their numbers at most."""
    note, first = same[0]
    cases = list(dict.fromkeys(case for _, case in same))
    if note in totals:
        note = f"{totals[note]} {note}"
    elif len({text for text, _ in same}) > 1:
        note = f"{note} (These are the numbers of {first}; others have their own.)"
    return note, len(cases), named(cases)


def _scores_table(judging, facts, patients, is_corrected):
    """Return all rows of all cases as one long table."""
    kinds = ("scores", "corrected") if is_corrected else ("scores",)
    paths = [judging.path(kind, case, ".csv") for case in facts for kind in kinds]
    table = pd.concat(map(read_rows, paths), ignore_index=True)
    table.insert(1, "patient", table.case.map(patients))
    return table


def _oodm_rows(judging, far, patients):
    """Return the distance of each labelled case as rows of the long table."""
    rows = far.loc[far.group == "labelled", ["case", "oodm"]].rename(columns={"oodm": "value"})
    of_all = {"method": judging.uncorrected, "member": 0, "n_members": len(judging.members)}
    of_all |= {"region": "whole", "segment": None, "metric": "oodm"}
    return rows.assign(patient=rows.case.map(patients), **of_all)


def _reliability_tables(judging, facts, is_corrected):
    """Return the reliability diagrams of each method and region: of all cases together, of each.

    The baseline's have the voxels of every member, as its ECE is the mean over members.
    """
    methods = {"baseline": "scores", judging.uncorrected: "scores"}
    methods |= dict.fromkeys(CORRECTIONS if is_corrected else (), "corrected")
    together, of_cases = [], []
    for method, kind in methods.items():
        n_members = len(judging.members) if method == "baseline" else 1
        for region in judging.regions:
            paths = {case.name: judging.path(kind, case, ".npz") for case in facts}
            keys = [sums_key(method, member, region) for member in range(n_members)]
            vectors = {name: sum(read_arrays(p, *keys).values()) for name, p in paths.items()}
            together += _bins(judging, sum(vectors.values()), method, region)
            for name, vector in vectors.items():
                of_cases += _bins(judging, vector, name, method, region)
    columns = ["method", "region", *ReliabilityBins._fields]
    of_cases = pd.DataFrame(of_cases, columns=["case", *columns])
    return {
        "reliability": pd.DataFrame(together, columns=columns),
        "reliability_cases": of_cases[of_cases["count"] > 0],
    }


def _bins(judging, vector, *names):
    """Return the reliability diagram of a vector of sums: names and numbers of each bin."""
    n_classes = 2 if judging.names.regions else len(judging.names.label_values)
    sums = CalibrationSums.from_vector(vector, n_classes, judging.n_bins)
    return [(*names, *numbers) for numbers in zip(*sums.result().bins, strict=True)]
