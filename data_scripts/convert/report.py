"""What a conversion did: lines of text, tables, and a contact sheet with contours to look at."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from segcal_lite.data.volumes import doubt_lines
from segcal_lite.runs.folders import (
    as_json_values,
    file_digest,
    read_json,
    write_figure,
    write_json,
)
from segcal_lite.runs.tables import write_table

from .one_case import RECORDS

WRITTEN = "tables.written"  # among the records: digests of the tables as they were written
N_PICTURES = 24
N_COLUMNS = 6
CONTOUR_COLOURS = ("#ffd92f", "#66c2ff", "#ff7f7f", "#8dff8d", "#d9a6ff", "#ffb366", "#a6fff2")


def summary_lines(found, records, problems, seconds, n_converted):
    """Return the report as lines: counts, speed, spacing, intensities, volumes, what was skipped.

    Parameters
    ----------
    found : cases.Found
    records : list of dict
        Of the complete cases.
    problems : dict of str
        Sentence by name of case.
    seconds : float
        What the conversion of `n_converted` cases took.
    n_converted : int

    Returns
    -------
    list of str
    """
    n_complete = len({record["case"] for record in records} & {c.name for c in found.cases})
    lines = [f"{found.facts.title}: {len(found.cases)} cases found, {n_complete} complete"]
    if n_converted:
        lines.append(
            f"{n_converted} converted in {seconds:.1f} s: {n_converted / seconds:.1f} a second"
        )
    if records:
        lines += _ranges(found, records)
    lines += [f"note: {note}" for note in (*found.notes, *_notes(found, records))]
    lines += [f"problem with {name}: {why}" for name, why in sorted(problems.items())]
    return lines


def _notes(found, records):
    """Say how many headers were doubtful, and which cases come from an earlier source."""
    doubts = [doubt for record in records for doubt in record["doubts"]]
    yield from doubt_lines(doubts, "unclear and resolved by a rule (column doubts of report.csv)")
    n_earlier = len({record["case"] for record in records} - {case.name for case in found.cases})
    if n_earlier:
        yield f"{n_earlier} complete cases are not in this SOURCE; they stay"


def _ranges(found, records):
    """Spacing, shape, intensities and volumes over all cases."""
    spacing = np.array([record["spacing_mm"] for record in records])
    shapes = np.array([record["shape"] for record in records])
    lines = [
        f"voxels {_span(spacing, ' x ')} mm, grids {_span(shapes, ' x ')}",
        f"orientations {', '.join(sorted({record['orientation'] for record in records}))}",
    ]
    for c, name in enumerate(found.channels):
        low = min(record["intensity_min"][c] for record in records)
        high = max(record["intensity_max"][c] for record in records)
        lines.append(f"{name}: intensities from {low:g} to {high:g}")
    for k, name in enumerate(found.segments):
        ml = [record["volumes_ml"][k] for record in records]
        absent = f", absent in {ml.count(0.0)}" if 0.0 in ml else ""
        median = np.median(ml)
        lines.append(f"{name}: {min(ml):.3g} to {max(ml):.3g} ml, median {median:.3g}{absent}")
    return lines


def _span(table, between):
    """Smallest and largest of each column, such as ``1 to 1.5 x 10``."""
    ends = zip(table.min(axis=0), table.max(axis=0), strict=True)
    return between.join(f"{a:.4g}" if a == b else f"{a:.4g} to {b:.4g}" for a, b in ends)


def write_contact_sheet(found, records, dest):
    """Draw up to 24 cases, evenly chosen, each at its largest slice with the labels' contours.

    Returns
    -------
    Path
        ``contact_sheet.png`` in `dest`; the patient's right is where the R stands.
    """
    chosen = np.unique(np.linspace(0, len(records) - 1, min(N_PICTURES, len(records))).astype(int))
    n_rows = -(-len(chosen) // N_COLUMNS)
    figure = Figure(figsize=(2.2 * N_COLUMNS, 2.35 * n_rows + 0.5), layout="constrained")
    panels = np.atleast_1d(figure.subplots(n_rows, N_COLUMNS)).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, index in zip(panels, chosen, strict=False):
        name = records[index]["case"]
        with np.load(dest / RECORDS / f"{name}.npz", allow_pickle=False) as thumbnail:
            _draw_case(panel, thumbnail["image"], thumbnail["labels"], thumbnail["spacing_mm"])
            if thumbnail["shows_right"]:
                panel.text(1.01, 0.5, "R", transform=panel.transAxes, fontsize=7, va="center")
        panel.set_title(name, fontsize=7)
    shown = zip(found.segments, CONTOUR_COLOURS, strict=False)
    handles = [panels[0].plot([], [], color=colour, label=name)[0] for name, colour in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    path = dest / "contact_sheet.png"
    write_figure(path, figure)
    return path


def _draw_case(panel, image, labels, spacing_mm):
    """Draw one slice, from its 1st to its 99th percentile, and a contour a segment."""
    low, high = np.percentile(image, (1, 99))
    aspect = spacing_mm[1] / spacing_mm[0]
    panel.imshow(
        image.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower", aspect=aspect
    )
    for k in np.unique(labels[labels > 0]):
        colour = CONTOUR_COLOURS[(k - 1) % len(CONTOUR_COLOURS)]
        panel.contour((labels == k).T.astype(float), levels=[0.5], colors=colour, linewidths=0.9)


def write_tables(found, records, dest):
    """Write ``dataset.json``, ``cases.csv``, ``sources.csv`` and ``report.csv``.

    One that somebody has edited stays as it is; what would take its place, if that is new, is
    written beside it.

    Parameters
    ----------
    found : cases.Found
    records : dict
        Of the complete cases by name.
    dest : Path

    Returns
    -------
    list of str
        A sentence for each table that stays.
    """
    complete = [records[name] for name in sorted(records)]
    columns = ["case", "domain", "split", "patient", "group"]
    cases = pd.DataFrame(
        [[record[name] for name in columns] for record in complete], columns=columns
    )
    contents = {
        "dataset.json": (write_json, description(found, len(complete))),
        "cases.csv": (write_table, cases),
        "sources.csv": (write_table, _sources_table(complete)),
        "report.csv": (write_table, _report_table(complete, found.segments)),
    }
    path = dest / RECORDS / WRITTEN
    written, lines = read_json(path, shape=dict) if path.exists() else {}, []
    for name, (write, content) in contents.items():
        new = dest / f"new_{name}"
        write(new, content)
        lines += _replace(dest / name, new, written)
    write_json(path, written)
    return lines


def _replace(path, new, written):
    """Give `new` its name, unless somebody has edited what has it; yield a line about that.

    `written` holds the digest of each table as this program last wrote it, and is kept up to date.
    """
    before, digest = written.get(path.name), file_digest(new)
    if not before or not path.exists() or file_digest(path) in (before, digest):
        new.replace(path)
        written[path.name] = digest
        return
    beside = f"; what would be written now is beside it, in {new.name}"
    if digest == before:  # what the edit was made in
        new.unlink()
        beside = ""
    yield f"note: {path} is not as it was written, and stays so{beside}"


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
