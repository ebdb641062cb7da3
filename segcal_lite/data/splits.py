"""``cases.csv``, the names it may hold, and splits: by patient, never by case.

Two cases of one patient on both sides of a split would let a model be tested on what it has seen;
so would two patients with one image, who are found by the bytes of their files and then split as
one.
"""

import csv
import re
from collections import Counter
from contextlib import suppress

import numpy as np

from .._checks import check_count, check_text, composed, is_file, wrong_input
from ..runs.folders import file_digest

SPLITS = ("train", "validation", "test")
COLUMNS = ("case", "domain", "split", "patient")  # of cases.csv
OTHER_NAMES = {  # of splits, as people write them in tables, in small or capital letters
    "train": ("training", "tr"),
    "validation": ("val", "valid", "dev"),
    "test": ("testing", "ts"),
}

# What Windows takes for a device, whatever its ending.
DEVICES = r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?"

THEN = "-then-"  # in the name of a plan of training, between its stages
AND = "+"  # between the sets of a stage

LONGEST_NAME = 200  # bytes; systems take 255, with what is put before a name and behind it

# Without a task: B keeps 30 % for testing; one patient in seven of the rest validates (ours).
DEFAULT_COUNTS = (60, 10, 30)


def split_counts(counts, n_patients):
    """Scale `counts` to `n_patients`, keeping their proportions as whole patients can.

    Each of the three splits begins with one patient; every further one goes to the split that lacks
    most of its exact share (a tie: the first in order). Fewer than three patients, or a count below
    1, are a ``ValueError``.

    Examples
    --------
    >>> split_counts((40, 10, 50), 100), split_counts((40, 10, 50), 7)
    ((40, 10, 50), (3, 1, 3))
    """
    if len(counts) != len(SPLITS):
        raise wrong_input("split", f"{len(counts)} counts", f"one for each of {', '.join(SPLITS)}")
    counts = [check_count(f"split, {name}", n) for name, n in zip(SPLITS, counts, strict=True)]
    if n_patients < len(SPLITS):
        raise wrong_input("split", f"{n_patients} patients", "at least 3, one for each split")
    # Shares times sum(counts) are whole numbers: ties are ties, not rounding.
    scaled = [1] * len(SPLITS)
    for _ in range(n_patients - len(SPLITS)):
        lacks = [n * n_patients - m * sum(counts) for n, m in zip(counts, scaled, strict=True)]
        scaled[int(np.argmax(lacks))] += 1
    return tuple(scaled)


def split_by_patient(patients, counts, seed):
    """Assign every patient to one split at random: a dict of splits by patient.

    It depends on the set of names, `counts` (scaled by `split_counts`) and `seed` only, not on
    order or repetition.

    Examples
    --------
    >>> split = split_by_patient(["c", "a", "b", "d", "a"], (2, 1, 1), seed=0)
    >>> sorted(split), sorted(split.values())
    (['a', 'b', 'c', 'd'], ['test', 'train', 'train', 'validation'])
    """
    check_count("seed", seed, minimum=0)
    patients = sorted(set(patients))
    counts = split_counts(counts, len(patients))
    order = np.random.default_rng(seed).permutation(len(patients))
    names = np.repeat(SPLITS, counts).tolist()
    return {patients[index]: name for index, name in zip(order, names, strict=True)}


def check_splits(splits, patients):
    """Raise unless each patient is in one split and every split has a patient.

    Cases that are all for testing pass: an external test set needs no training.

    Examples
    --------
    >>> check_splits(["test", "test"], ["a", "b"])
    >>> check_splits(["train", "test"], ["a", "a"])
    Traceback (most recent call last):
    ValueError: patient a: found cases in test and train, expected one split.
    """
    splits_of = {}
    for split, patient in zip(splits, patients, strict=True):
        splits_of.setdefault(patient, set()).add(split)
    for patient, found in splits_of.items():
        if len(found) > 1:
            found = " and ".join(sorted(found))
            raise wrong_input(f"patient {patient}", f"cases in {found}", "one split")
    empty = [name for name in SPLITS if name not in set(splits)]
    if empty and set(splits) != {"test"}:
        raise wrong_input(f"split {empty[0]}", "no patient", "at least one (or test cases only)")


def check_name(what, name):
    """Return `name` if it can only name a file in one folder: no separator, no "..", not hidden.

    What Windows would rename or take for a device is refused on every system. It is returned as
    `_checks.composed` writes it: what looks the same is the same case.

    Examples
    --------
    >>> check_name("case", "patient001")
    'patient001'
    >>> check_name("case", "../patient001")
    Traceback (most recent call last):
    ValueError: case: found '../patient001', expected a plain name without separators or '..'.
    """
    pattern = r"[^./\\:\s\x00-\x1f\ud800-\udfff][^/\\:\x00-\x1f\ud800-\udfff]*"
    plain = isinstance(name, str) and re.fullmatch(pattern, name)
    if not plain or ".." in name:
        raise wrong_input(what, repr(name), "a plain name without separators or '..'")
    if name.endswith((".", " ")) or re.fullmatch(DEVICES, name):
        raise wrong_input(what, repr(name), "a name that every system can write as it is")
    if len(name.encode()) > LONGEST_NAME:
        found = f"{name[:20]!r}... of {len(name.encode())} bytes"
        raise wrong_input(what, found, f"at most {LONGEST_NAME}")
    return composed(name)


def check_set_name(what, name):
    """Return the name of a set as `check_name`, refusing what parts the sets in names of plans.

    A network of the one set ``liver+tumour`` would be taken for one of two sets.

    Examples
    --------
    >>> check_set_name("set", "liver_tumour")
    'liver_tumour'
    >>> check_set_name("set", "liver+tumour")
    Traceback (most recent call last):
    ValueError: set: found 'liver+tumour', expected a name without + and -then-.
    """
    # In small letters, as some disks take folders; at the ends, as half of it may come from others.
    if AND in check_text(what, name) or THEN in f"-{name}-".casefold():
        raise wrong_input(what, repr(name), f"a name without {AND} and {THEN}")
    return check_name(what, name)


def check_not_all(what, name):
    """Refuse a domain or segment called all: tables call so what is of every one."""
    if name.lower() == "all":
        raise wrong_input(what, repr(name), "another name: all stands for every one")


def split_named(what, name):
    """Return the split that `name` means; `what` is named where there is none.

    Examples
    --------
    >>> split_named("split", "Val"), split_named("split", "train")
    ('validation', 'train')
    """
    meant = {other: split for split in SPLITS for other in (split, *OTHER_NAMES[split])}
    if name.lower() not in meant:
        raise wrong_input(what, repr(name), "one of " + ", ".join(meant))
    return meant[name.lower()]


def check_unique(what, names):
    """Raise if a name in `names` is listed twice, or as ``a`` and ``A``; `what` lists them.

    Where upper and lower case do not tell files apart, the second would be taken for the first.
    """
    n_times = Counter(names)
    twice = sorted(name for name, n in n_times.items() if n > 1)
    if twice:
        raise wrong_input(what, f"{twice[0]} {n_times[twice[0]]} times", "each case once")
    first = {}
    for name in names:
        same = first.setdefault(composed(name).casefold(), name)
        if same != name:
            expected = "names that differ by more than upper and lower case"
            raise wrong_input(what, f"{same!r} and {name!r}", expected)


def check_groups(what, patients, domains):
    """Refuse patients, or domains, of cases that differ in capitals only, and a domain called all.

    `what` lists the cases, each of which has one of both.
    """
    for kind, names in (("patient", patients), ("domain", domains)):
        check_unique(f"{what}, {kind}", list(dict.fromkeys(names)))
    for name in domains:
        check_not_all(f"{what}, domain", name)


def read_cells(path, separator=","):
    """Return number and cells of each line of a table; lines of empty cells are no rows."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise wrong_input(path, f"unreadable text ({error})", "a table in UTF-8") from error
    return [(number, cells) for number, cells in lines if any(cells)]


def fitting_cells(what, columns, cells):
    """Return the cells of one line that have a column; spreadsheets leave empty ones behind them.

    Examples
    --------
    >>> fitting_cells("line 2", ["case", "split"], ["a", "train", "", ""])
    ['a', 'train']
    """
    if any(cells[len(columns) :]):
        raise wrong_input(what, f"{len(cells)} cells", f"{len(columns)}: {', '.join(columns)}")
    return cells[: len(columns)]


def check_commas(path, columns):
    """Refuse column names parted by semicolons, as spreadsheets do where numbers have commas."""
    together = next((name for name in columns if ";" in name), None)
    if together is not None:
        raise wrong_input(path, f"semicolons in {together}", "commas between the cells")


def read_case_table(path, needed=("case",)):
    """Read a ``cases.csv``, a dict a row with what is `needed`; ``None`` if there is no such file.

    Columns are ``case``, and if wanted ``domain``, ``split``, ``patient``; names of these and of
    splits may be in small or capital letters, further columns are kept. What is malformed is a
    ``ValueError`` that names file and line.
    """
    if not is_file(path):
        return None
    lines = read_cells(path)
    header = lines[0][1] if lines else []
    while header and not header[-1]:  # as spreadsheets leave them
        header = header[:-1]
    columns = [name.lower() if name.lower() in COLUMNS else name for name in header]
    _check_header(path, columns, needed)
    if len(lines) == 1:
        raise wrong_input(path, "no case", "at least one row below the column names")
    rows = [_check_row(f"{path}, line {number}", columns, cells) for number, cells in lines[1:]]
    check_unique(path, [row["case"] for row in rows])
    check_groups(path, *([row.get(name, "") for row in rows] for name in ("patient", "domain")))
    return rows


def _check_header(path, columns, needed):
    """Refuse column names of which one is lacking or there twice, or that nothing has parted."""
    if {*needed} <= {*columns} and len(set(columns)) == len(columns):
        return
    check_commas(path, columns)
    others = [name for name in COLUMNS if name not in needed]
    expected = f"{', '.join(needed)}, and if wanted {', '.join(others)}, each once"
    raise wrong_input(path, f"columns {columns}", expected)


def _check_row(what, columns, cells):
    """Return one row of ``cases.csv`` as a dict."""
    cells = fitting_cells(what, columns, cells)
    if len(cells) < len(columns):
        raise wrong_input(what, f"{len(cells)} cells", f"{len(columns)}: {', '.join(columns)}")
    row = dict(zip(columns, cells, strict=True))
    row["case"] = check_name(f"{what}, case", row["case"])
    if "split" in row:
        row["split"] = split_named(f"{what}, split", row["split"])
    for column in ("domain", "patient"):
        if row.get(column) == "":
            raise wrong_input(f"{what}, {column}", "an empty cell", f"a {column}")
        if column in row:
            row[column] = composed(row[column])
    return row


def same_images(paths_of):
    """Return groups of names of cases whose image files are equal byte by byte, channel by channel.

    `paths_of` has the image files of each case by name; a case that lacks one, or has an empty one,
    is passed over. Files are opened only where all their sizes agree with another case's, so that
    compressed datasets cost next to nothing.

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
    for key in (  # each costs more, and is asked of fewer
        lambda paths: tuple(path.stat().st_size for path in paths),
        lambda paths: file_digest(paths[0]),
        lambda paths: tuple(map(file_digest, paths)),
    ):
        groups = [part for group in groups for part in _parts(group, paths_of, key)]
    return groups


def _parts(group, paths_of, key):
    """Divide a group by the keys of its files; parts of one case are dropped."""
    parts = {}
    for name in group:
        with suppress(OSError):  # who opens the volume will say so
            parts.setdefault(key(paths_of[name]), []).append(name)
    return [tuple(part) for part in parts.values() if len(part) > 1]


def _has_bytes(path):
    with suppress(OSError):
        return path.is_file() and path.stat().st_size > 0
    return False


def join_patients(patient_of, groups):
    """Return the patient of each case where cases of one image have one: the first of them by name.

    Examples
    --------
    >>> join_patients({"a": "p", "b": "q", "c": "q", "d": "r"}, [("a", "b")])
    {'a': 'p', 'b': 'p', 'c': 'p', 'd': 'r'}
    """
    first_of, patients_of = {}, {}  # of patients who were joined, and of the first of them
    for group in groups:
        firsts = {first_of.get(patient_of[name], patient_of[name]) for name in group}
        joined = set().union(*(patients_of.pop(first, {first}) for first in firsts))
        patients_of[min(firsts)] = joined
        first_of |= dict.fromkeys(joined, min(firsts))
    return {name: first_of.get(patient, patient) for name, patient in patient_of.items()}


def keep_together(rows, groups):
    """Give cases of one image one patient, where splits are to be drawn; return rows and notes.

    `rows` are those of `read_case_table`, `groups` those of `same_images`. A note tells of each
    group, and where given splits part it. Fewer than three patients that are left are a
    ``ValueError``.

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
