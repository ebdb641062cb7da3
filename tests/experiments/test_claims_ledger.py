import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from test_claims_of_a import GOOD, long_scores, with_failures
from test_claims_of_b import detection_table, training_tables

from segcal_lite.data.tasks import EIGHT_SETS, TASKS
from segcal_lite.experiments.claims import printed
from segcal_lite.experiments.claims.deviations import deviations_of, deviations_of_volumes
from segcal_lite.experiments.claims.ledger import ALL, ledger_of, read_evidence, write_ledger
from segcal_lite.experiments.claims.printed import printed_a, printed_b, supports
from segcal_lite.experiments.claims.rules import Part, without_interval
from segcal_lite.experiments.claims.statements import CLAIMS
from segcal_lite.experiments.trials import PAPER_TRIALS
from segcal_lite.kit import commands
from segcal_lite.runs.folders import project_root
from segcal_lite.runs.tables import read_table, write_table

BY_NAME = {claim.name: claim for claim in CLAIMS}
MADE = {"data": "data/ACDC", "task": {"name": "heart"}, "profile": "laptop", "seed": 0}
MADE |= {"commit": "abc"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of both papers, its tables long as notebooks write them."""
    folder = tmp_path_factory.mktemp("run")
    scores = with_failures(long_scores(GOOD, 0.01), entropy=0.9)
    scores["known"] = scores.domain == "known"
    joint, transfer = training_tables((0.85, 0.05, 0.10), (0.84, 0.15, 0.30))
    tables = {"scores": scores, "joint": joint, "transfer": transfer}
    tables |= {"ood_volumes_scores": detection_table(5, 0), "volumetric": scores}
    for name, table in tables.items():
        write_table(folder / "tables" / f"{name}.csv", table)
    (folder / "run.json").write_text(json.dumps(MADE))
    return folder


def test_a_run_of_both_papers_is_judged_on_all_claims(run, tmp_path):
    ledger, parts = write_ledger([run], tmp_path)
    own = ledger[ledger.data == "data/ACDC"].set_index("claim")
    assert own.verdict.to_dict() == dict.fromkeys(BY_NAME, "holds")
    assert set(own.commit) == {"abc"} and set(own.task) == {"heart"}
    assert set(own.run) == {str(run.resolve())}
    assert own.deviations["A1"].startswith("crop 128 x 128 (224 x 224), epochs at most 40 (1000), ")
    assert "networks a loss 10 (100)" in own.deviations["A1"]
    assert ledger[ledger.data == ALL].set_index("claim").verdict.eq("holds").all()
    assert (own.n_holding <= own.n_parts).all() and (own.n_against == 0).all()
    assert set(parts.claim) == set(BY_NAME) and parts.lo.notna().all()
    a6 = parts[parts.claim == "A6"].iloc[0]
    assert (a6.printed, round(a6.value, 2)) == (pytest.approx(0.44), 0.5)
    assert a6.ratio == pytest.approx(a6.value / a6.printed) and a6.run == str(run.resolve())
    assert len(read_table(tmp_path / "claims.csv")) == len(ledger)
    assert len(read_table(tmp_path / "claims_parts.csv")) == len(parts)


def test_published_and_compressed_tables_are_found(run, tmp_path):
    table = read_table(run / "tables" / "joint.csv")
    table.to_csv(tmp_path / "joint.csv.gz", index=False)
    (tmp_path / "provenance.json").write_text(json.dumps({"joint": {"data": "phantoms"}}))
    evidence = read_evidence(tmp_path)
    assert set(evidence.parts) == {"B1", "B2"} and not evidence.is_real


def test_phantoms_have_no_say_in_the_verdict_on_real_data(run):
    real = read_evidence(run)
    against = [Part("x", lambda level: (-1, -1.1, -0.9), 30)]
    phantoms = real._replace(data="phantoms", parts={"A1": against})
    ledger, _ = ledger_of([real, phantoms])
    a1 = ledger[ledger.claim == "A1"].set_index("data").verdict
    assert a1.to_dict() == {"data/ACDC": "holds", "phantoms": "contradicted", ALL: "holds"}


@pytest.mark.parametrize("name", ["scores", "volumetric"])
def test_data_with_true_probabilities_are_phantoms_wherever_they_lie(name, run, tmp_path):
    scores = read_table(run / "tables" / "scores.csv")
    oracle = scores[scores.method == "ensemble"].assign(method="oracle")
    write_table(tmp_path / "tables" / f"{name}.csv", pd.concat([scores, oracle]))
    (tmp_path / "run.json").write_text(json.dumps(MADE | {"data": "data/demo"}))
    evidence = read_evidence(tmp_path)
    assert evidence.data == "phantoms/data/demo" and not evidence.is_real


def test_a_folder_that_only_speaks_of_phantoms_is_real(run, tmp_path):
    write_table(tmp_path / "tables" / "joint.csv", read_table(run / "tables" / "joint.csv"))
    (tmp_path / "run.json").write_text(json.dumps(MADE | {"data": "data/without_phantoms"}))
    assert read_evidence(tmp_path).is_real


def test_what_paper_b_prints_stands_beside_sets_and_trials_of_the_same_name():
    printed = printed_b()
    assert printed["B1"]["hippocampus"] == pytest.approx(0.87 / 0.88 - 1)
    assert printed["B2"]["ece_box, atrium"] == pytest.approx(-0.06)
    chain = "cp_younger-then-cp_older-then-cp_newborn"
    assert printed["B3"][f"dice, {chain}"] == pytest.approx(0.92 / 0.93 - 1)
    assert printed["B4"]["Table V: ages"] == pytest.approx(0.33)
    for names in (EIGHT_SETS, PAPER_TRIALS):
        told = set(printed["B1"]) | set(printed["B4"])
        assert told & set(names)


def test_where_nothing_was_run_the_ledger_says_so(tmp_path):
    ledger, parts = ledger_of([])
    assert set(ledger.verdict) == {"not run"} and len(ledger) == 19 and parts.empty
    assert ledger.run.isna().all()
    assert write_ledger([], tmp_path / "out")[0].equals(ledger)
    assert list(read_table(tmp_path / "out" / "claims_parts.csv")) == list(parts)
    with pytest.raises(ValueError, match="none of the tables that claims are judged by"):
        read_evidence(tmp_path)


def test_what_the_papers_print_is_read_with_the_signs_of_ours():
    heart = printed_a("heart")
    assert heart["A1"]["dice"] == pytest.approx(np.mean([0.89, 0.85, 0.94]) - 0.84, abs=0.05)
    assert heart["A2"]["nll"] < 0 < heart["A1"]["hd95_mm"]
    assert [round(printed_a(task)["A6"]["nll"], 2) for task in ("brain", "heart", "prostate")] == [
        *(0.62, 0.44, 0.66)
    ]
    assert "A6" not in printed_a("another task") and printed_a("another task") == {}


def test_where_a_papers_own_tables_do_not_support_its_sentence():
    """Points 12 to 17 of what the papers print inconsistently."""
    assert printed_a("prostate")["A2"]["ece"] > 0  # CE has the larger one there alone
    assert printed_a("heart")["A11"]["ece, dice"] > 0 and printed_a("prostate", 3)["A10"]
    assert printed_a("hippocampus", 3) == {}  # its volumes are of the prostate alone
    n_better = pd.Series(printed_b()["B2"]).lt(0).groupby(lambda name: name[:3]).sum()
    assert n_better.to_dict() == {"ece": 5, "mce": 4}  # of 7 sets: point 17
    found = pd.Series({claim.name: supports(claim) for claim in CLAIMS})
    assert set(found.index[found == "no"]) == {"A2", "A3", "A5", "A10", "A11"}
    assert set(found.index[found == "not printed"]) == {
        *("A6", "A7", "A8", "A9", "A13", "B5", "B6")
    }


def test_a_part_with_values_of_its_own_is_supported_by_them(monkeypatch):
    worse = [Part("ece", partial(without_interval, -0.05), 1, claimed=(0.0, np.inf))]
    monkeypatch.setattr(printed, "_all_printed", lambda: [{"B3": worse}])
    assert supports(BY_NAME["B3"]) == "no"  # above -10 %, and below 0


def test_the_command_prints_the_ledger_and_says_where_it_is(run, tmp_path, capsys):
    assert commands.claims([str(run)], str(tmp_path)) == 0
    told = capsys.readouterr().out.splitlines()
    assert "A1   holds         data/ACDC" in told and f"A1   holds         {ALL}" in told
    assert told[-1].startswith(f"done: {tmp_path / 'claims.csv'}")


@pytest.mark.slow
def test_the_published_ledger_is_what_the_published_tables_say():
    results = project_root() / "results"
    published, parts = (read_table(results / f"{name}.csv") for name in ("claims", "claims_parts"))
    runs = dict.fromkeys(published.run.dropna())
    ledger, again = ledger_of([read_evidence(project_root() / run) for run in runs])
    names = ["data", "run", "verdict", "supported", "deviations", "commit"]
    numbers = ["value", "lo", "hi", "printed", "ratio"]
    for ours, theirs, keys, columns in (
        (published, ledger, ["claim", "data", "run"], names),
        (parts, again, ["claim", "run", "part"], numbers),
    ):
        pair = [table.sort_values(keys, ignore_index=True)[columns] for table in (ours, theirs)]
        pd.testing.assert_frame_equal(*pair, check_dtype=False, rtol=1e-6)


def test_numbers_without_a_printed_counterpart_are_missing_numbers(run):
    evidence = read_evidence(run)
    _, parts = ledger_of([evidence._replace(printed={})])
    assert parts.printed.dtype == float and parts.printed.isna().all()
    assert (parts.printed.abs() > 0.005).sum() == 0


def test_a_run_at_a_papers_settings_departs_in_nothing():
    assert deviations_of({"profile": "paper", "n_members": 100}, TASKS["brain"], 100) == ""
    assert deviations_of_volumes({"profile": "paper", "settings": {}}) == ""
    told = deviations_of({"profile": "paper", "settings": {"dropout": 0.1}}, TASKS["heart"], 100)
    assert told == "dropout 0.1 (0.5)"
    told = deviations_of_volumes({"profile": "paper", "settings": {"foreground_share": 0.5}})
    assert told == "blocks centred on foreground 0.5 (0.0)"


def test_whole_volumes_have_deviations_of_their_own(run):
    evidence = read_evidence(run)
    told = evidence._replace(deviations={"A": "of slices", "A10": ""})
    ledger, _ = ledger_of([told])
    assert set(ledger.deviations[(ledger.claim == "A10") & (ledger.data != ALL)]) == {""}
    assert set(ledger.deviations[(ledger.claim == "A1") & (ledger.data != ALL)]) == {"of slices"}
