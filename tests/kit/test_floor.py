from itertools import product

import numpy as np
import pandas as pd
import pytest

from segcal_lite.data.prepared import PreparedCase
from segcal_lite.experiments.claims.paper_a import parts_of_a
from segcal_lite.experiments.claims.paper_b import by_patient, parts_of_b
from segcal_lite.experiments.set_scores import oracle_scores
from segcal_lite.experiments.trials import Trial
from segcal_lite.kit.results import story_tables
from segcal_lite.kit.results.floor import floor_rows, floor_rows_of_sets
from segcal_lite.kit.results.phantom_claims import claim_rows, tables_of_sets
from segcal_lite.runs.tables import write_table
from segcal_lite.training.plans import dedicated

N_CASES = 12
FOUND = {"lo": -0.5, "hi": 2.0}


def scores_above(above, seed=0):
    """A long table of which methods lie `above` an oracle that differs from case to case."""
    rng = np.random.default_rng(seed)
    floor = {name: rng.uniform(0.05, 0.1, N_CASES) for name in ("nll", "brier", "ece")}
    rows = []
    for loss in ("ce", "dice"):
        singles = dict.fromkeys(("baseline", "temperature", "vector_scaling"), 5)
        pools = singles | dict.fromkeys(("oracle", "mc_dropout", "ensemble"), 1)
        for method, n_members in pools.items():
            for name, values in floor.items():
                for member in range(n_members):
                    own = values + above.get((loss, method), 0.0)
                    rows += [(loss, method, member, f"c{i:02}", name, v) for i, v in enumerate(own)]
    columns = ["loss", "method", "member", "case", "metric", "value"]
    table = pd.DataFrame(rows[::-1], columns=columns)  # nothing hangs on the order of rows
    return table.assign(region="box", segment=None, n_members=1, domain="source", known=True)


def test_what_lies_above_the_floor_is_found_case_by_case():
    above = {("ce", "baseline"): 0.3, ("dice", "ensemble"): 0.125}
    rows = {(row["loss"], row["method"]): row for row in floor_rows(scores_above(above))}
    assert len(rows) == 10
    for key, row in rows.items():
        expected = [above.get(key, 0.0)] * 3
        for name in ("nll", "brier", "ece"):
            found = [row[f"{name}_{end}"] for end in ("above", "lo", "hi")]
            np.testing.assert_allclose(found, expected, atol=1e-12)
        assert row["n_test"] == N_CASES
    assert rows["ce", "baseline"]["holds"] and rows["dice", "ensemble"]["holds"]


@pytest.mark.parametrize("below", [("ce", "ensemble"), ("dice", "mc_dropout")])
def test_who_is_better_than_the_posterior_has_seen_the_answer(below):
    others = {(loss, m): 0.2 for loss in ("ce", "dice") for m in ("baseline", "mc_dropout")}
    rows = floor_rows(scores_above(others | {("ce", "ensemble"): 0.1, below: -0.01}))
    seen = {(row["loss"], row["method"]) for row in rows if not row["holds"]}
    assert below in seen and ("ce", "baseline") not in seen


def test_trainings_on_sets_stand_beside_the_posterior_case_by_case(volumes):
    mixed = ("liver_ct", "atrium")
    oracle = oracle_scores(volumes, mixed)
    scores = [oracle.assign(training=name) for name in ("joint", "dedicated")]
    is_nll = scores[1].metric == "nll_box"
    scores[1].loc[is_nll & (scores[1]["set"] == "atrium"), "value"] += 0.25
    found = floor_rows_of_sets(pd.concat(scores), oracle)
    above = {(row["set"], row["training"]): row["nll_above"] for row in found}
    expected = dict.fromkeys(above, 0.0) | {("atrium", "dedicated"): 0.25}
    assert len(above) == 4 and above == pytest.approx(expected, abs=1e-12)
    case = volumes.cases("atrium", "test")[0]
    own = by_patient(oracle, "oracle", "atrium", "nll_box")[case.patient]
    probs, box = np.asarray(case.posterior), case.regions["box"]
    true = np.take_along_axis(probs, np.asarray(case.labels)[None], 0)[0]
    assert own == pytest.approx(-np.log(true[box]).mean(), rel=1e-5)


def test_a_set_without_a_posterior_is_named(volumes, monkeypatch):
    monkeypatch.setattr(PreparedCase, "posterior", None)
    with pytest.raises(ValueError, match="^set atrium: found cases without a posterior, expected"):
        oracle_scores(volumes, ["atrium"])


def test_claims_are_judged_by_the_ledgers_rules():
    of_method = {"baseline": 0.2, "mc_dropout": 0.1}
    above = {(loss, name): value for loss in ("ce", "dice") for name, value in of_method.items()}
    table = scores_above(above)
    dice = table[table.metric == "nll"].assign(metric="dice", value=0.8, region="whole")
    table = pd.concat([table, dice.assign(segment="a")], ignore_index=True)
    rows = claim_rows(parts_of_a(table, {"source"}, "heart"))
    verdicts = {row["claim"]: row["verdict"] for row in rows}
    assert verdicts["A3"] == verdicts["A5"] == "holds" and verdicts["A4"] == "contradicted"
    assert "A10" not in verdicts and not any(name.startswith("B") for name in verdicts)
    parts = {(row["claim"], row["part"]): row for row in rows}
    a3 = parts["A3", "nll, ce"]
    assert a3["of_part"] == "holds" and a3["n_cases"] == N_CASES and a3["why"] == ""
    np.testing.assert_allclose([a3[key] for key in ("value", "lo", "hi")], -0.2)
    assert parts["A4", "dice, ce"]["of_part"] == "contradicted"  # by no gain at all
    assert sum(claim == "A3" for claim, _ in parts) == 6


def test_runs_on_sets_make_the_tables_that_paper_bs_claims_are_judged_by(volumes):
    trials = {"organs": Trial(dedicated("atrium"), ("liver_ct", "cp_younger"))}
    mixed = ("liver_ct", "atrium")
    quiet = {"report": lambda line: None}
    tables = tables_of_sets(volumes, mixed, mixed, trials, **quiet)
    joint, transfer, detection = tables.values()
    assert set(zip(joint.training, joint["set"], strict=True)) == {
        (training, name) for training in ("joint", "dedicated") for name in mixed
    }
    assert set(transfer.training) == {
        "liver_ct+atrium",
        "liver_ct-then-atrium",
        "atrium-then-liver_ct",
    }
    assert set(detection.detector) >= {"spectral", "uncertainty"}
    rows = claim_rows(parts_of_b(**tables))
    assert {"B1", "B2", "B3", "B4"} <= {row["claim"] for row in rows}
    assert {row["verdict"] for row in rows} == {"undecided"}  # two test cases each
    in_rounds = [
        tables_of_sets(volumes, mixed, mixed, trials, claims=claims, **quiet)
        for claims in (("B2",), ("B3",), ("B5", "B6"))
    ]
    assert [list(one) for one in in_rounds] == [["joint"], ["transfer"], ["detection"]]
    for one in in_rounds:
        for name, table in one.items():
            pd.testing.assert_frame_equal(table, tables[name])


def test_the_tables_show_a_number_a_seed(monkeypatch, tmp_path):
    made = {"commit": "c", "date": "d", "torch": "t", "processor": "p"}
    floor = pd.DataFrame(
        [
            made | {"seed": seed} | row
            for seed in (1, 2)
            for row in floor_rows(scores_above({("ce", "baseline"): seed / 10}, seed))
        ]
    )
    verdicts = [(1, "A1", "holds"), (1, "A10", "undecided"), (1, "A2", "holds"), (2, "A1", "holds")]
    claims = pd.DataFrame(verdicts, columns=["seed", "claim", "verdict"]).assign(**made)
    claims = pd.concat([claims.assign(part=part) for part in ("one", "two")])  # counted once
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(story_tables, "project_root", lambda: tmp_path)
    write_table(tmp_path / "results" / "story_floor.csv", floor)
    write_table(tmp_path / "results" / "story_claims.csv", claims)
    table = story_tables.floor_table()
    assert "| ce, baseline | + 0.100, 0.200 (0.100 to 0.200) |" in table
    assert "+ 10.00, 20.00 (10.00 to 20.00) |" in table and "Seeds 1, 2: commit c" in table
    lines = story_tables.verdicts_table().splitlines()
    assert lines[0] == "| claim | holds | undecided |"
    assert lines[2:5] == ["| A1 | 2 | 0 |", "| A10 | 0 | 1 |", "| A2 | 1 | 0 |"]


def test_the_table_of_sets_shows_the_posterior_of_each_and_what_lies_above(monkeypatch, tmp_path):
    made = {"commit": "c", "date": "d", "torch": "t", "processor": "p"}
    metrics = ("nll", "brier", "ece")
    rows = []
    for name, seed, training in product(("prostate", "atrium"), (1, 2), ("joint", "dedicated")):
        above = seed / 10 + (training == "dedicated")
        row = {f"{m}_{key}": value for m in metrics for key, value in FOUND.items()}
        row |= {f"{m}_above": above for m in metrics} | {f"{m}_floor": seed / 100 for m in metrics}
        rows.append(made | {"seed": seed, "set": name, "training": training} | row)
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(story_tables, "project_root", lambda: tmp_path)
    write_table(tmp_path / "results" / "story_floor_volumes.csv", pd.DataFrame(rows))
    lines = story_tables.floor_of_sets_table().splitlines()
    assert lines[0] == "| set | training | NLL | Brier | ECE % |"
    assert [line.split(" | ")[:2] for line in lines[2:5]] == [
        ["| prostate", "the posterior"],
        ["| ", "joint"],
        ["| ", "dedicated"],
    ]
    assert lines[2].endswith("| 0.010, 0.020 | 0.010, 0.020 | 1.00, 2.00 |")
    assert "| + 1.100, 1.200 (-0.500 to 2.000) |" in lines[4]
    assert "+ 110.00, 120.00 (-50.00 to 200.00) |" in lines[4]
    assert lines[5].startswith("| atrium | the posterior |") and "Seeds 1, 2: commit c" in lines[-1]
