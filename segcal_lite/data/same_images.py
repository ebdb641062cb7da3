"""Cases that hold the same image under two names: found by their files' bytes.

A model that has trained on an image cannot be tested on it, and no table of patients shows that
two names stand for one image. A copy of ACDC has such a pair, each with labels of its own.
"""

import hashlib

from .._checks import wrong_input
from .splits import SPLITS


def file_digest(path):
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_images(paths_of):
    """Find cases whose image files are equal byte by byte, channel by channel.

    Files are opened only where all their sizes agree with another case's, so that compressed
    datasets cost next to nothing. Equal voxels in files that differ elsewhere are not found.

    Parameters
    ----------
    paths_of : dict of str to sequence of Path
        Image files of each case, in the order of channels; a case that lacks one, or has an empty
        one, is passed over.

    Returns
    -------
    list of tuple of str
        Names of cases with one image, two or more a group, in the order given.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths_of = {name: [Path(folder) / name] for name in "abc"}
    ...     for (path,), contents in zip(paths_of.values(), (b"one", b"two", b"one")):
    ...         _ = path.write_bytes(contents)
    ...     same_images(paths_of)
    [('a', 'c')]
    """
    groups = [[name for name, paths in paths_of.items() if paths and all(map(_has_bytes, paths))]]
    for key in (_sizes, _first_digest, _digests):  # each costs more, and is asked of fewer
        groups = [part for group in groups for part in _parts(group, paths_of, key)]
    return groups


def _parts(group, paths_of, key):
    """Divide a group by the keys of its files; parts of one case are dropped."""
    parts = {}
    for name in group:
        parts.setdefault(key(paths_of[name]), []).append(name)
    return [tuple(part) for part in parts.values() if len(part) > 1]


def _has_bytes(path):
    return path.is_file() and path.stat().st_size > 0


def _sizes(paths):
    return tuple(path.stat().st_size for path in paths)


def _first_digest(paths):
    return file_digest(paths[0])


def _digests(paths):
    return tuple(map(file_digest, paths))


def join_patients(patient_of, groups):
    """Return the patient of each case, where cases of one image have one patient.

    Parameters
    ----------
    patient_of : dict of str to str
        Patient of each case.
    groups : list of tuple of str
        From `same_images`.

    Returns
    -------
    dict of str to str
        The first patient of a group, by name, stands for all patients in it.

    Examples
    --------
    >>> join_patients({"a": "p", "b": "q", "c": "q", "d": "r"}, [("a", "b")])
    {'a': 'p', 'b': 'p', 'c': 'p', 'd': 'r'}
    """
    for group in groups:
        joined = {patient_of[name] for name in group}
        first = min(joined)
        patient_of = {name: first if p in joined else p for name, p in patient_of.items()}
    return patient_of


def keep_together(rows, groups):
    """Give cases of one image one patient, where splits are still to be drawn.

    Parameters
    ----------
    rows : list of dict
        ``case`` and if known ``split``, ``patient``, as `splits.read_case_table` returns them.
    groups : list of tuple of str
        From `same_images`.

    Returns
    -------
    rows : list of dict
        With ``patient`` if there are groups and no ``split``: the first by name stands for all.
    notes : list of str
        A sentence for each group; another where the given splits part it.

    Raises
    ------
    ValueError
        If fewer than three patients are left to draw three splits from.

    Examples
    --------
    >>> rows, notes = keep_together([{"case": name} for name in "abcd"], [("b", "d")])
    >>> [row["patient"] for row in rows], notes
    (['a', 'b', 'c', 'b'], ['b and d hold the same image, which stays in one split'])
    """
    notes = [_note(group, {row["case"]: row.get("split") for row in rows}) for group in groups]
    if not groups or "split" in rows[0]:
        return rows, notes
    given = {row["case"]: row.get("patient", row["case"]) for row in rows}
    patient_of = join_patients(given, groups)
    n_left = len(set(patient_of.values()))
    if n_left < len(SPLITS) <= len(set(given.values())):
        found = f"{n_left} patients, if those with the same image count as one"
        raise wrong_input("split", found, "at least 3, or splits of your own in cases.csv")
    return [row | {"patient": patient_of[row["case"]]} for row in rows], notes


def _note(group, split_of):
    """Return a sentence about cases of one image, and what it means for their splits."""
    first_in = {split_of[name]: name for name in reversed(group)}  # one case for each split
    if len(first_in) == 1:
        named = group if len(group) < 4 else [*group[:2], f"{len(group) - 2} more"]
        return f"{' and '.join(named)} hold the same image, which stays in one split"
    named = [f"{name} ({split})" for split, name in first_in.items()]
    more = [f"{len(group) - len(named)} more"] if len(group) > len(named) else []
    cases = " and ".join([*sorted(named), *more])
    return f"{cases} hold the same image: these splits are not independent"
