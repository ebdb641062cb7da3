"""Splits as the papers made them where they say how; else drawn by seed, patient by patient."""

from segcal_lite.same_images import join_patients, same_images
from segcal_lite.splits import SPLITS, split_by_patient

COUNTS_OF_B = (60, 10, 30)  # B tests on 30 %; how it divides the rest is not printed


def drawn(cases, counts, seed):
    """Return the split of each patient, drawn in the proportions `counts`.

    Every patient counts, also one that cannot be converted. Who has the same image as another
    follows that one, whatever was drawn.
    """
    return _together(cases, split_by_patient([case.patient for case in cases], counts, seed))


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
    return _together(cases, split_of)


def _together(cases, split_of):
    """Return the splits where patients with one image are in that of the first of them, by name."""
    paths_of = {case.name: _paths(case.images) for case in cases}
    patient_of = {case.name: case.patient for case in cases}
    joined = join_patients(patient_of, same_images(paths_of))
    return split_of | {patient_of[name]: split_of[first] for name, first in joined.items()}


def _paths(images):
    """Return the files of a case's channels, those of a series one by one."""
    return [path for entry in images for path in (entry if isinstance(entry, tuple) else [entry])]


def all_test(cases):
    """Return the split that only tests: for a set that shows what a model has never seen."""
    return {case.patient: "test" for case in cases}
