"""Convert all cases of a source folder, side by side, and keep what is done.

What is complete is never converted again; a case that fails is named and the others go on.
"""

import errno
import json
import multiprocessing
import signal
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from segcal_lite._checks import wrong_input
from segcal_lite.runs import check_same_settings, run_lock, write_json, write_table
from segcal_lite.splits import check_unique

from ._one_case import (
    RECORDS,
    case_files,
    convert_case,
    is_unchanged,
    read_record,
    remove_case,
)

REPORT_EVERY = 20
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


def convert(found, read, dest, workers=1, report=print):
    """Convert every case that is not complete yet, then write the tables of the dataset.

    Parameters
    ----------
    found : _cases.Found
    read : callable
        Of one case: its images and label; importable, for it goes to other processes.
    dest : Path
    workers : int
        Processes; 1 converts in this one. Each holds one case in memory.
    report : callable
        Receives lines of text.

    Returns
    -------
    records : list of dict
        Of the complete cases, by name.
    problems : dict
        Why a case is not among them, by name.

    Raises
    ------
    ValueError
        If `dest` holds a conversion with other settings, or something else, or two cases of the
        source have one name.
    OSError
        If the disk is full. `KeyboardInterrupt` and this one leave the complete cases.
    """
    check_unique(f"{found.facts.title}, cases", [case.name for case in found.cases])
    _check_dest(dest)
    with run_lock(dest / RECORDS):
        settings = dest / RECORDS / "settings.json"
        if settings.exists():
            check_same_settings(settings, found.settings)
        write_json(settings, found.settings)
        for name in ("imagesTr", "labelsTr"):
            (dest / name).mkdir(exist_ok=True)
        records = _complete(found, dest)
        problems = _known_problems(found, dest, records)
        waiting = [c for c in found.cases if c.name not in records and c.name not in problems]
        report(
            f"{len(found.cases)} cases found: {len(records)} complete, {len(waiting)} to convert, "
            f"{len(problems)} with a problem"
        )
        try:
            outcomes = _outcomes(found, read, dest, waiting, workers)
            for number, (name, problem) in enumerate(outcomes, start=1):
                if problem:
                    problems[name] = problem
                if number % REPORT_EVERY == 0 or number == len(waiting):
                    report(f"looked at {number} of {len(waiting)} cases")
        finally:
            _sweep(found, dest)
            records = _complete(found, dest)
            _write_tables(found, dest, records)
    return [records[name] for name in sorted(records)], problems


def _check_dest(dest):
    """Refuse a folder that this program did not make."""
    if dest.exists() and not (dest / RECORDS).is_dir() and any(dest.iterdir()):
        raise wrong_input(dest, "a folder with other files", "a new one, or one begun before")


def _complete(found, dest):
    """Return the records of the complete cases by name."""
    records = {case.name: read_record(case, dest) for case in found.cases}
    return {name: record for name, record in records.items() if record is not None}


def _known_problems(found, dest, records):
    """Return what is wrong before any volume is read: files that are missing, or have changed."""
    problems = {case.name: case.problem for case in found.cases if case.problem}
    for case in found.cases:
        changed = case.name in records and _changed(case, records[case.name])
        if changed and not case.problem:
            expected = f"what it was when {case.name} was converted; remove {dest} to begin anew"
            problems[case.name] = str(wrong_input(changed, "another content", expected))
    return problems


def _changed(case, record):
    """Return the first source file that is not what it was, or nothing."""
    if len(case.files) != len(record["sources"]):
        return f"the files of {case.name}"
    pairs = zip(case.files, record["sources"], strict=True)
    return next((path for path, source in pairs if not is_unchanged(path, source)), None)


def _outcomes(found, read, dest, waiting, workers):
    """Yield for each waiting case its name, and what went wrong, if anything."""
    if workers == 1 or len(waiting) < 2:
        for case in waiting:
            yield case.name, _try_case(read, case, found, dest)
        return
    with spawned(min(workers, len(waiting))) as executor:
        futures = {executor.submit(_try_case, read, c, found, dest): c.name for c in waiting}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _try_case(read, case, found, dest):
    """Convert one case; return what went wrong. Only a full disk ends the whole run."""
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # headers that `volumes` resolves by its rule
            convert_case(read, case, found, dest)
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise
        return f"{error.filename or case.name}: {error.strerror or error}."
    except ValueError as error:
        return str(error)
    return ""


@contextmanager
def spawned(n_workers):
    """Spawned processes that leave Ctrl-C to their parent and do not outlive it."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, spawn, initializer=_ignore_interrupts) as executor:
        try:
            yield executor
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            executor.shutdown(cancel_futures=True)
            raise


def _ignore_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _sweep(found, dest):
    """Remove what an interrupted case left: volumes without a record, and files written aside."""
    for name in ("imagesTr", "labelsTr", RECORDS):
        for path in (dest / name).glob(".*.*"):
            path.unlink(missing_ok=True)
    for case in found.cases:
        if read_record(case, dest) is None and any(p.exists() for p in case_files(case.name, dest)):
            remove_case(case.name, dest)


def _write_tables(found, dest, records):
    """Write dataset.json, cases.csv, sources.csv and report.csv for the complete cases."""
    complete = sorted((c for c in found.cases if c.name in records), key=lambda case: case.name)
    write_json(dest / "dataset.json", description(found, len(complete)))
    rows = [(c.name, c.domain, found.split_of[c.patient], c.patient, c.group) for c in complete]
    columns = ["case", "domain", "split", "patient", "group"]
    write_table(dest / "cases.csv", pd.DataFrame(rows, columns=columns))
    write_table(dest / "sources.csv", _sources_table(complete, records))
    write_table(dest / "report.csv", _report_table(complete, records, found.segments))


def description(found, n_cases):
    """Return what ``dataset.json`` says: nnU-Net's fields, then where the data are from."""
    facts = found.facts
    return {
        "name": facts.title,
        "channel_names": {str(c): name for c, name in enumerate(found.channels)},
        "labels": {"background": 0} | {name: k + 1 for k, name in enumerate(found.segments)},
        "numTraining": n_cases,
        "file_ending": ".nii.gz",
        "task": facts.task,
        "reference": facts.reference,
        "licence": facts.licence,
        "labels_from": {str(value): k for value, k in found.classes.items()},
        "notes": list(found.notes),
        "settings": json.loads(json.dumps(found.settings)),
    }


def _sources_table(complete, records):
    """One row a source file: two people with equal tables had equal data."""
    rows = [
        (case.name, Path(source["file"]).name, source["size"], source["sha256"])
        for case in complete
        for source in records[case.name]["sources"]
    ]
    return pd.DataFrame(rows, columns=["case", "file", "size", "sha256"])


def _report_table(complete, records, segments):
    """One row a case: grid, orientation, intensities of each channel, millilitres a segment."""
    rows = []
    for case in complete:
        record = records[case.name]
        row = {"case": case.name, "domain": case.domain, "orientation": record["orientation"]}
        row |= dict(zip(("x", "y", "z"), record["shape"], strict=True))
        row |= {f"{a}_mm": s for a, s in zip("xyz", record["spacing_mm"], strict=True)}
        for c, (low, high) in enumerate(
            zip(record["intensity_min"], record["intensity_max"], strict=True)
        ):
            row |= {f"min_{c}": low, f"max_{c}": high}
        volumes_ml = record["volumes_ml"] + [0.0] * (len(segments) - len(record["volumes_ml"]))
        row |= {f"{name}_ml": ml for name, ml in zip(segments, volumes_ml, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)
