"""Splits as the papers made them where they say how; else drawn by seed, patient by patient."""

from segcal_lite.data.splits import SPLITS, split_by_patient

COUNTS_OF_B = (60, 10, 30)  # B tests on 30 %; how it divides the rest is not printed


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
