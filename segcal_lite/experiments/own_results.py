"""The tables that an evaluation of somebody's predictions ends with."""

from collections import Counter, defaultdict

import numpy as np
import pandas as pd

from .._checks import named
from ..calibration import CalibrationSums
from ..runs.tables import read_table, write_table
from .case_scores import sums_key

CORRECTIONS = ("temperature", "vector_scaling")
REGIONS = ("whole", "box", "band")
COUNTS = {  # what `own_cases.COUNTED` means, in words
    "n_all_zero": "voxels to which no class has a probability count as certain background",
    "n_differ": "voxels differ between the arg max and the segmentation beside (postprocessing)",
    "is_float16": "predictions are float16: a true class at 0 may be rounding, and the floor of "
    "the NLL decides",
}


def write_results(judging, facts, patients, is_corrected, new_facts):
    """Write the tables of scores, and the list of new cases to review."""
    scores = _scores_table(judging, facts, patients, is_corrected)
    tables = {"scores": scores}
    ...


def write_notes(out, facts, new_facts, left_out):
    """Write what was left out and why, and what was taken for what, in how many cases."""
    table = pd.DataFrame(left_out, columns=["case", "folder", "why"])
    write_table(out / "tables" / "left_out.csv", table)
    cases_of, totals = defaultdict(list), Counter()
    for case, found in (facts | new_facts).items():
        notes = list(found["notes"])
        for name, words in COUNTS.items():
            if n := sum(found["counts"][name]):
                totals[words] += n
                notes.append(words)
        for note in notes:
            cases_of[note].append(case.name)
    rows = [
        (f"{totals[note]} {note}" if note in totals else note, len(cases), named(cases))
        for note, cases in cases_of.items()
    ]
    table = pd.DataFrame(rows, columns=["note", "n_cases", "cases"])
    write_table(out / "tables" / "notes.csv", table)


def _scores_table(judging, facts, patients, is_corrected):
    """Return all rows of all cases as one long table."""
    kinds = ("scores", "corrected") if is_corrected else ("scores",)
    paths = [judging.path(kind, case, ".csv") for case in facts for kind in kinds]
    table = pd.concat([read_table(path, sealed=True) for path in paths], ignore_index=True)
    table.insert(1, "patient", table.case.map(patients))
    return table


def _reliability_table(judging, facts, is_corrected):
    """Return the reliability diagrams of all cases together, of each method and region."""
    methods = {judging.uncorrected: "scores", "baseline": "scores"}
    methods |= dict.fromkeys(CORRECTIONS if is_corrected else (), "corrected")
    n_classes = 2 if judging.names.regions else len(judging.names.label_values)
    rows = []
    for method, kind in methods.items():
        for region in REGIONS:
            vectors = [_sums(judging.path(kind, case, ".npz"), method, region) for case in facts]
            sums = CalibrationSums.from_vector(sum(vectors), n_classes, judging.n_bins)
            bins = sums.result().bins._asdict()
            rows.append(pd.DataFrame({"method": method, "region": region} | bins))
    return pd.concat(rows, ignore_index=True)


def _sums(path, method, region):
    """Return the vector of sums that a case left, of the first member where there are several."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[sums_key(method, 0, region)]
