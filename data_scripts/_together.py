"""Patients who have the same image belong in one split, whatever was drawn."""

from collections import Counter
from dataclasses import replace

from segcal_lite.data.other_formats import voxel_files
from segcal_lite.data.splits import SPLITS, join_patients, same_images


def together(found, records):
    """Move patients with the same image into one split where the splits were drawn.

    A patient who was converted before never moves, and draws the others along. Else all go to that
    of their splits which has the fewest patients, so that none is emptied.

    Parameters
    ----------
    found : _cases.Found
    records : dict of dict
        Of the complete cases, as `_conversion.complete_cases` returns them.

    Returns
    -------
    found : _cases.Found
        With the new splits, or as it was if the splits were given.
    lines : list of str
        A sentence for each patient who moved.
    """
    if not found.is_drawn:
        return found, []
    patient_of = {case.name: case.patient for case in found.cases}
    joined = join_patients(patient_of, same_images({c.name: _files(c) for c in found.cases}))
    settled = {record["patient"] for record in records.values()}
    split_of, lines = dict(found.split_of), []
    for first in sorted(set(joined.values())):
        patients = {patient_of[name] for name in joined if joined[name] == first}
        split = _split_for(patients, split_of, settled)
        for patient in sorted(patients - settled):
            if split_of[patient] != split:
                others = " and ".join(sorted(patients - {patient}))
                lines.append(f"{patient} has the same image as {others}, and joins in {split}")
                split_of[patient] = split
    return replace(found, split_of=split_of), lines


def _split_for(patients, split_of, settled):
    """Return the split of a patient who stays, else the one with the fewest patients."""
    n_patients = Counter(split_of.values())
    candidates = {split_of[patient] for patient in patients & settled or patients}
    return min(candidates, key=lambda split: (n_patients[split], SPLITS.index(split)))


def _files(case):
    """Return the files with the voxels of a case, those of a series one by one."""
    flat = []
    for entry in case.images:
        flat += entry if isinstance(entry, tuple) else [entry]
    return [path for file in flat for path in voxel_files(file) or (file,)]
