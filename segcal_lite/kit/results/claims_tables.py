"""The ledger of the papers' claims, ``results/claims*.csv``, as the tables of READMEs."""

from pathlib import PurePosixPath

import pandas as pd

from ...experiments.claims.ledger import ALL
from ...experiments.claims.rules import VERDICTS
from ...runs.folders import project_root
from ...runs.tables import read_table
from .published import NOT_RUN, markdown_table, or_dash


def read_ledger():
    """The published ledger and the parts of its claims; None where there is none."""
    folder = project_root() / "results"
    if not (folder / "claims.csv").exists():
        return None
    return read_table(folder / "claims.csv"), read_table(folder / "claims_parts.csv")


def ledger_table():
    """Each claim, whether the paper's own tables support it, and its verdict on each run."""
    if (tables := read_ledger()) is None:
        return NOT_RUN
    ledger, _ = tables
    runs = list(dict.fromkeys(ledger.run.dropna()))
    columns = [*map(_linked, runs), ALL]
    rows = []
    for name, rows_of in ledger.groupby("claim", sort=False):
        verdicts = rows_of.set_index(rows_of.run.fillna(ALL)).verdict
        supported = rows_of.supported.dropna().unique()
        cells = [name, rows_of.sentence.iloc[0], ", ".join(supported) or "-"]
        rows.append(cells + [_shown(verdicts.get(run, "not run")) for run in (*runs, ALL)])
    table = markdown_table(["", "claim", "the paper's tables support it", *columns], rows)
    own = ledger[ledger.deviations.notna()].assign(paper=ledger.claim.str[0])
    own = own[own.claim != "A10"].drop_duplicates(["run", "paper"])
    notes = [
        f"- {_linked(row.run)}, paper {row.paper}: {row.deviations}" for row in own.itertuples()
    ]
    return "\n".join([table, "Settings that are not the paper's (in brackets):", "", *notes, ""])


def parts_table():
    """Each statistic of each claim on real data, beside what the paper prints."""
    if (tables := read_ledger()) is None:
        return NOT_RUN
    ledger, parts = tables
    real = ledger[ledger.run.notna() & ~ledger.data.str.contains("phantoms", na=False)].run
    rows = []
    for row in parts[parts.run.isin(real)].itertuples():
        ours = f"{row.value:.3g} ({row.lo:.3g} to {row.hi:.3g})"
        verdict = row.verdict if pd.isna(row.why) else f"{row.verdict}: {row.why}"
        printed = [f"{row.printed:.2g}" if pd.notna(row.printed) else "-", or_dash(row.ratio)]
        run = PurePosixPath(row.run).name
        rows.append([row.claim, run, row.part, ours, *printed, str(row.n_cases), verdict])
    header = ["claim", "run", "statistic", "ours, 95 % interval", "paper", "ratio", "cases"]
    return markdown_table([*header, "verdict"], rows)


def summary_table():
    """How many of the claims hold on each run, and which do not."""
    if (tables := read_ledger()) is None:
        return NOT_RUN
    ledger, _ = tables
    n_claims = ledger.claim.nunique()
    rows = []
    for run, rows_of in ledger.fillna({"run": ALL}).groupby("run", sort=False):
        names = {
            verdict: rows_of.claim[rows_of.verdict == verdict].tolist() for verdict in VERDICTS
        }
        n_run = sum(len(names[verdict]) for verdict in VERDICTS[:-1])
        cells = [_named(names[verdict]) for verdict in VERDICTS[:-1]]
        title = f"**{ALL}**" if run == ALL else _linked(run, "results/")
        rows.append([title, *cells, str(n_claims - n_run)])
    rows.sort(key=lambda row: row[0].startswith("**"))
    return markdown_table([f"of {n_claims} claims, on", *VERDICTS], rows)


def _linked(run, before=""):
    """A run's name, linked to its folder in ``results/``."""
    name = PurePosixPath(run).name
    return f"[{name}]({before}{name})" if run.startswith("results/") else name


def _shown(verdict):
    """A verdict as a cell: what decides stands out, what was not run is a dash."""
    strong = {"holds", "contradicted"}
    return f"**{verdict}**" if verdict in strong else verdict.replace("not run", "-")


def _named(names):
    """How many, and which.

    >>> _named(["A1", "A2"]), _named([])
    ('2: A1, A2', '0')
    """
    return f"{len(names)}: {', '.join(names)}" if names else "0"
