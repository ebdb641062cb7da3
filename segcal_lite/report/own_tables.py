"""What an evaluation of somebody's predictions has written, read back, and its words for a page."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..runs.folders import read_json
from ..runs.tables import read_table
from .verdicts import doubts

COLUMNS = {  # of the tables; what is absent, a table or a column, is empty
    "scores": "case patient method member n_members region segment metric value",
    "summary": "method region segment metric mean lo hi interval n_cases n_missing",
    "differences": "method against region segment metric difference lo hi p n_cases verdict why",
    "reliability": "method region lower upper count confidence accuracy",
    "reliability_cases": "case method region lower upper count confidence accuracy",
    "entropy_dice": "case patient segment segment_entropy dice",
    "entropy_fit": "segment r lo hi slope intercept n n_missing n_clipped error",
    "risk_coverage": "score coverage risk",
    "aurc": "score aurc random oracle difference lo hi n_cases verdict why",
    "review": "rank case score",
    "oodm": "case group oodm threshold is_ood",
    "left_out": "case folder why group",
    "notes": "note n_cases cases",
}
UNPLACED = "nothing was predicted in a crop, which so has no place: missing from all means"
POINTS = " percentage points"
METRICS = {  # in words, the factor and the unit in which they are told
    "ece": ("ECE", 100, " %"),
    "mce": ("MCE", 100, " %"),
    "ece_class": ("ECE of the class", 100, " %"),
    "nll": ("NLL", 1, ""),
    "brier": ("Brier score", 1, ""),
    "dice": ("Dice", 1, ""),
    "hd95_mm": ("HD95", 1, " mm"),
    "assd_mm": ("ASSD", 1, " mm"),
}
METHODS = {"temperature": "temperature scaling", "vector_scaling": "vector scaling"}
REGIONS = {  # the first that was scored is where probabilities are judged
    "box": "in the box around the segments",
    "whole": "in the whole image",
    "band": "in the band along their boundary",
}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation has written below its folder: three JSON files and its tables."""

    settings: dict
    provenance: dict
    correction: dict
    scores: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    reliability: pd.DataFrame
    reliability_cases: pd.DataFrame
    entropy_dice: pd.DataFrame
    entropy_fit: pd.DataFrame
    risk_coverage: pd.DataFrame
    aurc: pd.DataFrame
    review: pd.DataFrame
    oodm: pd.DataFrame
    left_out: pd.DataFrame
    notes: pd.DataFrame

    @property
    def n_cases(self):
        """Cases that were scored."""
        return self.scores.case.nunique()

    @property
    def n_patients(self):
        """Patients behind the scored cases."""
        return self.scores.patient.fillna(self.scores.case).nunique()

    @property
    def n_members(self):
        """Members that were scored, each by itself."""
        return max(1, self.scores.member[self.scores.method == "baseline"].nunique())

    @property
    def method(self):
        """What is judged: the ensemble, or the predictions themselves where there is none."""
        return "ensemble" if (self.summary.method == "ensemble").any() else "baseline"

    @property
    def region(self):
        """Where its probabilities are judged: in the box, if it was scored and labels have one."""
        rows = self.summary[(self.summary.metric == "ece") & self.summary["mean"].notna()]
        return next((name for name in REGIONS if (rows.region == name).any()), "whole")

    @property
    def judged(self):
        """What is judged, in words."""
        if self.method == "ensemble":
            return f"the ensemble of {self.n_members} members"
        return "the model"

    @property
    def segments(self):
        """Names of the segments, in their order."""
        return list(self.summary.segment[self.summary.metric == "dice"].dropna().unique())

    def level(self, metric, method=None, region=None, segment=None):
        """The row of `summary` with the mean and its interval, None without one."""
        method, region = method or self.method, region or self.region
        wanted = {"metric": metric, "method": method, "region": region, "segment": segment}
        return first_row(self.summary, **wanted, interval="mean")

    def difference(self, metric, method, against=None):
        """The row of `differences` of a method, by default against what it works on, or None."""
        against = against or ("baseline" if method == "ensemble" else self.method)
        wanted = {"metric": metric, "region": self.region, "segment": None}
        return first_row(self.differences, method=method, against=against, **wanted)

    def ece_of_cases(self):
        """The ECE of each case by name, the lowest first."""
        rows = self.scores[(self.scores.method == self.method) & (self.scores.metric == "ece")]
        rows = rows[(rows.region == self.region) & rows.segment.isna() & rows.value.notna()]
        return rows.groupby("case").value.mean().sort_values()

    def name_of(self, method):
        """A method in words."""
        baseline = "one member alone" if self.n_members > 1 else "as predicted"
        names = METHODS | {"baseline": baseline, "ensemble": f"ensemble of {self.n_members}"}
        return names.get(method, str(method).replace("_", " "))

    @property
    def unplaced(self):
        """A sentence on complete failures that no mean holds, behind others; "" without any."""
        row = first_row(self.notes, note=UNPLACED)
        if row is None:
            return ""
        why = "in which nothing was predicted: such a crop of nnU-Net v1 has no place"
        return f" Missing from all means: {many(int(row.n_cases), 'case')} ({row.cases}), {why}."

    def doubts(self):
        """Why nothing is concluded from these cases, in a list."""
        ece, means = self.level("ece"), {}
        n = self.n_patients if ece is None else min(self.n_patients, int(ece.n_cases))
        reasons = doubts(n_test=n, unit="patient")
        for segment in self.segments:
            row = self.level("dice", region="whole", segment=segment)
            means[segment] = np.nan if row is None else row["mean"]
        return reasons + doubts(dice=means)


def read_evaluation(out):
    """Read what an evaluation has written below the folder `out`."""
    kinds = ("evaluation", "provenance", "correction", "command")
    files = [out / f"{name}.json" for name in kinds]
    *read, command = [read_json(path, shape=dict) if path.exists() else {} for path in files]
    read[0] |= command
    return Evaluation(*read, **{name: _read(out, name) for name in COLUMNS})


def number(value):
    """A number with about three digits, of which at most four behind the point; a dash for none.

    Examples
    --------
    >>> [number(value) for value in (0.0073, 0.2, 4.146, 63.25, 1234.5)]
    ['0.0073', '0.200', '4.15', '63.2', '1,234']
    >>> [number(value) for value in (-2, -0.00001, float("nan"))]
    ['−2', '0.0000', '–']
    """
    if value is None or not np.isfinite(value):
        return "–"
    size = abs(value)
    digits = 0 if float(value).is_integer() else 4 - sum(size >= x for x in (0.01, 1, 10, 100))
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")  # -0.0 + 0.0 is 0.0


def many(count, noun):
    """A number of things.

    Examples
    --------
    >>> many(1, "case"), many(1200, "case")
    ('1 case', '1,200 cases')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_interval(metric, row, value, brackets="{}", unit=None):
    """A mean or a difference of a metric with its interval, in the unit of the metric."""
    _, factor, of_metric = METRICS[metric]
    is_difference = value == "difference"
    if unit is None:
        unit = POINTS if is_difference and of_metric == " %" else of_metric
    sign = "+" if is_difference and row[value] > 0 else ""
    text = sign + number(factor * row[value]) + unit
    ends = ends_of(factor * row.lo, factor * row.hi)
    return f"{text} ({brackets.format(ends)})" if ends else text


def ends_of(lo, hi):
    """The ends of an interval, or nothing."""
    return f"{number(lo)} to {number(hi)}" if np.isfinite([lo, hi]).all() else ""


def capital(sentence):
    """A sentence with a capital, whatever it begins with."""
    return sentence[0].upper() + sentence[1:]


def enumerated(names):
    """Names as a sentence has them."""
    *others, last = map(str, names)
    return f"{', '.join(others)} and {last}" if others else last


def in_words(score):
    """A score of doubt, or an order of cases, in words."""
    names = {"oodm": "OODM", "random": "random order"}
    return names.get(score, str(score).replace("_", " "))


def _read(out, name):
    """A table below `out` with at least its columns."""
    path, columns = out / "tables" / f"{name}.csv", COLUMNS[name].split()
    has_text = path.exists() and path.read_text(encoding="utf-8").strip()
    table = read_table(path) if has_text else pd.DataFrame(columns=columns)
    return table.assign(**{column: np.nan for column in columns if column not in table})


def first_row(table, **wanted):
    """The first row with these values, where None is an empty cell; None without one."""
    for column, value in wanted.items():
        table = table[table[column].isna() if value is None else table[column] == value]
    return table.iloc[0] if len(table) else None
