"""What the notebooks conclude from made-up numbers: their own cells, executed."""

import ast
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest

from segcal_lite.detection import detection_table
from segcal_lite.detectors import ScalarDetector
from segcal_lite.kit.commands import NOTEBOOKS
from segcal_lite.report.verdicts import CONTROLS, read_verdicts
from segcal_lite.runs.folders import project_root


def cell(name, marker):
    """Source of the one code cell of a notebook that holds `marker`."""
    notebook = nbformat.read(project_root() / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = [c.source for c in notebook.cells if c.cell_type == "code" and marker in c.source]
    assert len(cells) == 1, marker
    return cells[0]


def execute(name, marker, **names):
    """Names after the cell, the value of its last expression among them as ``shown``."""
    imports = [
        line
        for line in ast.parse(cell(name, "use_style()")).body
        if isinstance(line, (ast.Import, ast.ImportFrom))
    ]
    body = ast.parse(cell(name, marker)).body
    if isinstance(body[-1], ast.Expr):
        body[-1] = ast.Assign([ast.Name("shown", ast.Store())], body[-1].value)
    module = ast.fix_missing_locations(ast.Module([*imports, *body], type_ignores=[]))
    names.setdefault("display", lambda *shown: None)  # as a kernel has it
    exec(compile(module, name, "exec"), names)
    return names


@pytest.mark.parametrize("name", NOTEBOOKS[1:])
def test_each_notebook_leaves_its_verdicts_for_the_page(name):
    assert f'"{name}", said)' in cell(name, "write_verdicts(")


def an_experiment(domains=("source", "shifted")):
    """Ten test cases a domain, training cases from the first."""
    case = {"image": np.zeros((1, 4, 4, 2)), "labels": np.zeros((4, 4, 2)), "spacing_mm": (1, 1, 1)}
    cases = {
        "train": [SimpleNamespace(domain=domains[0])],
        "test": [SimpleNamespace(domain=d, **case) for d in domains for _ in range(10)],
    }

    def split(which, domain=None):
        return [case for case in cases[which] if domain in (None, case.domain)]

    return SimpleNamespace(split=split)


def test_the_first_table_of_scores_keeps_domains_apart_and_has_no_empty_rows(capsys):
    rows = []
    for domain, value in (("shifted", 3.0), ("source", 1.0)):
        for number in range(10):
            for metric in ("nll", "brier", "ece"):
                rows.append((domain, f"{domain}{number}", "baseline", "box", metric, value))
            rows.append((domain, f"{domain}{number}", "sweep", "box", "nll", value))
    columns = ["domain", "case", "method", "region", "metric", "value"]
    scores = pd.DataFrame(rows, columns=columns).assign(loss="ce", segment=np.nan)
    of_region = scores.assign(segment="tumour", value=9.0)  # of one of overlapping regions
    scores = pd.concat([scores, of_region])
    names = execute("03_calibration", "in_boxes", experiment=an_experiment(), scores=scores)
    table = names["shown"]
    assert list(table.columns.unique("domain")) == ["source", "shifted"]
    assert table.index.tolist() == [("ce", "baseline")]
    assert table["source"].eq(1).all(axis=None)
    assert table["shifted"].eq(3).all(axis=None)
    printed = capsys.readouterr().out
    assert "source: 10 test cases; training cases come from this domain" in printed
    assert "shifted: 10 test cases; no training case comes from this domain" in printed


def test_a_domain_is_known_and_not_its_test_cases(capsys):
    execute("04_segment_entropy", "the first has", experiment=an_experiment())
    printed = capsys.readouterr().out
    assert "seen in training" not in printed
    assert "source: 10 test cases; training cases come from this domain; the first has" in printed
    assert "shifted: 10 test cases; no training case comes from this domain;" in printed


@pytest.mark.parametrize(
    "n_patients, bounds, expected",
    [
        (10, (-0.9, -0.3), "negative"),
        (10, (-0.9, 0.1), "undecided"),
        (10, (-1.0, 1.0), "no conclusion: the interval from -1.00 to 1.00"),
        (9, (-0.9, -0.3), "no conclusion: 9 test cases"),
        (10, (np.nan, np.nan), "no conclusion: there is no interval"),
    ],
)
def test_a_correlation_is_a_finding_only_with_patients_and_an_interval(
    n_patients, bounds, expected
):
    entropies = np.linspace(0.1, 0.5, n_patients)
    pairs = pd.DataFrame({"patient": range(n_patients), "segment": "LV", "domain": "source"})
    pairs = pairs.assign(segment_entropy=entropies, dice=1 - entropies, logit_dice=-entropies)
    pairs = pd.concat([pairs, pairs.assign(segment="MYO")])  # more pairs, no more patients
    interval = {"pearson_interval": lambda pairs, seed: bounds}
    row = execute("04_segment_entropy", "def regression_row", seed=0, **interval)
    assert row["regression_row"](pairs)["verdict"].startswith(expected)


def box_scores(n_cases, dice):
    """Scores of both losses: the ensemble is the best, and the oracle segments without fault."""
    rows, shifts = [], {"baseline": 0.3, "mc_dropout": 0.4, "ensemble": 0.0, "oracle": -0.1}
    for loss in ("ce", "dice"):
        for method, shift in shifts.items():
            for number in range(n_cases):
                shown = {"loss": loss, "method": method, "case": number, "region": "box"}
                shown["patient"] = number
                value = 0.5 + shift * (1 + 0.1 * number) + (loss == "ce") + 0.01 * number
                for metric in ("nll", "brier", "ece"):
                    rows.append(shown | {"metric": metric, "value": value, "segment": np.nan})
                shown |= {"metric": "dice", "region": "whole"}
                rows.append(shown | {"value": 0.9, "segment": "LV"})
                poor = 0.9 if method == "oracle" else dice
                rows.append(shown | {"value": poor, "segment": "MYO"})
    return {"rows": pd.DataFrame(rows), "methods": list(shifts), "region": "box", "seed": 0}


@pytest.mark.parametrize(
    "n_cases, dice, expected",
    [
        (10, 0.5, "ensemble better"),
        (9, 0.5, "no conclusion: 9 test cases, at least 10 needed"),
        (10, 0.49, "no conclusion: mean Dice 0.49 (MYO), at least 0.5 needed"),
    ],
)
def test_stars_and_verdicts_need_enough_cases_of_networks_that_segment(n_cases, dice, expected):
    names = execute("03_calibration", "def case_values(", **box_scores(n_cases, dice))
    exec(cell("03_calibration", "def column("), names)
    cells = names["column"]("nll", "box")
    assert sum(text.endswith("*") for text in cells) == (expected == "ensemble better")
    assert cells["dice", "ensemble"].endswith("*") == (expected == "ensemble better")
    exec(cell("03_calibration", '"ensemble better", "ensemble worse"'), names)
    assert set(names["tests"].verdict) == {expected}


@pytest.fixture
def volumes():
    """What judges of notebook 08 look at: a perfect detector on twelve known cases."""
    table = {"detector": ["spectral"], "auc": 1.0, "lo": 1.0, "hi": 1.0}
    table |= {"n_patients_in": 12, "n_patients_out": 14}
    lowest = {"uncertainty": 0.2, "spectral_shuffled": 0.1, "voxel_count": 0.4, "intensities": 0.3}
    rows = [{"rival": r, "lo": lo, "hi": 1.0} for r, lo in lowest.items()]
    unseen = {"set": np.repeat("spleen", 14), "dice": np.full(14, 0.8)}
    unseen |= {"patient": np.arange(14), "spectral": np.arange(14) == 0}  # one is flagged
    return {
        "tables": {"one": pd.DataFrame(table)},
        "fitted": {"one": {"spectral": SimpleNamespace(is_ood=np.asarray)}},
        "comparisons": {"one": pd.DataFrame(rows)},
        "known_dice": {"one": {"liver": 0.9, "prostate": 0.6}},
        "described": {"one": (None, None, unseen)},
    }


def test_b4_is_seen_only_where_no_control_does_as_well_and_the_sets_are_known(volumes):
    judge = execute("08_ood_volumes", "def judge_b4", **volumes)["judge_b4"]
    assert judge("one") == "seen"
    comparison = volumes["comparisons"]["one"]
    volumes["tables"]["one"].loc[0, "lo"] = 0.86  # sixteen images a side allow no more
    assert judge("one") == "undecided"
    volumes["tables"]["one"].loc[0, "hi"] = 0.89
    assert judge("one") == "not seen"
    volumes["tables"]["one"].loc[0, ["lo", "hi"]] = 0.95, 1.0
    comparison.loc[comparison.rival == "spectral_shuffled", "lo"] = 0.0
    assert judge("one") == "no conclusion: shuffled weights may do as well"
    volumes["known_dice"]["one"] |= {"liver": 0.31, "prostate": 0.02}
    found = judge("one")
    assert "mean Dice 0.31 (liver)" in found
    assert "mean Dice 0.02 (prostate)" in found
    volumes["tables"]["one"]["n_patients_in"] = 4
    assert judge("one").startswith("no conclusion: 4 in-distribution cases")


def test_b5_takes_more_than_half_by_chance_into_account(volumes):
    names = execute("08_ood_volumes", "def judge_b5", **volumes)
    assert names["judge_b5"]("one") == "seen"
    unseen = volumes["described"]["one"][2]
    unseen["spectral"] = np.arange(14) < 6  # most pass, by one patient
    assert names["judge_b5"]("one") == "undecided"
    unseen["spectral"], unseen["patient"] = np.arange(14) == 0, np.arange(14) // 2
    assert names["judge_b5"]("one").startswith("no conclusion: 7 test cases")
    unseen["patient"] = np.arange(14)
    unseen["dice"][:] = 0.2  # not segmented well: not what B5 is about
    assert names["judge_b5"]("one").startswith("no conclusion: mean Dice 0.20 (unseen)")


@pytest.mark.parametrize(
    "metric, sign, dice, expected",
    [
        ("dice", 1, {"joint": 0.8, "dedicated": 0.7}, "better"),
        ("ece_box", 1, {"joint": 0.8, "dedicated": 0.7}, "worse"),
        ("ece_box", -1, {"joint": 0.3, "dedicated": 0.5}, "better"),
        ("ece_box", -1, {"joint": 0.3, "dedicated": 0.02}, "no conclusion: mean Dice 0.30"),
    ],
)
def test_joint_training_is_judged_where_one_of_both_networks_works(metric, sign, dice, expected):
    rows = []
    for number in range(12):
        for training, mean in dice.items():
            shown = {"set": "liver", "patient": number, "training": training}
            rows.append(shown | {"metric": "dice", "value": mean})
            change = sign * (0.1 + 0.001 * number) * (training == "joint")
            rows.append(shown | {"metric": "ece_box", "value": 0.3 + change})
    names = execute("07_joint_training", "def judged", seed=0)
    exec(cell("07_joint_training", "def compare("), names)
    found = names["compare"](pd.DataFrame(rows), metric, "joint", "dedicated")
    assert found.verdict[0].startswith(expected)
    assert found.n.tolist() == [12]


def test_the_page_of_a_run_gets_the_sum_of_all_sets(tmp_path):
    few, poor = "4 test cases, at least 10 needed", "mean Dice 0.38, at least 0.5 needed"
    doubtful = [f"no conclusion: {few}", f"no conclusion: {few}; {poor}"]
    names = {"poor": [], "experiment": SimpleNamespace(out=tmp_path)}
    names["count_verdicts"] = lambda rows: "counted"
    for last in ("differences", "against_chains"):
        found = doubtful if last == "differences" else [*doubtful, "better"]
        rows = [(metric, text) for metric in ("dice", "ece_box") for text in found]
        names[last] = pd.DataFrame(rows, columns=["metric", "verdict"])
    execute("07_joint_training", "def summed_up", **names)
    assert read_verdicts(tmp_path)[["verdict", "why"]].to_numpy().tolist() == [
        ["yes", ""],
        *[["no conclusion", f"{few}; {poor}"]] * 2,
        *[["counted", ""]] * 2,
    ]


def test_training_names_collapsed_members_and_few_validation_cases(tmp_path):
    experiment = SimpleNamespace(
        out=tmp_path,
        split=lambda which: [SimpleNamespace(patient=name) for name in "abcdd"],
        collapsed=lambda loss: ["dice, seed 1: Dice 0.03, median 0.80"] if loss == "dice" else [],
    )
    plain = [("ce", pd.Series([0.8, 0.9])), ("dice", pd.Series([0.8, 0.03]))]
    execute("02_training", "write_verdicts(experiment", experiment=experiment, plain=plain)
    assert read_verdicts(tmp_path)[["verdict", "why"]].to_numpy().tolist() == [
        ["no conclusion", "4 validation cases, at least 5 needed"],
        ["none of 2 has collapsed", ""],
        ["collapsed", "dice, seed 1: Dice 0.03, median 0.80"],
    ]


@pytest.mark.parametrize("shift_of_controls, expected", [(0, "seen"), (1, "no conclusion")])
def test_a_2d_detector_must_beat_its_controls(shift_of_controls, expected):
    detectors = {name: ScalarDetector().fit([0.0, 0.1]) for name in ("spectral", *CONTROLS)}
    given = {"fitted": detectors, "said": {}, "segments": ("LV", "MYO"), "has_ood": False}
    conclude = execute("05_ood_detection", "def conclude", ood_table=None, **given)["conclude"]

    def verdicts(dice, n_out=12):
        known = {name: np.linspace(0, 0.5, 10) for name in detectors}
        known["segment_dice"] = np.tile([0.9, dice], (10, 1))
        unseen = {name: np.linspace(0, 0.5, n_out) + shift_of_controls for name in CONTROLS}
        unseen["spectral"] = np.linspace(1, 1.5, n_out)
        table = detection_table(detectors, known, unseen)
        comparison, _ = conclude("sets are told apart", [known, unseen], table)
        return given["said"]["sets are told apart"], comparison.verdict[0]

    found, against_a_control = verdicts(0.8)
    assert found.startswith(expected)
    assert against_a_control == {"seen": "better", "no conclusion": "undecided"}[expected]
    assert "mean Dice 0.30 (MYO)" in verdicts(0.3)[0]
    assert verdicts(0.8, n_out=9)[1].startswith("no conclusion: 9 test cases")
