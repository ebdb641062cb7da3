"""The ledger of the papers' claims, ``results/claims*.csv``, as the tables of READMEs."""

from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from ...experiments.claims.ledger import ALL, is_of_phantoms
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
    by_paper = ledger.groupby(ledger.claim.str[0], sort=False)
    notes = []
    for paper, claims in by_paper:
        told = claims[claims.deviations.notna()]
        told = told.assign(of=np.where(told.claim == "A10", f"{paper} in 3D", paper))
        notes += [
            f"- {_linked(row.run)}, paper {row.of}: {row.deviations}"
            for row in told.drop_duplicates(["run", "of"]).itertuples()
        ]
    own_tables = [_of_paper(claims) for _, claims in by_paper]
    return "\n".join(
        [*own_tables, "Settings that are not the paper's (in brackets):", "", *notes, ""]
    )


def _of_paper(claims):
    """The table of a paper's claims, with a column for each run that judged one of them."""
    is_phantom = _is_of_phantoms(claims)
    runs = [*claims.run[~is_phantom].dropna().unique(), *claims.run[is_phantom].unique()]
    rows = []
    for name, rows_of in claims.groupby("claim", sort=False):
        verdicts = rows_of.set_index(rows_of.run.fillna(ALL)).verdict
        cells = [name, rows_of.sentence.iloc[0], rows_of.supported.iloc[0]]
        rows.append(cells + [_shown(verdicts.get(run, "not run")) for run in (*runs, ALL)])
    columns = [*map(_linked, runs), ALL]
    return markdown_table(["", "claim", "the paper's tables support it", *columns], rows)


def parts_table():
    """Each statistic of each claim on real data, beside what the paper prints."""
    if (tables := read_ledger()) is None:
        return NOT_RUN
    ledger, parts = tables
    real = ledger[ledger.run.notna() & ~_is_of_phantoms(ledger)].run
    rows = []
    for row in parts[parts.run.isin(real)].itertuples():
        within = f" ({row.lo:.3g} to {row.hi:.3g})" if pd.notna(row.lo) else ""
        ours = f"{row.value:.3g}{within}"
        verdict = row.verdict if pd.isna(row.why) else f"{row.verdict}: {row.why}"
        printed = [f"{row.printed:.2g}" if pd.notna(row.printed) else "-", or_dash(row.ratio)]
        run = PurePosixPath(row.run).name
        rows.append([row.claim, run, row.part, ours, *printed, str(row.n_cases), verdict])
    header = ["claim", "run", "statistic", "ours, 95 % interval", "paper", "ratio", "cases"]
    return markdown_table([*header, "verdict"], rows)


def summary_table():
    """How many of the claims hold on phantoms, on a real run and on all of them, and which."""
    if (tables := read_ledger()) is None:
        return NOT_RUN
    ledger, _ = tables
    phantoms = ledger[_is_of_phantoms(ledger)]
    of_runs = ledger[ledger.run.notna() & ~ledger.run.isin(phantoms.run)]
    links = [
        ", ".join(_linked(run, "results/") for run in rows.run.unique())
        for rows in (phantoms, of_runs)
    ]
    together = "all of these (holds: on each that judges it; contradicted: on at least one)"
    rows = [
        _counted(f"phantoms: {links[0]}", phantoms, ledger),
        _counted(f"at least one of {links[1]}", of_runs, ledger),
        _counted(together, ledger[ledger.data == ALL], ledger),
    ]
    return markdown_table([f"of {ledger.claim.nunique()} claims, on", *VERDICTS], rows)


def _is_of_phantoms(ledger):
    """Which rows are of a run on phantoms, as `Evidence.is_real` has it."""
    return ledger.data.map(is_of_phantoms).astype(bool)


def _counted(title, rows, ledger):
    """Cells: claims that hold or are contradicted somewhere in rows, neither, and not run."""
    names = list(dict.fromkeys(ledger.claim))
    holding, against = (
        [name for name in names if verdict in set(rows.verdict[rows.claim == name])]
        for verdict in VERDICTS[:2]
    )
    ran = set(rows.claim[rows.verdict != "not run"])
    neither = [name for name in names if name in ran and name not in (*holding, *against)]
    return [title, *map(_named, (holding, against, neither)), str(len(names) - len(ran))]


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
