"""Convert all cases of a source folder, side by side, and keep what is done.

What is complete is never converted again; a case that fails is named and the others go on.
"""

import errno
from concurrent.futures import as_completed
from dataclasses import replace

from segcal_lite._checks import wrong_input
from segcal_lite.data.splits import check_unique
from segcal_lite.runs.claims import claimed
from segcal_lite.runs.folders import check_same_settings, write_json
from segcal_lite.runs.processes import count_workers, spawned_processes

from .one_case import RECORDS, convert_case, is_unchanged, read_record, remove_case
from .report import write_tables
from .splits import together

CONVERSION = 1  # raised when the same source would give other volumes
SETTINGS = "conversion.json"
REPORT_EVERY = 20
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


def convert(found, read, dest, workers=1, report=print):
    """Convert every case that is not complete yet, then write the tables of the dataset.

    Parameters
    ----------
    found : cases.Found
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
    with claimed(dest / RECORDS):
        settings = found.settings | {"conversion": CONVERSION}
        if (dest / SETTINGS).exists():
            check_same_settings(dest / SETTINGS, settings)
        write_json(dest / SETTINGS, settings)
        for name in ("imagesTr", "labelsTr"):
            (dest / name).mkdir(exist_ok=True)
        records = complete_cases(dest)
        found, moves = together(with_kept_splits(found, records), records)
        problems = _known_problems(found, dest, records)
        waiting = [c for c in found.cases if c.name not in records and c.name not in problems]
        n_complete = sum(case.name in records for case in found.cases)
        for line in moves:
            report(line)
        report(
            f"{len(found.cases)} cases found: {n_complete} complete, {len(waiting)} to convert, "
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
            _sweep(dest)
            records = complete_cases(dest)
            write_tables(found, records, dest)
    return [records[name] for name in sorted(records)], problems


def _check_dest(dest):
    """Refuse a folder that this program did not make."""
    if dest.exists() and not (dest / RECORDS).is_dir() and any(dest.iterdir()):
        raise wrong_input(dest, "a folder with other files", "a new one, or one begun before")


def complete_cases(dest):
    """Return the records of all complete cases in `dest` by name, also of an earlier source."""
    names = (path.stem for path in (dest / RECORDS).glob("*.json"))
    records = {name: read_record(name, dest) for name in names}
    return {name: record for name, record in records.items() if record is not None}


def with_kept_splits(found, records):
    """Return `found` with each converted patient in the split it has had from the first.

    A draw depends on who is there; a patient who was converted never moves, whoever joins later.
    """
    kept = {record["patient"]: record["split"] for record in records.values()}
    return replace(found, split_of=found.split_of | kept)


def _known_problems(found, dest, records):
    """Return what is wrong before any volume is read: files that are missing, or have changed."""
    problems = {case.name: case.problem for case in found.cases if case.problem}
    for case in found.cases:
        changed = case.name in records and _changed(case, records[case.name])
        if changed and not case.problem:
            volume = dest / "labelsTr" / f"{case.name}.nii.gz"
            expected = (
                f"what it was when {case.name} was converted; remove {volume} to convert it anew"
            )
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
    workers = count_workers(min(workers, len(waiting)))
    if workers == 1:
        for case in waiting:
            yield case.name, _try_case(read, case, found, dest)
        return
    with spawned_processes(workers) as executor:
        futures = {executor.submit(_try_case, read, c, found, dest): c.name for c in waiting}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _try_case(read, case, found, dest):
    """Convert one case; return what went wrong. Only a full disk ends the whole run."""
    try:
        convert_case(read, case, found, dest)
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise
        return f"{error.filename or case.name}: {error.strerror or error}."
    except ValueError as error:
        return str(error)
    except MemoryError:
        return f"{case.name}: found too little memory, expected enough for one case a worker."
    return ""


def _sweep(dest):
    """Remove what an interrupted case left: volumes without a record, and files written aside."""
    for name in ("imagesTr", "labelsTr", RECORDS):
        for path in (dest / name).glob(".*.*"):
            path.unlink(missing_ok=True)
    complete = complete_cases(dest)
    left = {path.name.rpartition("_")[0] for path in (dest / "imagesTr").glob("*.nii.gz")}
    left |= {path.name.removesuffix(".nii.gz") for path in (dest / "labelsTr").glob("*.nii.gz")}
    left |= {path.stem for path in (dest / RECORDS).iterdir() if path.suffix in (".json", ".npz")}
    for name in left - set(complete):
        remove_case(name, dest)
