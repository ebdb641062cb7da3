"""Execute notebooks with papermill and gather their pages, verdicts, main table and figures."""

import html
import logging
import sys
from pathlib import Path

import nbformat
import pandas as pd
import papermill
from nbconvert import HTMLExporter

from ..report.verdicts import RULES, read_verdicts
from ..runs.folders import read_json, read_table, written_aside

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>segcal_lite: {title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto }}
table {{ border-collapse: collapse; font-size: 0.9rem }}
th, td {{ padding: 0.25rem 0.75rem; text-align: right; border-bottom: 1px solid #ddd }}
figure {{ margin: 2rem 0 }}
img {{ max-width: 100% }}
figcaption {{ color: #444 }}
.verdicts td, .verdicts th {{ text-align: left; vertical-align: top }}
</style>
</head>
<body>
<h1>segcal_lite: {title}</h1>
<p>{provenance}</p>
<h2>Notebooks</h2>
<ol>{notebooks}</ol>
<h2>What these numbers allow</h2>
<p>{rules}</p>
{verdicts}
<h2>What the networks saw</h2>
{crops}
<h2>Main table</h2>
{table}
<h2>Figures</h2>
{figures}
</body>
</html>
"""


OF_THE_PATIENT = (
    "Dice, HD95 and ASSD are of the patient: what a crop cut away counts as missed. NLL, Brier "
    "score, ECE and MCE are of the voxels that the networks saw."
)


def execute_notebook(source, target, parameters, kernel):
    """Execute a notebook with papermill; what is at `target` is complete.

    Parameters
    ----------
    source, target : paths
        An execution that fails is left beside `target` as ``failed-<name>`` to be looked at.
    parameters : dict
    kernel : str
        Name of the Jupyter kernel.

    Raises
    ------
    papermill.PapermillExecutionError
        If a cell fails.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    target.parent.mkdir(parents=True, exist_ok=True)
    failed = target.with_name(f"failed-{target.name}")
    papermill.execute_notebook(
        source,
        failed,
        parameters=parameters,
        kernel_name=kernel,
        progress_bar=sys.stderr.isatty(),
        cwd=source.parent,
    )
    failed.replace(target)


def write_page(path):
    """Write the executed notebook at `path` as a web page beside it; return its title."""
    notebook = nbformat.read(path, as_version=4)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    with written_aside(path.with_suffix(".html")) as partial:
        partial.write_text(page, encoding="utf-8")
    return notebook.cells[0].source.splitlines()[0].lstrip("# ")


def write_index(folder, titles):
    """Write ``index.html``: the notebooks' pages, verdicts, the main table, all figures.

    Parameters
    ----------
    folder : path
        A run folder with ``notebooks``, ``tables`` and ``figures``.
    titles : dict of str
        For each notebook's name, in their order, the title that `write_page` returned.

    Returns
    -------
    path of the page
    """
    links = [
        f'<li><a href="notebooks/{name}.html">{html.escape(title)}</a></li>'
        for name, title in titles.items()
    ]
    run, made = read_json(folder / "run.json"), read_json(folder / "provenance.json")
    title = f"{run['task']['name']}, {run['data']}, {run['profile']} profile, seed {run['seed']}"
    content = PAGE.format(
        title=html.escape(title),
        provenance=html.escape(", ".join(f"{key}: {value}" for key, value in made.items())),
        notebooks="\n".join(links),
        rules=html.escape(RULES),
        verdicts=_verdicts(folder),
        crops=_crops(folder),
        table=_table(folder / "tables" / "calibration.csv"),
        figures="\n".join(_figure(path) for path in sorted((folder / "figures").glob("*.png"))),
    )
    with written_aside(folder / "index.html") as partial:
        partial.write_text(content, encoding="utf-8")
    return folder / "index.html"


def _verdicts(folder):
    """The notebooks' verdicts as HTML: first what has a reason, claims of one reason together."""
    table = read_verdicts(folder)
    if table.empty:
        return "<p>No notebook of this run has written a verdict.</p>"
    together = table.groupby(["notebook", "verdict", "why"], sort=False).claim
    table = together.agg("; ".join).reset_index()[table.columns]
    warned, shown = table.why != "", []
    for title, rows in (("Take care", table[warned]), ("The rest", table[~warned])):
        columns = rows.columns if title == "Take care" else rows.columns.drop("why")
        with pd.option_context("display.max_colwidth", None):  # else reasons are cut short
            text = rows[columns].to_html(index=False, border=0, classes="verdicts")
        shown += [f"<h3>{title}</h3>", text] if len(rows) else []
    return "\n".join(shown)


def _crops(folder):
    """What was settled on voxels, slices and crops of the run's data, and what is cut away."""
    found = []
    for path in sorted(folder.glob("**/prepared/grid.json")):
        where = path.parent.parent.relative_to(folder).as_posix()
        notes = read_json(path)["notes"]
        found += [note if where == "." else f"{where}: {note}" for note in notes]
    items = "".join(f"<li>{html.escape(note)}</li>" for note in found)
    told = f"<ul>{items}</ul>" if found else "<p>The crops hold all foreground.</p>"
    return f"{told}\n<p>{OF_THE_PATIENT}</p>"


def _table(path):
    """The main table as HTML."""
    return read_table(path).to_html(index=False, na_rep="", float_format="{:.3f}".format)


def _figure(path):
    """One figure with its name as caption."""
    caption = html.escape(Path(path).stem.replace("_", " "))
    return f'<figure><img src="figures/{path.name}"><figcaption>{caption}</figcaption></figure>'
