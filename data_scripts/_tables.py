"""The tables of a converted dataset: what it is, which cases, from which files, how they look."""

from pathlib import Path

import pandas as pd

from segcal_lite.runs.folders import as_json_values, write_json, write_table


def write_tables(found, records, dest):
    """Write ``dataset.json``, ``cases.csv``, ``sources.csv`` and ``report.csv``.

    Parameters
    ----------
    found : _cases.Found
    records : dict
        Of the complete cases by name.
    dest : Path
    """
    complete = [records[name] for name in sorted(records)]
    write_json(dest / "dataset.json", description(found, len(complete)))
    columns = ["case", "domain", "split", "patient", "group"]
    cases = pd.DataFrame(
        [[record[name] for name in columns] for record in complete], columns=columns
    )
    write_table(dest / "cases.csv", cases)
    write_table(dest / "sources.csv", _sources_table(complete))
    write_table(dest / "report.csv", _report_table(complete, found.segments))


def description(found, n_cases):
    """Return what ``dataset.json`` says: nnU-Net's fields, then where the data are from."""
    facts = found.facts
    return {
        "name": facts.title,
        "channel_names": {str(c): name for c, name in enumerate(found.channels)},
        "labels": {"background": 0} | {name: k + 1 for k, name in enumerate(found.segments)},
        "numTraining": n_cases,
        "file_ending": ".nii.gz",
        "task": found.task,
        "reference": facts.reference,
        "licence": facts.licence,
        "labels_from": {str(value): k for value, k in found.classes.items()},
        "notes": list(found.notes),
        "settings": as_json_values(found.settings),
    }


def _sources_table(complete):
    """One row a source file: two people with equal tables had equal data."""
    rows = [
        (record["case"], Path(source["file"]).name, source["size"], source["sha256"])
        for record in complete
        for source in record["sources"]
    ]
    return pd.DataFrame(rows, columns=["case", "file", "size", "sha256"])


def _report_table(complete, segments):
    """One row a case: grid, orientation, intensities, millilitres, what was doubtful."""
    rows = []
    for record in complete:
        row = {"case": record["case"], "domain": record["domain"]}
        row |= {"orientation": record["orientation"]}
        row |= dict(zip(("x", "y", "z"), record["shape"], strict=True))
        row |= {f"{a}_mm": s for a, s in zip("xyz", record["spacing_mm"], strict=True)}
        for bound in ("min", "max"):
            for c, value in enumerate(record[f"intensity_{bound}"]):
                row[f"{bound}_{c}"] = value
        row |= {f"{name}_ml": ml for name, ml in zip(segments, record["volumes_ml"], strict=True)}
        rows.append(row | {"doubts": " ".join(record["doubts"])})
    return pd.DataFrame(rows)
