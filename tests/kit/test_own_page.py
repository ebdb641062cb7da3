"""The page of an evaluation: what it says of plausible, few, many and hard-labelled cases."""

import base64
import html
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from segcal_lite.kit.own_page import write_page
from segcal_lite.report import draw_figures, plot_review, read_evaluation, three_answers
from segcal_lite.runs.folders import write_figure, write_json
from segcal_lite.runs.tables import read_table, write_table

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
    pairs = [(method, base) for method in ("temperature", "vector_scaling")]
    pairs += [("vector_scaling", "temperature")]
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
        table[f"{segment} volume_ml lo"], table[f"{segment} volume_ml hi"] = volume - 9, volume + 9
    return table.assign(pairwise_dice=0.98 - 0.4 * table.score, oodm=table.score / 9)


def picture(path, rng):
    """A review picture as the runner draws it."""
    x, y = np.mgrid[-40:40, -48:48]
    radius = np.hypot(x - rng.normal(0, 4), y)
    predicted = np.select([radius < 9, radius < 14, radius < 20], [3, 2, 1], 0)
    edge = np.min([np.abs(radius - r) for r in (9, 14, 20)], axis=0)
    image = 100 - radius + 8 * rng.normal(size=radius.shape)
    entropy = 0.7 * np.exp(-edge / 2)
    figure = plot_review(image, predicted, entropy, SEGMENTS, (1.5, 1.5))
    write_figure(path, figure)
    plt.close(figure)


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
        tables["reliability"] = reliability_of(scores.method.unique())
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
        write_json(out / "correction.json", {"of all": fitted, "folds": folds, "code": code})
    if n_new:
        tables["review"] = review_of(n_new, rng)
    why = "case_900.npz: found class sums that miss 1 by 99, expected sums of 1 <b>."
    rows = [(f"case_{900 + i}", "fold_1", why) for i in range(n_left_out)]
    tables["left_out"] = pd.DataFrame(rows, columns=["case", "folder", "why"])
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
    for rank in range(1, min(n_pictures, n_new) + 1):
        picture(out / "figures" / f"review_{rank}.png", rng)
    return out


def text_of(page):
    """What a reader sees, without tags, in one line."""
    body = page.read_text().split("<body>")[1]
    body = re.sub(r"data:image/png;base64,[\w+/=]+", "", body)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Twelve cases, three members, new cases: all there is."""
    out = write_evaluation(tmp_path_factory.mktemp("plain") / "mine")
    draw_figures(out)
    write_page(out)
    return out


def test_the_page_holds_its_figures_and_asks_no_network(plain):
    page = (plain / "index.html").read_text()
    sources = re.findall(r'<img src="([^"]+)" alt="[^"]{10,}"', page)
    assert len(sources) == page.count("<img") == 5 + 2
    pictures = {path.read_bytes() for path in (plain / "figures").glob("*.png")}
    prefix = "data:image/png;base64,"
    assert {base64.b64decode(source.removeprefix(prefix)) for source in sources} == pictures
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", page)
    assert "<script" not in page
    links = re.findall(r'href="([^#"]+)"', page)
    assert links and all((plain / link).exists() for link in links)
    assert "&lt;b&gt;" in page and "<b>" not in page  # what others wrote is escaped


def test_the_answers_have_numbers_and_intervals_of_the_tables(plain):
    trust, correction, doubtful = three_answers(read_evaluation(plain))
    summary = read_table(plain / "tables" / "summary.csv")
    wanted = (summary.metric == "ece") & (summary.region == "box") & (summary.interval == "mean")
    row = summary[wanted & (summary.method == "ensemble")].iloc[0]
    ends = f"{100 * row['mean']:.2f} % (95 % interval {100 * row.lo:.2f} to {100 * row.hi:.2f})"
    assert trust.short.startswith(f"In the box around the segments they are off by {ends}")
    assert "over-confident" in trust.short
    assert any("against one of its members" in text for text in trust.sentences)
    assert correction.short.startswith("Temperature scaling, one number")
    assert any("temperature is 1.42" in text and "1.38 to 1.42" in text for text in correction[2])
    review = read_table(plain / "tables" / "review.csv")
    assert doubtful.short.startswith(f"First {review.case[0]}, {review.case[1]} and")
    assert "segment entropy finds poor segmentations better than chance" in doubtful.short
    assert sum("AURC" in sentence for sentence in doubtful.sentences) == 2
    text = text_of(plain / "index.html")
    for answer in (trust, correction, doubtful):
        assert text.count(answer.question) == 2  # in the list on top, and with its reasons
        assert all(re.sub(r"\s+", " ", sentence) in text for sentence in answer.sentences)


def changed(evaluation, name, **columns):
    """The evaluation with other values in a table."""
    fields = vars(evaluation) | {name: getattr(evaluation, name).assign(**columns)}
    return type(evaluation)(**fields)


def test_confidence_that_is_too_low_or_mixed_is_called_so(plain):
    evaluation = read_evaluation(plain)
    bins = evaluation.reliability
    low = changed(evaluation, "reliability", accuracy=bins.confidence + 0.02)
    assert "under-confident" in three_answers(low)[0].short
    signs = np.where(np.arange(len(bins)) % 10 == 4, -1, 1) * 0.01  # the fullest bin, and others
    mixed = changed(evaluation, "reliability", accuracy=bins.confidence + signs)
    mixed = changed(mixed, "reliability", count=np.where(bins["count"] > 0, 100, 0))
    three = mixed.reliability[mixed.reliability["count"] > 0].groupby("method").head(2)
    signs = np.where(np.arange(len(three)) % 2, -0.01, 0.01)
    mixed = changed(mixed, "reliability")
    fields = vars(mixed) | {"reliability": three.assign(accuracy=three.confidence + signs)}
    assert "others too low" in three_answers(type(mixed)(**fields))[0].short


def verdicts(evaluation, **found):
    """The evaluation with other verdicts on NLL, by method."""
    table = evaluation.differences
    others = table.method.map(found).where(table.against != "temperature")
    return changed(evaluation, "differences", verdict=others.fillna(table.verdict))


@pytest.mark.parametrize(
    ("temperature", "vector_scaling", "told"),
    [
        ("better", "undecided", "Temperature scaling, one number"),
        ("undecided", "better", "Vector scaling: the ECE goes"),
        ("undecided", "worse", "Nothing that was tried"),
        ("no conclusion", "no conclusion", "That cannot be concluded"),
    ],
)
def test_the_correction_to_take_is_the_one_that_lowers_the_nll(
    plain, temperature, vector_scaling, told
):
    found = {"temperature": temperature, "vector_scaling": vector_scaling}
    evaluation = verdicts(read_evaluation(plain), **found)
    assert three_answers(evaluation)[1].short.startswith(told)


def test_vector_scaling_must_beat_temperature_to_be_preferred(plain):
    evaluation = verdicts(read_evaluation(plain), temperature="better", vector_scaling="better")
    is_rival = evaluation.differences.against == "temperature"
    for verdict, told in (("better", "Vector"), ("undecided", "Temperature")):
        column = evaluation.differences.verdict.mask(is_rival, verdict)
        found = three_answers(changed(evaluation, "differences", verdict=column))[1]
        assert found.short.startswith(told)


def test_few_cases_say_that_nothing_is_concluded(tmp_path):
    out = write_evaluation(tmp_path / "few", n_cases=3, n_new=0, n_pictures=0)
    draw_figures(out)
    text = text_of(write_page(out))
    assert "Too little to say: 3 patients, at least 10 needed." in text
    assert "That cannot be concluded: 3 patients, at least 10 needed" in text
    assert "worth anything cannot be concluded: 3 patients, at least 10 needed." in text
    assert "there are too few patients for intervals" in text
    assert "No cases without labels were given" in text
    assert not re.search(r"\bnan\b", text)


def test_several_scans_of_a_patient_count_once(plain):
    evaluation = read_evaluation(plain)
    evaluation = changed(evaluation, "scores", patient="the only one")
    assert three_answers(evaluation)[0].short.startswith("Too little to say: 1 patient,")


def test_hard_labels_say_what_cannot_be_had(tmp_path):
    out = write_evaluation(tmp_path / "hard", has_probabilities=False, n_new=0, n_left_out=0)
    assert draw_figures(out) == []
    text = text_of(write_page(out))
    assert "there are only hard labels, no probabilities" in text
    assert "save the probabilities" in text
    assert "hard labels hold no probabilities to correct" in text
    assert "Nothing: every case was scored." in text
    assert "Dice RV" not in text and "HD95 (mm)" in text
    assert "AURC" not in text and "ECE" not in text
    assert "Members 3" in text


def test_one_folder_has_no_ensemble(tmp_path):
    out = write_evaluation(tmp_path / "one", n_members=1, n_new=0)
    draw_figures(out)
    text = text_of(write_page(out))
    assert "ensemble" not in text.lower()
    assert "the model says" in text and "as predicted" in text


def test_a_thousand_cases_make_a_page_that_opens(tmp_path):
    out = write_evaluation(tmp_path / "many", 1000, 1, 1000, n_pictures=0, n_left_out=200)
    draw_figures(out)
    page = write_page(out)
    text = text_of(page)
    assert "first 50 of 1,000 cases" in text and "The first 50 of 200" in text
    assert page.read_text().count("<tr>") < 300
    assert page.stat().st_size < 2e6


def test_tables_that_are_absent_or_have_more_columns_are_no_obstacle(tmp_path):
    out = write_evaluation(tmp_path / "part")
    scores = read_table(out / "tables" / "scores.csv").assign(device="cpu")
    write_table(out / "tables" / "scores.csv", scores)
    (out / "tables" / "notes.csv").write_text("\n")
    text_of(write_page(out))
    for path in (out / "tables").glob("*.csv"):
        if path.stem not in ("scores", "summary"):
            path.unlink()
    for name in ("correction", "provenance", "evaluation"):
        (out / f"{name}.json").unlink()
    draw_figures(out)
    assert [path.stem for path in (out / "figures").glob("[a-q]*.png")] == []
    assert "Can I trust its probabilities?" in text_of(write_page(out))


def test_figures_of_earlier_data_are_removed(plain, tmp_path):
    out = write_evaluation(tmp_path / "again", n_new=0)
    assert len(draw_figures(out)) == 5
    (out / "tables" / "entropy_dice.csv").unlink()
    assert len(draw_figures(out)) == 4
    assert not (out / "figures" / "entropy_against_dice.png").exists()
