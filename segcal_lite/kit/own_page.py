"""``index.html`` of an evaluation of somebody's predictions: three answers, figures, tables."""

import numpy as np
import pandas as pd

from .. import __version__
from .._checks import named
from ..report.own_answers import RULES, three_answers
from ..report.own_figures import CAPTIONS, MOST_PICTURES
from ..report.own_review import (
    MOST_ROWS,
    WORDS,
    expected_in_words,
    panels,
    panels_in_words,
    review_table,
)
from ..report.own_tables import METRICS, REGIONS, in_words, number, read_evaluation
from ..report.summaries import Cell
from ..runs.folders import write_text
from .index_page import facts, render
from .pages import data_uri

SETTINGS = {  # in words
    "members_averaged": "mean over members of",
    "n_bins": "bins of confidence",
    "box_mm": "margin of the box (mm)",
    "band_mm": "half width of the band (mm)",
}
OF_ALL = ("ece", "nll", "brier", "mce")  # metrics of all segments together, in the page's order
OF_SEGMENTS = ("dice", "hd95_mm", "assd_mm", "ece_class", "segment_entropy", "pairwise_dice")


def write_page(out):
    """Write the page of an evaluation from what lies below its folder.

    Parameters
    ----------
    out : pathlib.Path
        Run folder of ``python -m segcal_lite evaluate``: its tables and, drawn before, its figures.

    Returns
    -------
    pathlib.Path
        ``index.html``, which holds its figures and needs no network. A table that is absent is left
        out; of a long one the page shows the first rows.
    """
    evaluation = read_evaluation(out)
    pictures = _pictures(evaluation, out)
    content = render(
        "own_model.html.j2",
        title=out.name,
        evaluation=evaluation,
        has_probabilities=evaluation.level("ece") is not None,
        answers=three_answers(evaluation),
        counts=_counts(evaluation),
        made={"segcal_lite": __version__} | facts(evaluation.provenance),
        pictures=pictures,
        pictured=panels_in_words([picture["shown"] for picture in pictures]),
        review=review_table(evaluation),
        has_order=bool(evaluation.review.score.notna().any()),
        figures=_figures(out),
        tables=list(filter(None, _tables(evaluation))),
        left_out=_left_out(evaluation.left_out),
        notes=_text(evaluation.notes),
        most_rows=MOST_ROWS,
        rules=RULES,
        settings=_settings(evaluation),
        files=sorted(path.name for path in (out / "tables").glob("*.csv")),
    )
    write_text(out / "index.html", content)
    return out / "index.html"


def _counts(evaluation):
    """Numbers of cases, and when they were evaluated."""
    counts = {
        "Labelled cases": evaluation.n_cases,
        "Patients": evaluation.n_patients,
        "Members": evaluation.n_members,
        "Segments": ", ".join(evaluation.segments),
        "New cases": len(evaluation.review),
        "Left out": evaluation.left_out.case.nunique(),
    }
    return counts | {"Date": evaluation.provenance.get("date", "–")}


def _settings(evaluation):
    """The settings in words, without the command."""
    return {
        SETTINGS.get(name, name): ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in evaluation.settings.items()
        if name != "command" and value not in (None, "", []) and not isinstance(value, dict)
    }


def _figures(out):
    """Name, address and caption of each figure that was drawn."""
    paths = {name: out / "figures" / f"{name}.png" for name in CAPTIONS}
    return [
        {"name": name, "uri": data_uri(path, "image/png"), "caption": CAPTIONS[name]}
        for name, path in paths.items()
        if path.exists()
    ]


def _pictures(evaluation, out):
    """The first cases of the review list that have a picture."""
    found = []
    for row in evaluation.review.sort_values("rank").head(MOST_PICTURES).to_dict("records"):
        path = out / "figures" / f"review_{row['rank']:.0f}.png"
        if path.exists():
            shown = panels(out / "new" / f"{row['case']}.npz")
            picture = {"row": row, "file": path.name, "uri": data_uri(path, "image/png")}
            found.append(picture | {"shown": shown, "told": expected_in_words(row)})
    return found


def _tables(evaluation):
    """Of each table: title, columns, groups of lines, a sentence, the file with all of it."""
    yield _levels(evaluation, "How well calibrated", OF_ALL)
    yield _differences(evaluation, "What changes the calibration", OF_ALL)
    yield _levels(evaluation, "Each segment", OF_SEGMENTS)
    yield _differences(evaluation, "What changes each segment", OF_SEGMENTS)
    yield _fits(evaluation)
    yield _areas(evaluation)
    yield _cases(evaluation)


def _levels(evaluation, title, metrics):
    """Means and intervals of some metrics by method: of all segments by region, else by metric."""
    rows = evaluation.summary[evaluation.summary.interval == "mean"]
    rows = _chosen(evaluation, rows, metrics)
    if rows.empty:
        return None
    rows = rows.assign(line=rows.method.map(evaluation.name_of))
    note = "Means over the patients; in small type their 95 % intervals."
    if rows.lo.isna().all():
        note = "Means over the patients, who are too few for intervals."
    table = _arranged(evaluation, rows, metrics)
    return title, *_wide(table, lambda row: _with_ends(row, "mean")), note, "summary.csv"


def _differences(evaluation, title, metrics):
    """Paired differences, a line a comparison."""
    rows = _chosen(evaluation, evaluation.differences, metrics)
    if rows.empty:
        return None
    names = [rows[name].map(evaluation.name_of) for name in ("method", "against")]
    table = _arranged(evaluation, rows.assign(line=names[0] + " against " + names[1]), metrics)
    reasons = "; ".join(rows.why.dropna().unique())
    note = "Paired differences, first named less second; in small type 95 % intervals."
    note += f" No conclusion: {reasons}." if reasons else ""
    return title, *_wide(table, _difference_cell), note, "differences.csv"


def _chosen(evaluation, rows, metrics):
    """Rows of these metrics: of all segments together, or of each; a class's ECE once."""
    rows = rows[rows.metric.isin(metrics) & (rows.segment.isna() == (metrics is OF_ALL))]
    return rows[(rows.metric != "ece_class") | (rows.region == evaluation.region)]


def _arranged(evaluation, rows, metrics):
    """Rows in groups and columns: regions by metrics, or metrics by segments."""
    label, region = rows.metric.map(_label), rows.region.map(REGIONS).fillna(rows.region)
    if metrics is OF_ALL:
        rows = rows.assign(group=region, column=label)
        return _sorted(_sorted(rows, "metric", metrics), "region", list(REGIONS))
    group = label.where(rows.region == "whole", label + ", " + region)
    rows = rows.assign(group=group, column=rows.segment)
    return _sorted(_sorted(rows, "segment", evaluation.segments), "metric", metrics)


def _difference_cell(row):
    """A difference with its verdict, and its interval."""
    if row["difference"] == row["lo"] == row["hi"] == 0:
        return Cell("the same")
    cell = _with_ends(row, "difference")
    return Cell(f"{cell.value} {row['verdict']}", cell.interval)


def _fits(evaluation):
    """Lines of segment entropy and Dice."""
    rows = [
        (row["segment"], [_with_ends(row, "r"), *_numbers(row, ("n", "n_missing", "error"))])
        for row in evaluation.entropy_fit[evaluation.entropy_fit.n > 0].to_dict("records")
    ]
    columns = ["correlation r", "segments", "without entropy", "error of a new patient's Dice"]
    note = "r = -1: the higher the entropy, the lower the Dice, without exception; 0: no relation."
    title = "Segment entropy and Dice"
    return (title, columns, [("", rows)], note, "entropy_fit.csv") if rows else None


def _areas(evaluation):
    """AURC of each score."""
    names = ("aurc", "random", "oracle")
    rows = []
    for row in evaluation.aurc.to_dict("records"):
        cell = _with_ends(row, "difference")
        verdict = Cell(row["verdict"] if pd.notna(row["verdict"]) else "")
        rows.append((in_words(row["score"]), [*_numbers(row, names), cell, verdict]))
    columns = ["AURC", "random order", "oracle", "AURC less random", "verdict"]
    note = "Smaller is better; in small type the 95 % interval."
    title = "Orders of doubt"
    return (title, columns, [("", rows)], note, "aurc.csv") if rows else None


def _cases(evaluation):
    """The first cases, one a line, with the scores of what is judged."""
    rows = evaluation.scores[evaluation.scores.method == evaluation.method]
    wanted = rows.metric.isin(["ece", "nll"]) & (rows.region == evaluation.region)
    wanted &= rows.segment.isna()
    rows = rows[wanted | (rows.metric.isin(["dice", "segment_entropy"]) & rows.segment.notna())]
    n_cases = rows.case.nunique()
    rows = rows[rows.case.isin(rows.case.unique()[:MOST_ROWS])]
    if rows.empty:
        return None
    keys = ["case", "segment", "metric"]
    rows = rows.groupby(keys, sort=False, dropna=False).value.mean().reset_index(name="mean")
    rows = rows.assign(group="", line=rows.case, lo=np.nan, hi=np.nan)
    rows["column"] = rows.segment.fillna("") + " " + rows.metric.map(_label)
    note = f"Method: {evaluation.name_of(evaluation.method)}."
    if n_cases > MOST_ROWS:
        note += f" These are the first {MOST_ROWS} of {n_cases:,} cases."
    return "Case by case", *_wide(rows, lambda row: _with_ends(row, "mean")), note, "scores.csv"


def _sorted(table, column, order):
    """A table with the names in one column in a given order, others last."""
    places = {name: place for place, name in enumerate(order)}
    return table.sort_values(
        column, key=lambda names: names.map(places).fillna(len(places)), kind="stable"
    )


def _wide(table, cell):
    """Columns, and groups of lines of cells, by `group`, `line` and `column` of a table."""
    columns, groups = list(table.column.unique()), []
    for group, part in table.groupby("group", sort=False):
        lines = {line: dict.fromkeys(columns, Cell("")) for line in part.line.unique()}
        for row in part.to_dict("records"):
            lines[row["line"]][row["column"]] = cell(row)
        groups.append((group, [(line, list(cells.values())) for line, cells in lines.items()]))
    return columns, groups


def _with_ends(row, name):
    """A number with its interval, in the unit of its metric."""
    factor = METRICS.get(row.get("metric"), ("", 1, ""))[1]
    ends = [factor * row["lo"], factor * row["hi"]]
    interval = " to ".join(map(number, ends)) if np.isfinite(ends).all() else ""
    return Cell(number(factor * row[name]), interval)


def _numbers(row, names):
    """Numbers of a row as cells."""
    return [Cell(number(row[name])) for name in names]


def _label(metric):
    """A metric in words with its unit."""
    return WORDS.get(metric, metric.replace("_", " "))


def _left_out(table):
    """Cases that were left out for the same reason together."""
    cases = table.groupby(["why", "folder"], sort=False, dropna=False).case
    counted = cases.agg(n_cases="size", cases=lambda names: named(map(str, names)))
    return _text(counted.reset_index())


def _text(table):
    """Columns and the first rows of a table of words, and how many rows there are."""
    shown = table.head(MOST_ROWS).astype(object)
    rows = shown.where(shown.notna(), "").to_numpy().tolist()
    columns = ["how many" if name == "n_cases" else name for name in table.columns]
    return columns, rows, len(table)
