"""Splits as the papers made them where they say how; else drawn by seed, patient by patient.

Patients who have the same image belong in one split, whatever was drawn.
"""

from collections import Counter
from dataclasses import replace

from segcal_lite.data.other_formats import voxel_files
from segcal_lite.data.splits import SPLITS, join_patients, same_images, split_by_patient

from .cases import one_by_one

COUNTS_OF_B = (60, 10, 30)  # B tests on 30 %; how it divides the rest is not printed
MOST_OTHERS = 3  # patients with the same image who are named beside one


def drawn(cases, counts, seed):
    """Return the split of each patient, drawn in the proportions `counts`.

    Every patient counts, also one that cannot be converted.
    """
    return split_by_patient([case.patient for case in cases], counts, seed)


def drawn_in_groups(cases, counts, seed):
    """As `drawn`, in each group of patients by itself; in one draw if a group is too small.

    Patients without a group (their files do not say) take part in no group's draw.
    """
    groups = {}
    for case in cases:
        groups.setdefault(case.group, set()).add(case.patient)
    unknown = groups.pop("", set())
    if not groups or min(map(len, groups.values())) < len(counts):
        return drawn(cases, counts, seed)
    split_of = dict.fromkeys(unknown, SPLITS[0])
    for index, patients in enumerate(groups.values()):
        split_of |= split_by_patient(sorted(patients), counts, seed + index)
    return split_of


def all_test(cases):
    """Return the split that only tests: for a set that shows what a model has never seen."""
    return {case.patient: "test" for case in cases}


def together(found, records):
    """Move patients with the same image into one split where the splits were drawn.

    A patient who was converted before never moves, and draws the others along. Else all go to that
    of their splits which has the fewest patients, so that none is emptied.

    Parameters
    ----------
    found : cases.Found
    records : dict of dict
        Of the complete cases, as `conversion.complete_cases` returns them.

    Returns
    -------
    found : cases.Found
        With the new splits, or as it was if the splits were given.
    lines : list of str
        A sentence for each patient who moved.
    """
    if not found.is_drawn:
        return found, []
    patient_of = {case.name: case.patient for case in found.cases}
    joined = join_patients(patient_of, same_images({c.name: _files(c) for c in found.cases}))
    settled = {record["patient"] for record in records.values()}
    split_of, lines, patients_of = dict(found.split_of), [], {}
    for name, first in joined.items():
        patients_of.setdefault(first, set()).add(patient_of[name])
    n_patients = Counter(split_of.values())
    for _, patients in sorted(patients_of.items()):
        candidates = {split_of[patient] for patient in patients & settled or patients}
        split = min(candidates, key=lambda split: (n_patients[split], SPLITS.index(split)))
        ordered = sorted(patients)
        for patient in ordered:
            if patient not in settled and split_of[patient] != split:
                others = _others(patient, ordered)
                lines.append(f"{patient} has the same image as {others}, and joins in {split}")
                n_patients.subtract([split_of[patient]])
                n_patients.update([split])
                split_of[patient] = split
    return replace(found, split_of=split_of), lines


def _others(patient, ordered):
    """Name the first of those beside a patient in a sorted list, and count the rest."""
    first = [other for other in ordered[: MOST_OTHERS + 1] if other != patient][:MOST_OTHERS]
    n_more = len(ordered) - 1 - len(first)
    return " and ".join([*first, f"{n_more} more"] if n_more else first)


def _files(case):
    """Return the files with the voxels of a case, those of a series one by one."""
    return [path for file in one_by_one(case.images) for path in voxel_files(file) or (file,)]
