"""``index.html`` of a run: what was asked, what was found, and what the numbers allow."""

import re
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader

from ..report.summaries import Cell
from ..report.verdicts import RULES, read_verdicts
from ..runs.folders import read_json, write_text
from ..runs.tables import read_table
from .answers import CHAPTERS, answer
from .pages import WEB, title_of

FACTS = {  # what run.json and provenance.json call it, in words
    "data": "Data",
    "profile": "Profile",
    "seed": "Seed",
    "date": "Date",
    "commit": "Commit",
    "device": "Device",
    "processor": "Processor",
    "torch": "PyTorch",
    "python": "Python",
    "later_commits": "Gone on at",
    "later_devices": "Gone on with",
    "leave_out": "Left out",
}
LOSSES = {"ce": "Cross-entropy", "dice": "Dice loss"}
LEGEND = (
    "Means over the test cases; in small type what 95 % of the cases lie between. ★ marks the best "
    "of baseline, MC dropout and ensemble of both losses, where it is significantly better than "
    "each other one and a conclusion is allowed{none}."
)


def write_index(folder, names):
    """Write ``index.html``: questions, answers, figures, main table, verdicts, links of a run.

    `names` are its notebooks, in their order.
    """
    run, made = read_json(folder / "run.json"), read_json(folder / "provenance.json")
    verdicts = read_verdicts(folder)
    chapters = [_chapter(folder, name, verdicts) for name in names]
    seconds = sum(chapter["seconds"] for chapter in chapters)
    content = render(
        "index.html.j2",
        title=f"{run['task']['name']}, {Path(run['data']).name}, {run['profile']} profile",
        facts=facts(run | made) | {"All notebooks": f"{seconds} s"},
        chapters=chapters,
        main=main_table(read_table(folder / "tables" / "calibration.csv")),
        rules=RULES,
        verdicts=_verdicts(verdicts),
        crops=_crops(folder),
        tables=sorted(path.name for path in (folder / "tables").glob("*.csv")),
    )
    write_text(folder / "index.html", content)
    return folder / "index.html"


def render(template, **content):
    """Return a report as HTML: a template of `WEB`, with the style of all pages."""
    environment = Environment(loader=FileSystemLoader(WEB), autoescape=True)
    style = (WEB / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **content)


def facts(settings):
    """What was run, where and when, in words."""
    found = {}
    for key, words in FACTS.items():
        value = settings.get(key)
        if value not in (None, [], ""):
            found[words] = ", ".join(value) if isinstance(value, list) else value
    return found


def _chapter(folder, name, verdicts):
    """What the report says of one notebook."""
    notebook = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4)
    first = notebook.cells[0].source
    question = re.search(r"\*\*(?:Question\.\*\*)?\s*(.+?\?)", first, re.DOTALL)
    tables = re.findall(r"`(tables/[\w*]+\.csv)`", first)
    found = [path.name for pattern in tables for path in sorted(folder.glob(pattern))]
    chapter = CHAPTERS.get(name)
    figure = chapter.figure if chapter and (folder / "figures" / chapter.figure).exists() else ""
    return {
        "name": name,
        "title": title_of(notebook),
        "question": question.group(1).replace("\n", " ") if question else "",
        "answer": answer(folder, name, verdicts),
        "seconds": round(notebook.metadata.get("papermill", {}).get("duration") or 0),
        "figure": figure,
        "caption": chapter.caption if chapter else "",
        "tables": found,
    }


def main_table(table):
    """Return the columns, groups and legend of the main table, narrow enough for a laptop.

    `table` is ``calibration.csv``: ``loss``, ``method``, then cells such as ``0.30 (0.24 to 0.39)
    *``. ``columns`` are scores of the boxes and Dice, if there are such, else all; ``groups`` have
    for each loss its name and the rows, each a method's name and its cells.
    """
    names = [name for name in table.columns if name not in ("loss", "method")]
    shown = [name for name in names if name.endswith(", box") or name.startswith("Dice ")] or names
    groups = []
    for loss, rows in table.groupby("loss", sort=False):
        methods = rows.method.str.replace("_", " ").str.replace("mc ", "MC ")
        cells = [[_cell(text) for text in row] for row in rows[shown].itertuples(index=False)]
        groups.append((LOSSES.get(loss, loss), list(zip(methods, cells, strict=True))))
    has_best = any(cell.is_best for _, rows in groups for _, cells in rows for cell in cells)
    legend = LEGEND.format(none="" if has_best else "; here none is")
    return {"columns": shown, "groups": groups, "legend": legend}


def _cell(text):
    """Split a cell of the main table.

    Examples
    --------
    >>> _cell("0.30 (0.24 to 0.39) *")
    Cell(value='0.30', interval='0.24 to 0.39', is_best=True)
    """
    parts = re.fullmatch(r"(\S+) \((.+)\)( \*)?", str(text))
    return Cell(parts[1], parts[2], bool(parts[3])) if parts else Cell("", str(text))


def _verdicts(table):
    """The notebooks' verdicts: first what has a reason, claims of one reason together."""
    if table.empty:
        return []
    together = table.groupby(["notebook", "verdict", "why"], sort=False).claim
    table = together.agg("; ".join).reset_index()[table.columns]
    warned, shown = table.why != "", []
    for title, rows in (("Take care", table[warned]), ("The rest", table[~warned])):
        columns = rows.columns if title == "Take care" else rows.columns.drop("why")
        shown += [(title, list(columns), rows[columns].to_numpy().tolist())] if len(rows) else []
    return shown


def _crops(folder):
    """What was settled on voxels, slices and crops of the run's data, and what is cut away."""
    found = []
    for path in sorted(folder.glob("**/prepared/grid.json")):
        where = path.parent.parent.relative_to(folder).as_posix()
        notes = read_json(path)["notes"]
        found += [note if where == "." else f"{where}: {note}" for note in notes]
    return found
