"""The ledger: each claim of both papers on each dataset that was run, and on all real ones.

A row is a claim on one dataset. Its parts, the statistics with their intervals, stand in a table of
their own beside what the paper prints for them. The verdict on all real datasets is `combined` from
theirs: a claim of a paper is general, so it holds where it holds on each. That row is a count of
verdicts, not one more test: no level is shared out over the datasets, and some share their images.
"""

from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..._checks import wrong_input
from ...runs.folders import name_in_run
from ...runs.tables import find_table, read_table, write_table
from .deviations import all_deviations, made_of, record_of
from .paper_a import parts_of_a
from .paper_b import parts_of_b
from .printed import printed_a, printed_b, supports
from .rules import combined, judge
from .statements import CLAIMS

ALL, PHANTOMS = "all real data", "phantoms"
ORACLE = "oracle"  # the method that needs the true probabilities, which only phantoms have
TABLES = ("scores", "volumetric", "joint", "transfer", "ood_volumes_scores")
LEDGER = (  # columns
    *("claim", "sentence", "seen", "supported", "data", "verdict", "n_parts", "n_holding"),
    *("n_against", "run", "task", "profile", "seed", "commit", "deviations"),
)
PARTS = (
    *("claim", "run", "part", "value", "lo", "hi", "printed", "ratio", "n_cases"),
    *("verdict", "why"),
)


class Evidence(NamedTuple):
    """What one run has to say.

    Attributes
    ----------
    data : str
        Its data in short; of phantoms the name says so.
    parts : dict of list of Part
        By claim.
    printed : dict of dict of float
        What the papers print for the same task, by claim and part.
    made : dict
        Run (its folder), task, profile, seed and commit.
    deviations : dict of str
        From the papers' settings, by claim.
    """

    data: str
    parts: dict
    printed: dict
    made: dict
    deviations: dict

    @property
    def is_real(self):
        """Whether the data are of patients: those of phantoms lie in a folder called so."""
        return not is_of_phantoms(self.data)


def is_of_phantoms(data):
    """Whether data, by their name in a ledger, are phantoms.

    >>> [is_of_phantoms(name) for name in ("phantoms", "runs/a/phantoms/b", "ACDC_no_phantoms")]
    [True, True, False]
    """
    return PHANTOMS in PurePosixPath(data).parts


def read_evidence(folder):
    """Read what a run folder, or what was published of it, says about the claims.

    Parameters
    ----------
    folder : path
        With ``tables/`` in it, or of published tables; some of `TABLES`, and ``provenance.json``
        (in a run folder beside ``run.json`` or ``joint.json``).

    Returns
    -------
    Evidence

    Raises
    ------
    ValueError
        If there is no table that any claim is judged by.
    """
    folder = Path(folder)
    tables = {name: table for name in TABLES if (table := _table(folder, name)) is not None}
    if not tables:
        expected = f"one of {', '.join(TABLES)}: of notebooks 03, 06, 07, 08"
        raise wrong_input(folder, "none of the tables that claims are judged by", expected)
    record = record_of(folder)
    made = made_of(record)
    task = made.get("task") or ""
    task = task["name"] if isinstance(task, dict) else task
    data = str(made.get("data", folder.name))
    is_synthetic, parts, printed, n_members = False, {}, {}, {}
    for name, n_dims in (("scores", 2), ("volumetric", 3)):
        if name in tables:
            table = tables[name]
            single = table[table.method == "baseline"]
            n_members["A" if n_dims == 2 else "A10"] = int(single.member.nunique())
            is_known = table.get("known", pd.Series(True, table.index))
            known = set(table.domain[is_known.astype(bool)])
            parts |= parts_of_a(table, known, task, n_dims, made.get("seed") or 0)
            is_synthetic |= ORACLE in set(table.method)
            printed |= printed_a(task, n_dims)
    joint = (tables.get(name) for name in ("joint", "transfer", "ood_volumes_scores"))
    of_b = parts_of_b(*joint)
    printed |= {name: values for name, values in printed_b().items() if name in of_b}
    shown = {"run": name_in_run(folder), "task": task}
    shown |= {name: made.get(name) for name in ("profile", "seed", "commit")}
    if is_synthetic and not is_of_phantoms(data):
        data = f"{PHANTOMS}/{data}"
    deviations = all_deviations(record, n_members)
    return Evidence(data, parts | of_b, printed, shown, deviations)


def ledger_of(evidences):
    """Judge every claim on all evidence.

    Parameters
    ----------
    evidences : list of Evidence

    Returns
    -------
    ledger : pandas.DataFrame
        claim, sentence, data, verdict, n_parts, n_holding, n_against, supported (by what the paper
        prints: yes, no, not printed), seen, run, task, profile, seed, commit, deviations (from the
        paper's settings, in words); after the rows of a claim one of all real data.
    parts : pandas.DataFrame
        claim, run, part, value, lo, hi, printed, ratio (value by printed), n_cases, verdict, why.
    """
    rows, of_parts = [], []
    for claim in CLAIMS:
        verdicts = []
        for evidence in evidences:
            verdict, judged = judge(claim, evidence.parts.get(claim.name, []))
            if verdict == "not run":
                continue
            printed = evidence.printed.get(claim.name, {})
            verdicts += [verdict] if evidence.is_real else []
            counts = [part.verdict for part in judged]
            row = {"data": evidence.data, "verdict": verdict, "n_parts": len(judged)}
            row |= {"n_holding": counts.count("holds"), "n_against": counts.count("contradicted")}
            found = evidence.deviations
            departs = found.get(claim.name, found.get(claim.name[0]))
            row |= evidence.made
            rows.append(_of(claim) | row | {"deviations": departs})
            for part in judged:
                own = {"claim": claim.name, "run": evidence.made["run"], "part": part.name}
                own |= {key: getattr(part, key) for key in ("value", "lo", "hi")}
                beside = printed.get(part.name, np.nan)
                own |= {"printed": beside, "ratio": part.value / (beside or np.nan)}
                own |= {key: getattr(part, key) for key in ("n_cases", "verdict", "why")}
                of_parts.append(own)
        rows.append(_of(claim) | {"data": ALL, "verdict": combined(verdicts)})
    return pd.DataFrame(rows, columns=LEDGER), pd.DataFrame(of_parts, columns=PARTS)


def write_ledger(folders, out):
    """Judge every claim on the runs in some folders; write ``claims.csv``, ``claims_parts.csv``.

    Returns the two tables.
    """
    ledger, parts = ledger_of([read_evidence(folder) for folder in folders])
    write_table(Path(out) / "claims.csv", ledger)
    write_table(Path(out) / "claims_parts.csv", parts)
    return ledger, parts


def _of(claim):
    """The columns that every row of a claim has."""
    columns = {"claim": claim.name, "sentence": claim.sentence, "seen": claim.seen}
    return columns | {"supported": supports(claim)}


def _table(folder, name):
    """Return a table of a run, or of published ones; None without it."""
    path = find_table(folder / "tables", name) or find_table(folder, name)
    return path and read_table(path)
