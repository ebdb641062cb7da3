"""Convert all cases of a source folder, side by side, and keep what is done.

What is complete is never converted again; a case that fails is named and the others go on.
"""

import errno
from concurrent.futures import as_completed
from dataclasses import replace

from segcal_lite._checks import named, wrong_input
from segcal_lite.data.layouts import case_and_channel
from segcal_lite.data.splits import check_groups, check_unique
from segcal_lite.runs.claims import claimed
from segcal_lite.runs.folders import (
    as_json_values,
    check_same_settings,
    read_json,
    remove_partial,
    write_json,
)
from segcal_lite.runs.processes import count_workers, spawned_processes

from .one_case import (
    RECORDS,
    convert_case,
    is_unchanged,
    read_record,
    remove_case,
    work_of_others,
)
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
        If `dest` is a file, or holds a conversion with other settings, classes or channels, or
        something else; if two cases of the source have one name, or names of which one ends like
        a channel of the other, or if patients, or domains, differ in capitals only.
    OSError
        If the disk is full. `KeyboardInterrupt` and this one leave the complete cases.
    """
    check_conversion(found, dest)
    with claimed(dest / RECORDS):
        write_json(dest / SETTINGS, _checked_settings(found, dest))
        for name in ("imagesTr", "labelsTr"):
            (dest / name).mkdir(exist_ok=True)
        found, records, moves, problems, others = outlook(found, dest)
        waiting = [c for c in found.cases if c.name not in records and c.name not in problems]
        n_complete = sum(case.name in records for case in found.cases)
        for line in (*moves, *_edits(records, dest)):
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
            _sweep(dest, others)
            records = complete_cases(dest)
            for line in write_tables(found, records, dest):
                report(line)
    return [records[name] for name in sorted(records)], problems


def check_conversion(found, dest):
    """Refuse what `convert` would not begin with, a ``ValueError``; nothing is written."""
    _check_names(f"{found.facts.title}, cases", found.cases)
    _check_dest(dest)
    _checked_settings(found, dest)


def _checked_settings(found, dest):
    """Return the settings of a conversion; others in `dest` are refused."""
    meanings = {
        "channels": found.channels,
        "segments": found.segments,
        "labels_from": {str(value): k for value, k in found.classes.items()},
    }
    settings = as_json_values(found.settings | meanings | {"conversion": CONVERSION})
    if (dest / SETTINGS).exists():
        check_same_settings(dest / SETTINGS, settings, _meanings_before(dest))
    return settings


def outlook(found, dest):
    """Return what is known before any volume is read; nothing is written.

    Parameters
    ----------
    found : cases.Found
    dest : Path

    Returns
    -------
    found : cases.Found
        In the splits that its cases have in `dest`.
    records : dict
        Of the complete cases, by name.
    moves : list of str
        As `settled_splits` has them.
    problems : dict
        Why a case will not be converted, or is not what it was, by name.
    others : dict
        Of these, the cases of which a volume is somebody's own work.
    """
    records = complete_cases(dest)
    cases = tuple(replace(case, stated=_stated(case, found)) for case in found.cases)
    found, moves = settled_splits(replace(found, cases=cases), records)
    others = _works_of_others(found, dest, records)
    return found, records, moves, _known_problems(found, dest, records) | others, others


def _check_names(what, cases):
    """Refuse names that two cases share, or the files of two could have, or no reader takes."""
    names = [case.name for case in cases]
    check_unique(what, names)
    check_groups(what, [case.patient for case in cases], [case.domain for case in cases])
    for name in names:
        other, channel = case_and_channel(name)
        if channel is not None and other in names:
            expected = "one of the two called otherwise: such an end tells a channel"
            raise wrong_input(what, f"{name} beside {other}", expected)


def _check_dest(dest):
    """Refuse a folder that this program did not make."""
    if dest.exists() and not dest.is_dir():
        raise wrong_input(dest, "a file", "a new folder, or one begun before")
    if dest.exists() and not (dest / RECORDS).is_dir() and any(dest.iterdir()):
        raise wrong_input(dest, "a folder with other files", "a new one, or one begun before")


def _begun(dest):
    """Names of all cases that have a record, whole or not."""
    return {path.stem for path in (dest / RECORDS).glob("*.json")}


def complete_cases(dest):
    """Return the records of all complete cases in `dest` by name, also of an earlier source."""
    records = {name: read_record(name, dest) for name in _begun(dest)}
    return {name: record for name, record in records.items() if record is not None}


def settled_splits(found, records):
    """Return `found` in the splits it has here, and lines on those that no draw alone would give.

    Patients with one image move together; who was converted stays, whoever has come since.
    """
    kept = _with_kept_splits(found, records)
    settled, lines = together(kept, records)
    if kept.split_of != found.split_of:
        fresh = together(found, {})[0].split_of
        others = [patient for patient in fresh if kept.split_of[patient] != fresh[patient]]
        if others:
            alone = "only a new DEST would split as for all who are found now"
            lines = [*lines, f"{named(others)}: in the split of their first conversion; {alone}"]
    return settled, lines


def _with_kept_splits(found, records):
    """Return `found` with each converted patient in the split it has had from the first.

    A draw depends on who is there; a patient who was converted never moves, whoever joins later.
    """
    kept = {record["patient"]: record["split"] for record in records.values()}
    return replace(found, split_of=found.split_of | kept)


def _works_of_others(found, dest, records):
    """Return by name why a case is not converted: a volume of it is somebody's own work."""
    problems = {}
    for name in (_begun(dest) | {case.name for case in found.cases}) - set(records):
        if path := work_of_others(name, dest):
            expected = f"what was written there, or nothing; remove it to convert {name}"
            problems[name] = str(wrong_input(path, "a volume of another origin", expected))
    return problems


def _meanings_before(dest):
    """Return what ``dataset.json`` says of the numbers, which older settings do not."""
    if not (dest / "dataset.json").exists():
        return {}
    told = read_json(dest / "dataset.json", shape={"channel_names": dict, "labels": dict})
    return {
        "channels": list(told["channel_names"].values()),
        "segments": [name for name in told["labels"] if name != "background"],
        "labels_from": told.get("labels_from", {}),
    }


def _edits(records, dest):
    """Yield a line for each volume that somebody has worked on: it stays as it is."""
    for record in records.values():
        for path, size in record["written"].items():
            if (dest / path).stat().st_size != size:
                again = f"remove it to convert {record['case']} anew"
                yield f"note: {dest / path} is not as it was written, and stays so; {again}"


def _stated(case, found):
    """What the source says of a case, beside its files; a drawn split is nobody's word."""
    stated = {"patient": case.patient, "domain": case.domain}
    stated |= {"spacing_mm": list(case.spacing_mm)} if case.spacing_mm else {}
    return stated | ({} if found.is_drawn else {"split": found.split_of.get(case.patient)})


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
            problems[case.name] = str(wrong_input(*changed, expected))
    return problems


def _changed(case, record):
    """Return what of a case is not what it was, and what was found; or nothing."""
    known = {name: record[name] for name in ("patient", "domain", "split")}
    stated = record.get("stated")  # which the first versions did not keep
    before = known | (stated or {})
    now = known | case.stated
    for name in (*known, *(("spacing_mm",) if stated else ())):
        if before.get(name) != now.get(name):
            return f"{name} of {case.name}", now.get(name) or "none"
    if len(case.files) != len(record["sources"]):
        return f"the files of {case.name}", f"{len(case.files)} of them"
    pairs = zip(case.files, record["sources"], strict=True)
    changed = (path for path, source in pairs if not is_unchanged(path, source))
    return next(((path, "another content") for path in changed), None)


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


def _sweep(dest, others):
    """Remove what an interrupted case left: what was begun, and files written aside.

    Volumes that were not begun here are somebody else's, and so are those of the cases `others`.
    """
    for name in ("imagesTr", "labelsTr", RECORDS):
        remove_partial(dest / name)
    for name in _begun(dest) - set(complete_cases(dest)) - set(others):
        remove_case(name, dest)
