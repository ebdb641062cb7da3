import numpy as np
import pandas as pd
import pytest

from segcal_lite.__main__ import _parser
from segcal_lite.detection import detection_table, fit_detectors
from segcal_lite.experiments.trials import Trial, describe_trials
from segcal_lite.kit import commands
from segcal_lite.kit.results import story
from segcal_lite.kit.results.phantom_claims import CLAIMS_OF_B
from segcal_lite.kit.results.story import (
    _by_case,
    _calibration_claims,
    _entropy_claim,
    detection_rows,
    every_claim_holds,
    with_other_rows,
)
from segcal_lite.runs import folders
from segcal_lite.runs.folders import enter_run
from segcal_lite.runs.tables import read_table
from segcal_lite.training.plans import dedicated


def rows(loss="dice", **values):
    """A long table: values[method_metric] has one row a member and one column a case."""
    table = []
    for key, by_member in values.items():
        method, metric = key.split("__")
        for member, by_case in enumerate(by_member):
            for case, value in enumerate(by_case):
                table.append((loss, method, member, f"c{case}", metric, value))
    columns = ["loss", "method", "member", "case", "metric", "value"]
    return pd.DataFrame(table, columns=columns)


def test_scores_are_paired_by_case():
    table = rows(baseline__ece=[[0.1, 0.2], [0.3, 0.4]])
    assert _by_case(table, "baseline", "ece").to_numpy().tolist() == [[0.1, 0.3], [0.2, 0.4]]


def test_the_claims_are_differences_of_means_with_their_sign():
    rng = np.random.default_rng(0)
    members = rng.uniform(0.1, 0.2, size=(3, 12))
    table = rows(
        baseline__ece=members,
        ensemble__ece=[members.mean(axis=0) - 0.05],
        baseline__nll=members + 1,
        ensemble__nll=[members.mean(axis=0)],
        oracle__nll=[np.full(12, 0.05)],
    )
    claims = _calibration_claims(table)
    assert np.isclose(claims["ece_difference"], -0.05)
    assert claims["ece_difference_lo"] <= -0.05 + 1e-9
    assert claims["ece_difference_hi"] < 0
    assert np.isclose(claims["nll_best_member"], (members + 1).mean(axis=1).min())
    assert np.isclose(claims["nll_gap_members"], (members + 1).mean() - 0.05)
    assert np.isclose(claims["nll_gap_ensemble"], members.mean() - 0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ece_difference_hi", 0.001),
        ("nll_best_member", 0.1),
        ("nll_gap_members", 0.05),
        ("entropy_pearson_r", 0.0),
        ("spectral_auc", 0.94),
        (None, None),
    ],
)
def test_a_run_holds_if_all_its_numbers_do(name, value):
    row = {
        **{"ece_difference": -0.02, "ece_difference_hi": -0.01, "nll_ensemble": 0.1},
        **{"nll_best_member": 0.2, "nll_gap_ensemble": 0.05, "nll_gap_members": 0.1},
        **{"entropy_pearson_r": -0.5, "spectral_auc": 0.95},
    }
    assert every_claim_holds({**row, name: value}) == (name is None)


def test_entropy_that_falls_with_dice_correlates_negatively_and_gaps_are_counted():
    dice = np.linspace(0.2, 0.95, 15)
    table = pd.concat(
        [
            rows(ensemble__dice=[dice], ensemble__segment_entropy=[0.6 - 0.5 * dice]),
        ]
    ).assign(segment="organ")
    table.loc[(table.metric == "segment_entropy") & (table.case == "c3"), "value"] = np.nan
    claim = _entropy_claim(table)
    assert claim["entropy_pearson_r"] < -0.9
    assert (claim["entropy_n"], claim["entropy_n_missing"]) == (14, 1)


def test_a_set_that_was_never_seen_gets_a_row(volumes):
    trials = {"organs": Trial(dedicated("atrium"), ("liver_ct", "cp_younger"))}
    found = detection_rows(volumes, trials, report=lambda line: None)
    assert [(row["trial"], row["unseen"]) for row in found] == [
        ("organs", "liver_ct"),
        ("organs", "cp_younger"),
    ]
    one = {"one": Trial(dedicated("atrium"), ("cp_younger",))}
    (parts,) = describe_trials(volumes, one, report=lambda line: None).values()
    table = detection_table(fit_detectors(parts[0]), *parts[1:]).set_index("detector")
    for name, area in table.auc.items():
        assert found[1][f"auc_{name}"] == area
    assert found[1]["flagged"] == table.sensitivity["spectral"]
    assert found[1]["holds"] == (table.auc["spectral"] >= 0.95)
    assert found[1]["dice_unseen"] == parts[2]["dice"].mean()
    n_in = table.n_in["spectral"]
    assert n_in < 10
    few = f"no conclusion: {n_in} in-distribution cases, at least 10 needed"
    assert found[1]["verdict"].startswith(few)


def test_a_seed_told_again_replaces_its_rows_and_no_others(tmp_path):
    path = tmp_path / "story.csv"
    first = pd.DataFrame({"seed": [302, 302, 301], "auc": [0.1, 0.2, 0.3]})
    assert with_other_rows(path, first) is first
    first.to_csv(path, index=False)
    both = with_other_rows(path, pd.DataFrame({"seed": [401, 302], "auc": [0.5, 0.6]}))
    assert both.to_numpy().tolist() == [[301, 0.3], [302, 0.6], [401, 0.5]]


def test_claims_of_a_seed_are_told_in_rounds(tmp_path):
    path = tmp_path / "claims.csv"
    columns = ["seed", "claim", "value"]
    pd.DataFrame([(1, "A2", 1), (1, "A10", 2), (2, "A2", 3)], columns=columns).to_csv(path)
    told = pd.DataFrame([(1, "A9", 4), (1, "A2", 5), (1, "A2", 6), (2, "A1", 7)], columns=columns)
    rows = with_other_rows(path, told)[columns].to_numpy().tolist()
    of_first = [[1, "A2", 5], [1, "A2", 6], [1, "A9", 4], [1, "A10", 2]]
    assert rows == [*of_first, [2, "A1", 7], [2, "A2", 3]]


def test_a_row_says_what_made_its_run_not_what_tells_it(tmp_path, monkeypatch):
    monkeypatch.setattr(story, "project_root", lambda: tmp_path)

    def tell(commit, seeds):
        made = {"date": "d", "commit": commit, "torch": "t", "device": "cpu", "processor": "p"}
        monkeypatch.setattr(folders, "provenance", lambda device: made)

        def told(out, seeds):
            for seed in seeds:
                enter_run(out / str(seed), "run.json", {"seed": seed}, "cpu")
            return pd.DataFrame({"seed": seeds, "holds": True})

        monkeypatch.setitem(story.STORIES, "story", told)
        assert story.write_stories(["story"], tmp_path / "runs", seeds)
        return read_table(tmp_path / "results" / "story.csv").set_index("seed").commit.to_dict()

    assert tell("a", [1]) == {1: "a"}
    assert tell("b", [1, 2]) == {1: "a, then b", 2: "b"}


def test_the_command_knows_the_claims_and_refuses_those_without_their_table(tmp_path):
    given = ["story", "--seeds", "1", "--claims", *CLAIMS_OF_B]
    claims = _parser().parse_args(given).claims
    assert tuple(claims) == CLAIMS_OF_B
    with pytest.raises(SystemExit):
        _parser().parse_args([*given, "B7"])
    told = "^--claims: found B1, B2, expected none without --tables story_claims_volumes"
    with pytest.raises(ValueError, match=told):
        commands.story([1], ["story_floor_volumes"], ["B1", "B2"], tmp_path)
    assert not list(tmp_path.iterdir())
