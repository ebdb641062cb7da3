"""Run folders as ``python -m segcal_lite evaluate`` leaves them, with plausible numbers."""

import numpy as np
import pandas as pd

from segcal_lite.runs.folders import write_json
from segcal_lite.runs.tables import write_table

SEGMENTS = ("RV", "myocardium", "LV")
LEVELS = {"baseline": (0.062, 0.26), "ensemble": (0.045, 0.21)}  # ECE and NLL
LEVELS |= {"temperature": (0.014, 0.17), "vector_scaling": (0.013, 0.168)}


def scores_of(n_cases, n_members, has_probabilities, rng):
    """A long table of scores as the evaluation writes it."""
    rows, methods = [], list(LEVELS) if has_probabilities else ["baseline"]
    if n_members == 1:
        methods = [method for method in methods if method != "ensemble"]
    hard = rng.gamma(2, 0.5, n_cases)  # how hard a case is
    for method in methods:
        for member in range(n_members if method == "baseline" else 1):
            used = 1 if method == "baseline" else n_members
            for i, difficulty in enumerate(hard):
                who = (f"case_{i:03d}", f"patient_{i:03d}", method, member, used)
                for region in ("whole", "box", "band") if has_probabilities else ():
                    for metric, level in zip(("ece", "nll"), LEVELS[method], strict=True):
                        value = level * (0.6 + 0.4 * difficulty) * {"whole": 0.1}.get(region, 1)
                        rows.append((*who, region, None, metric, value * rng.uniform(0.9, 1.1)))
                for k, segment in enumerate(SEGMENTS):
                    dice = np.clip(0.95 - 0.05 * k - 0.06 * difficulty + rng.normal(0, 0.01), 0, 1)
                    found = {"dice": dice, "hd95_mm": 3 + 4 * difficulty, "assd_mm": difficulty}
                    if has_probabilities:
                        found["segment_entropy"] = 0.05 + 0.06 * difficulty + 0.02 * k
                    rows += [(*who, "whole", segment, *item) for item in found.items()]
    columns = [
        "case",
        "patient",
        "method",
        "member",
        "n_members",
        "region",
        "segment",
        "metric",
        "value",
    ]
    return pd.DataFrame(rows, columns=columns)


def interval_of(values, keys):
    """Mean and a plain interval, none of fewer than five."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) >= 5 else np.nan
    return {keys: values.mean(), "lo": values.mean() - half, "hi": values.mean() + half}


def summary_of(scores):
    by = ["method", "region", "segment", "metric"]
    rows = []
    for key, part in scores.groupby(by, sort=False, dropna=False):
        row = dict(zip(by, key, strict=True)) | interval_of(
            part.groupby("case").value.mean(), "mean"
        )
        counts = {"n_cases": part.case.nunique(), "n_missing": 0}
        rows += [row | counts | {"interval": kind} for kind in ("cases", "mean")]
    return pd.DataFrame(rows)


def verdict_of(row, n_cases):
    if n_cases < 10:
        few = f"{n_cases} patients, at least 10 needed"
        return {"verdict": "no conclusion", "why": few}
    is_open = row["lo"] <= 0 <= row["hi"]
    better = "undecided" if is_open else "better" if row["hi"] < 0 else "worse"
    return {"verdict": better, "why": None}


def differences_of(scores, base, n_cases):
    pairs = [("vector_scaling", "temperature")]
    pairs += [(method, base) for method in ("temperature", "vector_scaling")]
    pairs += [("ensemble", "baseline")] if base == "ensemble" else []
    rows = []
    mean = scores[scores.metric.isin(["ece", "nll"])]
    mean = mean.groupby(["method", "region", "metric", "case"]).value.mean()
    for method, against in pairs:
        for region in ("whole", "box", "band"):
            for metric in ("ece", "nll"):
                paired = mean[method, region, metric] - mean[against, region, metric]
                row = {"method": method, "against": against, "region": region, "segment": None}
                row |= {"metric": metric} | interval_of(paired, "difference")
                rows.append(row | {"p": 0.001, "n_cases": n_cases} | verdict_of(row, n_cases))
    return pd.DataFrame(rows)


def reliability_of(methods):
    rows, edges = [], np.linspace(0, 1, 11)
    for method in methods:
        for m in range(5, 10):
            confidence = edges[m] + 0.06
            accuracy = confidence - 1.4 * LEVELS[method][0] * (m > 5) - 0.01
            row = (method, "box", edges[m], edges[m + 1], 2000 * (m - 3) ** 3, confidence, accuracy)
            rows.append(row)
        rows += [(method, "box", edges[m], edges[m + 1], 0, None, None) for m in range(5)]
    columns = ["method", "region", "lower", "upper", "count", "confidence", "accuracy"]
    return pd.DataFrame(rows, columns=columns)


def reliability_of_cases(table, cases, rng):
    """The same of each case, which has its own share of the error."""
    table, tables = table[table["count"] > 0], []
    for case in cases:
        accuracy = table.accuracy - rng.normal(0, 0.03, len(table))
        tables.append(table.assign(case=case, accuracy=accuracy, count=table["count"] // 20))
    return pd.concat(tables)[["case", *table.columns]]


def coverage_of(scores, n_cases):
    """Curves of two scores and of the oracle, and their areas."""
    wide = scores[scores.method != "baseline"].groupby(["case", "metric"]).value.mean().unstack()
    risks, curves, areas = 1 - wide.dice, [], []
    order = {"segment_entropy": wide.segment_entropy, "uncertainty": wide.nll, "oracle": risks}
    coverage = np.arange(1, n_cases + 1) / n_cases
    for score, values in order.items():
        risk = risks[values.sort_values().index].expanding().mean().to_numpy()
        curves.append(pd.DataFrame({"score": score, "coverage": coverage, "risk": risk}))
        areas.append({"score": score, "aurc": risk.mean(), "random": risks.mean()})
    oracle = areas.pop()["aurc"]
    random = {"score": "random", "coverage": coverage, "risk": risks.mean()}
    curves.append(pd.DataFrame(random))
    for row in areas:
        gain = row["aurc"] - row["random"]
        row |= {"oracle": oracle, "difference": gain, "n_cases": n_cases}
        enough = n_cases >= 5
        row |= {"lo": 1.5 * gain, "hi": 0.5 * gain} if enough else {"lo": np.nan, "hi": np.nan}
        row |= verdict_of(row, n_cases)
    return pd.concat(curves), pd.DataFrame(areas)


def review_of(n_new, rng):
    table = pd.DataFrame({"rank": range(1, n_new + 1)})
    table["case"] = [f"new_{i:03d}" for i in rng.permutation(n_new)]
    table["score"] = np.sort(rng.gamma(2, 0.1, n_new))[::-1]
    for k, segment in enumerate(SEGMENTS):
        table[f"{segment} segment_entropy"] = table.score / (k + 1)
        dice = 0.95 - 0.5 * table.score
        table[f"{segment} expected_dice"] = dice
        table[f"{segment} expected_dice lo"], table[f"{segment} expected_dice hi"] = (
            dice - 0.1,
            dice,
        )
        volume = rng.uniform(20, 1500, n_new)
        table[f"{segment} volume_ml"] = volume
        table[f"{segment} expected_ml"] = 1.02 * volume
        table[f"{segment} expected_ml lo"] = 0.9 * volume
        table[f"{segment} expected_ml hi"] = 1.14 * volume
    return table.assign(uncertainty=table.score / 2, pairwise_dice=0.98 - 0.4 * table.score)


def oodm_of(labelled, new, rng):
    """Distances of training, labelled and new cases; the first new case is unlike all others."""
    names = {"training": [f"train_{i}" for i in range(30)], "labelled": labelled, "new": new}
    rows = [(name, group, rng.gamma(9, 0.01)) for group, of in names.items() for name in of]
    table = pd.DataFrame(rows, columns=["case", "group", "oodm"])
    table.loc[table.case.isin(new[:1]), "oodm"] = 0.9
    return table.assign(threshold=0.18, is_ood=table.oodm > 0.18)


def write_slices(path, rng):
    """The slices of a new case that its picture shows."""
    x, y = np.mgrid[-40:40, -48:48]
    radius = np.hypot(x - rng.normal(0, 4), y)
    predicted = np.select([radius < 9, radius < 14, radius < 20], [3, 2, 1], 0)
    edge = np.min([np.abs(radius - r) for r in (9, 14, 20)], axis=0)
    image = 100 - radius + 8 * rng.normal(size=radius.shape)
    entropy = 0.7 * np.exp(-edge / 2)
    path.parent.mkdir(exist_ok=True)
    np.savez(path, image=image, predicted=predicted, entropy=entropy, spacing_mm=(1.5, 1.5))


def write_evaluation(
    out, n_cases=12, n_members=3, n_new=14, has_probabilities=True, n_pictures=2, n_left_out=2
):
    """Write what an evaluation leaves below its folder."""
    rng, tables = np.random.default_rng(0), {}
    scores = scores_of(n_cases, n_members, has_probabilities, rng)
    tables["scores"], tables["summary"] = scores, summary_of(scores)
    if has_probabilities:
        base = "ensemble" if n_members > 1 else "baseline"
        tables["differences"] = differences_of(scores, base, n_cases)
        pooled = tables["reliability"] = reliability_of(scores.method.unique())
        tables["reliability_cases"] = reliability_of_cases(pooled, scores.case.unique(), rng)
        keys = ["case", "patient", "segment"]
        wide = scores[(scores.method == base) & scores.segment.notna()]
        wide = wide.pivot_table(index=keys, columns="metric", values="value").reset_index()
        tables["entropy_dice"] = wide[[*keys, "segment_entropy", "dice"]]
        fit = {"r": -0.8, "lo": -0.9, "hi": -0.6, "slope": -0.05, "intercept": 0.2}
        fit |= {"n": n_cases, "n_missing": 0, "n_clipped": 0, "error": 0.034}
        tables["entropy_fit"] = pd.DataFrame([fit | {"segment": name} for name in SEGMENTS])
        tables["risk_coverage"], tables["aurc"] = coverage_of(scores, n_cases)
        fitted = {"temperature": 1.42, "scale": [0.7] * 4, "shift": [0.1] * 4}
        folds = {f"case_{i:03d}": fitted | {"temperature": 1.38 + 0.01 * i} for i in range(5)}
        code = "import json, numpy as np\nfitted = json.load(open('correction.json'))['of all']\n"
        write_json(
            out / "correction.json",
            {"of all": fitted, "without the patient of": folds, "code": code},
        )
    if n_new:
        tables["review"] = review_of(n_new, rng)
    if has_probabilities:
        new = list(tables["review"].case) if n_new else []
        tables["oodm"] = oodm_of(list(scores.case.unique()), new, rng)
    if n_new and has_probabilities:
        of_new = tables["oodm"][["case", "oodm", "is_ood"]]
        tables["review"] = tables["review"].merge(of_new, on="case")
    why = "found class sums that miss 1 by 99, expected sums of 1 <b>."
    names = [f"case_{1000 + i}" for i in range(n_left_out)]
    rows = [(name, "fold_1", f"{name}.npz: {why}", "labelled") for name in names]
    tables["left_out"] = pd.DataFrame(rows, columns=["case", "folder", "why", "group"])
    notes = [("float16: a probability below 6e-8 is 0", n_cases, "case_000, case_001 and more")]
    tables["notes"] = pd.DataFrame(notes, columns=["note", "n_cases", "cases"])
    for name, table in tables.items():
        write_table(out / "tables" / f"{name}.csv", table)
    command = "python -m segcal_lite evaluate --labels labelsTr --predictions fold_0 fold_1 fold_2"
    settings = {"labels": "labelsTr", "predictions": ["fold_0", "fold_1", "fold_2"], "n_bins": 10}
    settings |= {"box_mm": 8, "members_averaged": "probabilities", "new": None}
    write_json(out / "evaluation.json", settings | {"command": command})
    made = {"date": "2026-11-27", "commit": "0123456789ab", "torch": "2.13.0", "python": "3.12.3"}
    write_json(out / "provenance.json", made | {"device": "cpu", "processor": "a CPU, 2 cores"})
    for case in tables["review"].sort_values("rank").case[:n_pictures] if n_new else ():
        write_slices(out / "new" / f"{case}.npz", rng)
    return out
