"""Spectral signatures of cases, and how far these lie from the training cases.

Nobody's network is loaded here: it would come as a program and its pickle, and either can do
anything. Whoever has the network writes the signatures (`write_signatures`); two tables of numbers
are what an evaluation takes.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ..._checks import (
    check_count,
    check_text,
    check_vectors,
    composed,
    is_file,
    named,
    wrong_input,
)
from ...runs.folders import resolve_path
from ...runs.tables import read_table, write_table
from ...spectral import leave_one_out_oodm, ood_threshold, oodm

UNIT_ERROR = 1e-3  # by which a signature that was written with few digits may miss unit length
ORIGIN = ("layer", "window")  # what two tables have to agree in
MADE_BY = "a table that segcal_lite.experiments.own_model.write_signatures made"


def write_signatures(path, signatures, layer, window=None, patients=None):
    """Write the spectral signatures of cases as a table, for ``evaluate``, and what they are of.

    Parameters
    ----------
    path : path
        Ends in ``.csv``. A relative one starts from the current folder, as on the command line,
        which takes the table by the same name.
    signatures : dict of array, shape (r,)
        By the name of the case, as from `segcal_lite.sliding_window.signature_of_volume`.
    layer, window
        What it was called with, the same for all cases.
    patients : dict of str, optional
        The patient of each case, where one has several; by default each has one.

    Raises
    ------
    ValueError
        If there is none, lengths differ, a value is NaN or infinite, or `layer` is no text.

    Examples
    --------
    >>> import tempfile
    >>> path = resolve_path(tempfile.mkdtemp()) / "training.csv"
    >>> signatures = {"case_1": [0.8, 0.6], "case_2": [0.6, 0.8]}
    >>> write_signatures(path, signatures, "decoder.stages.5", window=(96, 96, 96))
    >>> read_signatures(path).loc["case_2"].tolist()
    [0.6, 0.8]
    """
    if not signatures:
        raise wrong_input("signatures", "no case", "at least one")
    length = len(next(iter(signatures.values())))
    rows = [check_vectors(case, signature, length) for case, signature in signatures.items()]
    sides = "whole" if window is None else "x".join(str(check_count("window", n)) for n in window)
    origin = {"layer": check_text("layer", layer), "window": sides}
    cases = pd.DataFrame({"case": list(signatures)})
    if patients is not None:
        absent = [case for case in signatures if pd.isna(patients.get(case))]
        if absent:
            raise wrong_input("patients", f"none of {named(absent)}", "one of each case")
        cases["patient"] = [patients[case] for case in signatures]
    cases = cases.assign(**origin)
    numbers = pd.DataFrame(rows, columns=[str(i) for i in range(1, length + 1)])
    write_table(_from_here(path), pd.concat([cases, numbers], axis=1))


def read_signatures(path):
    """Return a table of signatures, float64, by case; refuse in one sentence what is none.

    A relative path starts from the current folder, as that of `write_signatures`.
    """
    return _read(_from_here(path))[0]


def _from_here(path):
    """Return a path, which starts from the current folder: who has the network works elsewhere."""
    return resolve_path(path, start=Path.cwd())


def _read(path):
    """Return signatures by case, the patient of each, and layer and window where they are named."""
    path = resolve_path(path)
    if path.suffix.lower() != ".csv" or not is_file(path):
        raise wrong_input("signatures", f"no such table {path}", MADE_BY)
    table = read_table(path)
    if "case" in table:
        table["case"] = table.case.map(composed, na_action="ignore")
    numbers = table.drop(columns=["case", "patient", *ORIGIN], errors="ignore")
    if "case" not in table or table.case.isna().any() or numbers.empty:
        raise wrong_input(path, f"columns {', '.join(table.columns[:5])}", MADE_BY)
    if table.case.duplicated().any():
        raise wrong_input(path, f"{named(set(table.case[table.case.duplicated()]))} twice", "once")
    values, origin = numbers.to_numpy(), {}
    if values.dtype.kind not in "if" or not np.isfinite(values).all():
        raise wrong_input(path, "empty or other cells than finite numbers", MADE_BY)
    for name in table.columns.intersection(ORIGIN):
        origin[name], *others = table[name].fillna("").unique()
        if others:
            raise wrong_input(path, f"{name} {origin[name]!r} and {others[0]!r}", "one in all rows")
    lengths = np.linalg.norm(values, axis=1)
    if np.abs(lengths - 1).max() > UNIT_ERROR:
        worst = np.abs(lengths - 1).argmax()
        found = f"length {lengths[worst]:.4g} of {table.case[worst]}"
        raise wrong_input(path, found, "1: spectral signatures, a row a case")
    patients = table.patient if "patient" in table else table.case
    if patients.isna().any():
        raise wrong_input(path, "an empty cell in patient", "the patient of each, or no column")
    return numbers.set_index(table.case).astype(np.float64), patients.to_numpy(), origin


def _compare_origins(paths, origins):
    """Refuse tables of two layers or windows; return a note on those that do not name theirs."""
    for name in ORIGIN:
        first, second = (origin.get(name) for origin in origins)
        if first and second and first != second:
            expected = f"{first}, as {paths[0]} has them"
            raise wrong_input(paths[1], f"signatures of {name} {second}", expected)
    pairs = zip(paths, origins, strict=True)
    silent = [str(path) for path, origin in pairs if not all(map(origin.get, ORIGIN))]
    doubt = "layer or window not named; that both tables are of the same ones was not checked"
    return [f"{' and '.join(silent)}: {doubt}"] if silent else []


def gather_signatures(paths, cases, new_cases):
    """Return the signatures of training cases and of cases here, and notes; none if not given.

    `paths` are those of both tables, `cases` and `new_cases` names. Each new case needs a row.
    """
    if not paths:
        return None, []
    if isinstance(paths, str) or len(paths) != 2:
        raise wrong_input("signatures", paths, "two tables: of training cases, of the cases here")
    (training, here), (patients, _), origins = zip(*map(_read, paths), strict=True)
    notes = _compare_origins(paths, origins)
    if len(set(patients)) < 2:
        raise wrong_input(paths[0], f"{len(set(patients))} training patient", "at least 2")
    if training.shape[1] != here.shape[1]:
        expected = f"{training.shape[1]}, as {paths[0]} has them: of the same layer"
        raise wrong_input(paths[1], f"signatures of {here.shape[1]} numbers", expected)
    lacking = [case for case in new_cases if case not in here.index]
    if lacking:
        raise wrong_input(paths[1], f"no signature of {named(lacking)}", "one of each new case")
    others = [case for case in here.index if case not in {*cases, *new_cases}]
    here = here.drop(index=others)
    if here.empty:
        raise wrong_input(paths[1], f"only others: {named(others)}", "cases that are evaluated")
    if others:
        notes.append(f"{paths[1]}: rows of cases that are not evaluated: {named(others)}")
    return (training, here, patients), notes


def distances(signatures, cases, new_cases):
    """Return ``case, group, oodm, threshold, is_ood``: a row a case that has a signature.

    The groups are ``training`` (each against those of other patients), ``labelled`` and ``new``;
    the threshold is B's Eq. 2.
    """
    training, here, patients = signatures
    threshold, tables = ood_threshold(training, patients=patients), []
    for group, names in (("training", training.index), ("labelled", cases), ("new", new_cases)):
        of_group = training if group == "training" else here[here.index.isin(names)]
        is_own = group == "training"
        found = leave_one_out_oodm(training, patients) if is_own else oodm(of_group, training)
        tables.append(pd.DataFrame({"case": of_group.index, "group": group, "oodm": found}))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(threshold=threshold, is_ood=table.oodm > threshold)
