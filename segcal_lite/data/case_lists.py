"""Which cases of a folder are in use: those that a table or list names, or else those there.

What is announced is compared with what is found, and cases can be left out by name.
"""

from pathlib import Path

from .._checks import wrong_input
from .layouts import read_layout, unread_files
from .splits import read_case_table

MOST_NAMED = 10  # names in a note; the others are counted


def case_names(folder):
    """Return the names of the cases in use, sorted, before any is left out."""
    description, _, images, labels = read_layout(Path(folder))
    rows, _ = select_cases(Path(folder), description, images, labels)
    return [row["case"] for row in rows]


def select_cases(folder, description, images, labels, leave_out=None):
    """Choose the cases: by ``cases.csv``, else by the list in ``dataset.json``, else all.

    Parameters
    ----------
    folder : Path
    description : Description or None
    images, labels : dict
        All from `layouts.read_layout`.
    leave_out : list of str, optional
        Names of cases to go on without.

    Returns
    -------
    rows : list of dict
        By name, as `splits.read_case_table` returns them.
    notes : list of str
        On cases, files and announced numbers that do not agree with them.

    Raises
    ------
    ValueError
        If there is no case, or none of a name to leave out; if ``numTraining`` counts other cases
        than there are, and no list says which are meant.
    """
    on_disk, notes = set(images) | set(labels), []
    rows, source = read_case_table(folder), "cases.csv"
    listed = description and description.training
    is_listed = bool(rows or listed)
    if rows is None:
        rows, source = [{"case": name} for name in listed or on_disk], "dataset.json"
    if not rows:
        raise wrong_input(folder, "no volume in imagesTr and labelsTr", "at least one case")
    unread = unread_files(folder, images, labels)
    if description and description.n_announced is not None:
        n_found = len(listed or on_disk)
        notes += _compare_counts(folder, description.n_announced, n_found, is_listed, unread)
    unnamed = on_disk - {row["case"] for row in rows}
    if unnamed:
        notes.append(f"{source} does not name, so left out: {named(unnamed)}")
    if unread:
        notes.append(f"files that belong to no case, not read: {named(unread)}")
    rows, left_out = _leave_out(folder, rows, check_leave_out(leave_out))
    return sorted(rows, key=lambda row: row["case"]), notes + left_out


def _leave_out(folder, rows, names):
    """Return the rows without those of `names`, and a note that says so."""
    known = {row["case"] for row in rows}
    unknown = set(names) - known
    if unknown:
        raise wrong_input("leave_out", named(unknown), f"cases of {folder}: {named(known)}")
    if len(names) == len(rows):
        raise wrong_input("leave_out", f"all cases of {folder}", "at least one that stays")
    kept = [row for row in rows if row["case"] not in names]
    return kept, [f"left out by name: {named(names)}"] if names else []


def _compare_counts(folder, n_announced, n_found, is_listed, unread):
    """Return a note where ``numTraining`` is wrong; raise where nothing else says which cases."""
    if n_announced == n_found:
        return []
    if is_listed:
        return [f"numTraining in dataset.json announces {n_announced} cases, found {n_found}"]
    found = f"{n_announced} announced and {n_found} in imagesTr and labelsTr"
    found += f" (not read: {named(unread)})" if unread else ""
    expected = "one number; add what is missing, correct it, or name the cases in cases.csv"
    raise wrong_input(folder / "dataset.json, numTraining", found, expected)


def check_leave_out(leave_out):
    """Return the names in `leave_out`, sorted; ``None`` is none.

    Examples
    --------
    >>> check_leave_out(["b", "a"]), check_leave_out(None)
    (['a', 'b'], [])
    >>> check_leave_out([2])
    Traceback (most recent call last):
    ValueError: leave_out: found [2], expected a list of names, each as text: ['a', '002'].
    """
    names = [] if leave_out is None else leave_out
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        expected = "a list of names, each as text: ['a', '002']"
        raise wrong_input("leave_out", repr(leave_out), expected)
    return sorted(set(names))


def named(names):
    """Return names in order, the first of many.

    Examples
    --------
    >>> named("ba"), named(map(str, range(12)))[-15:]
    ('a, b', '6, 7 and 2 more')
    """
    names = sorted(names)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
