"""Synthetic scores in which each claim of paper A holds, fails, or cannot be told."""

import numpy as np
import pandas as pd
import pytest

from segcal_lite.ensembles import selection_matrix
from segcal_lite.experiments.claims.paper_a import difference, parts_of_a
from segcal_lite.experiments.claims.rules import judge
from segcal_lite.experiments.claims.statements import CLAIMS
from segcal_lite.statistics import mean_interval

OF_A = [claim for claim in CLAIMS if claim.name.startswith("A")]
IN_SLICES = [claim.name for claim in OF_A if claim.name != "A10"]
BY_NAME = {claim.name: claim for claim in CLAIMS}
GOOD = {  # metric by loss and method, where all claims hold: NLL, Brier, ECE, Dice, HD95
    ("ce", "baseline"): (0.40, 0.20, 0.05, 0.80, 12.0),
    ("ce", "mc_dropout"): (0.45, 0.25, 0.07, 0.78, 13.0),
    ("ce", "ensemble"): (0.30, 0.15, 0.03, 0.84, 9.0),
    ("dice", "baseline"): (0.80, 0.25, 0.10, 0.85, 9.0),
    ("dice", "mc_dropout"): (0.60, 0.22, 0.08, 0.84, 9.5),
    ("dice", "ensemble"): (0.30, 0.16, 0.04, 0.90, 6.0),
}
BAD = GOOD | {  # none holds
    ("ce", "baseline"): (0.90, 0.30, 0.20, 0.90, 5.0),
    ("ce", "mc_dropout"): (0.50, 0.15, 0.02, 0.91, 5.0),
    ("ce", "ensemble"): (1.20, 0.40, 0.30, 0.80, 9.0),
    ("dice", "mc_dropout"): (0.95, 0.35, 0.30, 0.84, 9.5),
    ("dice", "ensemble"): (1.20, 0.45, 0.40, 0.60, 15.0),
}
METRICS = ("nll", "brier", "ece", "dice", "hd95_mm")


def long_scores(means, noise, cut=0.5, ten=0.3, is_shifted=True, slope=-0.03, seed=0):
    """Scores of 100 known and 30 shifted cases, 10 members a loss, one segment."""
    rng, rows = np.random.default_rng(seed), []

    def add(loss, method, member, n_members, case, domain, region, segment, metric, value):
        rows.append((loss, method, member, n_members, case, domain, region, segment, metric, value))

    for number in range(130):
        case, domain = f"c{number}", "known" if number < 100 else "other"
        difficulty = rng.normal()
        for (loss, method), values in means.items():
            for member in range({"baseline": 10, "mc_dropout": 2, "ensemble": 1}[method]):
                key = loss, method, member, 1, case, domain
                add(*key, "whole", "organ", "n_true", 100)
                shift = (-0.2 if is_shifted else 0.35) if domain == "other" else 0
                for metric, value in zip(METRICS, values, strict=True):
                    size = noise * (10 if metric == "hd95_mm" else 1)
                    value = (
                        value
                        + size * (0.2 * difficulty + rng.normal())
                        + shift * (metric == "dice")
                    )
                    value = np.clip(value, 0.001, 0.999) if metric == "dice" else value
                    region = "whole" if metric in ("dice", "hd95_mm") else "box"
                    segment = "organ" if region == "whole" else None
                    add(*key, region, segment, metric, value)
                    if metric == "dice":
                        usual = values[3]
                        logits = np.log(value / (1 - value)) - np.log(usual / (1 - usual))
                        logits *= usual * (1 - usual) / noise  # about one standard deviation
                        entropy = 0.3 + slope * (logits + 0.65 * rng.normal())  # |r| = 0.86
                        add(*key, "whole", "organ", "segment_entropy", entropy)
        single = means["dice", "baseline"][0]
        for draw in range(20):
            value = single * (1 - cut) + noise * rng.normal() * 0.1
            add("dice", "sweep", draw, 5, case, domain, "box", None, "nll", value)
        add("dice", "sweep", 0, 10, case, domain, "box", None, "nll", ten + noise * rng.normal())
    names = ["loss", "method", "member", "n_members", "case", "domain", "region", "segment"]
    return pd.DataFrame(rows, columns=[*names, "metric", "value"])


def with_failures(scores, entropy, first=100):
    """Let the Dice ensemble fail in six cases, at a given entropy."""
    scores = scores.copy()
    cases = [f"c{k}" for k in range(first, first + 6)]
    fails = scores.case.isin(cases) & (scores.method == "ensemble")
    fails &= scores.loss == "dice"
    scores.loc[fails & (scores.metric == "dice"), "value"] = 0.01
    scores.loc[fails & (scores.metric == "segment_entropy"), "value"] = entropy
    return scores


def verdicts(scores, **others):
    parts = parts_of_a(scores, ("known",), **others)
    return {
        name: judge(BY_NAME[name], parts.get(name, []))[0] for name in BY_NAME if name[0] == "A"
    }


def told(parts):
    """Value, interval and number of patients of each part of each claim."""
    found = ((*part.interval(level=0.95), part.n_cases) for of in parts.values() for part in of)
    return np.array(list(found), float)


@pytest.fixture(scope="module")
def good():
    return with_failures(long_scores(GOOD, 0.01), entropy=0.9)


def test_where_all_is_as_the_paper_says_all_claims_hold(good):
    found = verdicts(good)
    assert {name: found[name] for name in IN_SLICES} == dict.fromkeys(IN_SLICES, "holds")
    assert found["A10"] == "not run"


def test_where_all_is_the_other_way_all_are_contradicted():
    scores = long_scores(BAD, 0.01, cut=0.05, ten=2.0, is_shifted=False, slope=0.03)
    found = verdicts(with_failures(scores, entropy=-0.5, first=0))
    assert {name: found[name] for name in IN_SLICES} == dict.fromkeys(IN_SLICES, "contradicted")


def test_in_noise_nothing_is_told():
    found = verdicts(with_failures(long_scores(GOOD, 4.0), entropy=0.9))
    of_differences = ("A1", "A2", "A3", "A4", "A5", "A7", "A11", "A12")
    assert {found[name] for name in of_differences} == {"undecided"}


def test_three_dimensions_are_for_a10_alone(good):
    found = verdicts(good, n_dims=3)
    assert found["A10"] == "holds" and set(found.values()) == {"holds", "not run"}
    assert verdicts(long_scores(BAD, 0.01), n_dims=3)["A10"] == "contradicted"


def test_on_prostate_dropout_has_to_help_ce_models_too(good):
    assert verdicts(good, task="prostate")["A11"] == "contradicted"
    helped = dict(GOOD)
    helped["ce", "mc_dropout"] = (0.30, 0.15, 0.02, 0.82, 12.0)
    scores = long_scores(helped, 0.01)
    assert verdicts(scores, task="prostate")["A11"] == "holds"
    assert verdicts(scores, task="heart")["A11"] == "contradicted"


@pytest.mark.parametrize("task", ["PROSTATEx", "Task05_Prostate", "my_prostates_3d"])
def test_a_prostate_by_any_name_is_one(good, task):
    scores = good[(good.loss == "ce") & good.metric.isin(["nll", "dice"])]
    found = [parts_of_a(scores, ("known",), name)["A11"][0] for name in (task, "prostate", "heart")]
    values = [part.interval(level=0.95, n_resamples=2000)[0] for part in found]
    assert values[0] == values[1] == -values[2] > 0


def of_pools(n_dropout, n_single, seed=0):
    """NLL of Dice models with dropout and of single ones, members by 20 patients, and a Dice."""
    rng, rows = np.random.default_rng(seed), []
    patients, found = 0.02 * rng.normal(size=20), {}
    for method, n in (("mc_dropout", n_dropout), ("baseline", n_single)):
        nll = 0.3 + patients + 0.01 * rng.normal(size=(n, 1)) + 0.005 * rng.normal(size=(n, 20))
        found[method] = nll
        for (member, number), value in np.ndenumerate(nll):
            key = ("dice", method, member, 1, f"c{number:02}", "known")
            rows += [(*key, "box", None, "nll", value), (*key, "whole", "organ", "dice", 0.9)]
    names = ["loss", "method", "member", "n_members", "case", "domain", "region", "segment"]
    return pd.DataFrame(rows, columns=[*names, "metric", "value"]), found


@pytest.mark.parametrize(("n_dropout", "n_single"), [(10, 100), (16, 10), (2, 30)])
def test_of_pools_of_two_sizes_every_network_counts(n_dropout, n_single):
    scores, nll = of_pools(n_dropout, n_single)
    is_late = (scores.method == "baseline") & (scores.metric == "nll") & (scores.member >= 7)
    for shift in (0.0, 0.5):  # of networks that have no partner by their number
        moved = scores.assign(value=scores.value + shift * is_late)
        rival = nll["baseline"] + shift * (np.arange(n_single) >= 7)[:, None]
        (part,) = parts_of_a(moved, ("known",))["A11"]
        value, lo, hi = part.interval(level=0.95, n_resamples=2000)
        assert value == pytest.approx(nll["mc_dropout"].mean() - rival.mean(), rel=1e-9)
        assert lo < value < hi and part.n_cases == 20


def test_pools_of_one_size_are_paired_by_their_number():
    scores, nll = of_pools(8, 8)
    (part,) = parts_of_a(scores, ("known",))["A11"]
    expected = mean_interval(nll["mc_dropout"] - nll["baseline"])
    assert part.interval(level=0.95) == pytest.approx(expected, rel=1e-12)


def test_the_interval_of_two_pools_is_of_patients_and_of_both_pools():
    held, widths = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        few, many = (pd.DataFrame(rng.normal(size=(n, 1)) + rng.normal(size=20)) for n in (6, 24))
        many = many + rng.normal(size=(24, 20))
        (part,) = difference("", few + rng.normal(size=(6, 20)), many)
        _, lo, hi = part.interval(level=0.95, n_resamples=2000)
        held.append(lo <= 0 <= hi)
        widths.append(hi - lo)
    assert 0.92 <= np.mean(held) <= 0.99
    # patients, of two groups of 20 here: 2 / 20; networks: 1 / 6 and 1 / 24; times 2.2 or so
    assert np.median(widths) == pytest.approx(2 * 2.3 * np.sqrt(2 / 20 + 1 / 6 + 1 / 24), rel=0.2)


def test_a_patient_missing_in_a_table_of_scores_is_refused(good):
    scores = good.assign(patient=good.case.where(good.case != "c3"))
    with pytest.raises(ValueError, match="table, column patient: found .* missing"):
        parts_of_a(scores, ("known",))


@pytest.mark.parametrize("n_dims", [2, 3])
def test_three_scans_of_a_patient_say_no_more_than_one(good, n_dims):
    once = with_failures(good, entropy=0.69)
    scans = [once.assign(case=once.case + scan, patient=once.case) for scan in ("", " b", " c")]
    thrice = pd.concat(scans, ignore_index=True)
    expected, found = (parts_of_a(of, {"known"}, n_dims=n_dims) for of in (once, thrice))
    assert list(found) == list(expected) and len(found) == (12 if n_dims == 2 else 1)
    np.testing.assert_allclose(told(found), told(expected), rtol=1e-9)


def test_what_a_run_lacks_was_not_run(good):
    found = verdicts(good[good.loss == "ce"])
    not_run = {"A1", "A2", "A6", "A7", "A9", "A10", "A12", "A13"}
    assert {name for name, verdict in found.items() if verdict == "not run"} == not_run
    known = good[good.domain == "known"]
    assert verdicts(known)["A9"] == "not run"


def test_the_whole_pool_is_an_ensemble_of_ten_where_it_holds_ten(good):
    undrawn = good[(good.method != "sweep") | (good.n_members != 10)].copy()
    assert verdicts(undrawn)["A7"] == "not run"
    undrawn.loc[undrawn.method == "ensemble", "n_members"] = 10
    assert verdicts(undrawn)["A7"] == "holds"


def test_a_segment_that_the_truth_lacks_counts_for_nobody(good):
    absent = good.case.isin([f"c{k}" for k in range(12)])
    scores = good.copy()
    scores.loc[absent & (scores.metric == "n_true"), "value"] = 0
    scores.loc[absent & (scores.metric == "dice") & (scores.loss == "ce"), "value"] = 1.0
    parts = parts_of_a(scores, ("known",))
    assert parts["A1"][0].n_cases == 88 and judge(BY_NAME["A1"], parts["A1"])[0] == "holds"


def test_a_distance_to_nothing_leaves_its_case_out(good):
    scores = good.copy()
    is_first = (scores.case == "c0") & (scores.metric == "hd95_mm") & (scores.member == 0)
    scores.loc[is_first, "value"] = np.nan
    by_name = {part.name: part for part in parts_of_a(scores, ("known",))["A1"]}
    assert by_name["dice"].n_cases == 100 and by_name["hd95_mm"].n_cases == 99


def test_differences_are_those_of_the_means(good):
    part = parts_of_a(good, ("known",))["A2"][0]
    nll = good[(good.metric == "nll") & (good.domain == "known") & (good.method == "baseline")]
    expected = nll[nll.loss == "ce"].value.mean() - nll[nll.loss == "dice"].value.mean()
    assert part.interval(level=0.95)[0] == pytest.approx(expected, rel=1e-12)


def test_a_segment_that_the_truth_lacks_has_no_distance_and_no_entropy_either(good):
    scores = good.copy()
    is_absent = scores.case.isin([f"c{k}" for k in range(12)] + ["c120"])
    scores.loc[is_absent & (scores.metric == "n_true"), "value"] = 0
    scores.loc[is_absent & (scores.metric == "hd95_mm"), "value"] = 400.0
    scores.loc[is_absent & (scores.metric == "segment_entropy"), "value"] = 9.0
    parts = parts_of_a(scores, ("known",))
    assert {part.n_cases for part in parts["A1"]} == {88}
    assert {part.n_cases for part in parts["A9"]} == {29}
    assert all(abs(part.interval(level=0.95)[0]) < 5 for part in parts["A1"] + parts["A9"])


def test_the_cut_by_five_members_draws_patients_and_networks():
    scores = long_scores(GOOD, 0.01)
    (part,) = parts_of_a(scores, ("known",), seed=3)["A6"]
    value, lo, hi = part.interval(level=0.95)
    assert value == pytest.approx(0.5, abs=0.01) and 0.44 < lo < value < hi < 0.66
    # One network that is much worse, and with it the ensembles that hold it, a little.
    single = (scores.loss == "dice") & (scores.method == "baseline") & (scores.metric == "nll")
    scores.loc[single & (scores.member == 4), "value"] += 2.0
    of_networks = selection_matrix(10, 5, 20, 3)[:, 4] > 0
    fives = (scores.method == "sweep") & (scores.n_members == 5)
    scores.loc[fives & of_networks[scores.member.clip(upper=19)], "value"] += 0.1
    (part,) = parts_of_a(scores, ("known",), seed=3)["A6"]
    value, lo, hi = part.interval(level=0.95)
    assert value == pytest.approx(1 - (0.4 + 0.1 * of_networks.mean()) / 1.0, abs=0.02)
    assert lo < value - 0.1  # patients alone: 0.01
    assert judge(BY_NAME["A6"], [part])[0] == "undecided"


def test_a_pool_whose_ensembles_all_hold_one_network_has_no_interval(good):
    scores = good[(good.method != "baseline") | (good.member < 5)]
    (part,) = parts_of_a(scores, ("known",))["A6"]
    assert np.isfinite(part.interval(level=0.95)).tolist() == [True, False, False]


def test_failures_are_counted_by_patients_and_what_has_no_entropy_is_named():
    scores = with_failures(long_scores(GOOD, 0.01), entropy=0.9)
    more = [scores[scores.segment.isin(["organ"])].assign(segment=name) for name in ("b", "c")]
    scores = pd.concat([scores, *more], ignore_index=True)
    of_dice = (scores.loss == "dice") & (scores.method == "ensemble") & (scores.segment == "c")
    is_unseen = of_dice & (scores.case == "c100") & (scores.metric == "segment_entropy")
    scores.loc[is_unseen, "value"] = np.nan
    (part,) = parts_of_a(scores, ("known",))["A13"]
    assert part.name == "AUC, 1 failed segments of 18 not predicted" and part.n_cases == 130
    assert judge(BY_NAME["A13"], [part])[0] == "holds"
    few = scores[~scores.case.isin([f"c{k}" for k in range(102, 106)])]  # 2 patients, 5 segments
    (part,) = parts_of_a(few, ("known",))["A13"]
    assert np.isnan(part.interval(level=0.95)[1])


def test_failures_of_networks_that_are_poor_at_home_decide_nothing():
    scores = with_failures(long_scores(GOOD, 0.01), entropy=0.9)
    of_dice = (scores.loss == "dice") & (scores.method == "ensemble") & (scores.metric == "dice")
    is_poor = of_dice & (scores.domain == "known") & (scores.value > 0.05)
    scores.loc[is_poor, "value"] = 0.4
    verdict, (part,) = judge(BY_NAME["A13"], parts_of_a(scores, ("known",))["A13"])
    assert verdict == "undecided" and "Dice" in part.why


@pytest.mark.parametrize(("loss", "verdict"), [("ce", "holds"), ("dice", "contradicted")])
def test_the_printed_correlations_are_those_of_dice_models_alone(loss, verdict):
    """An entropy that says all about Dice: |r| is above what the paper prints."""
    scores = long_scores(GOOD, 0.01)
    scores = scores[(scores.loss == loss) & (scores.domain == "known")]
    dice = scores[(scores.method == "ensemble") & (scores.metric == "dice")].set_index("case").value
    is_entropy = (scores.method == "ensemble") & (scores.metric == "segment_entropy")
    logits = np.log(dice / (1 - dice)) + 0.005 * np.random.default_rng(0).normal(size=len(dice))
    scores.loc[is_entropy, "value"] = 0.5 - 0.1 * scores.case[is_entropy].map(logits)
    found, (part,) = judge(BY_NAME["A8"], parts_of_a(scores, ("known",))["A8"])
    assert found == verdict and -1 < part.value < -0.98


def test_networks_that_segment_one_organ_badly_decide_nothing(good):
    small = good[(good.metric == "dice") & (good.loss == "ce")].assign(segment="small")
    scores = pd.concat([good, small.assign(value=0.45)])  # on the mean of both above one half
    found = verdicts(scores)
    assert {found[name] for name in ("A1", "A2", "A3", "A7")} == {"undecided"}
    assert found["A6"] == "holds"  # which is of Dice models alone
    (part, *_) = parts_of_a(scores, ("known",))["A2"]
    assert part.dice == pytest.approx(0.45)


def test_nothing_is_won_over_a_rival_that_segments_badly(good):
    scores = good.copy()
    is_rival = (scores.loss == "dice") & (scores.method == "mc_dropout")
    scores.loc[is_rival & (scores.metric == "dice"), "value"] = 0.3
    found = verdicts(scores)
    assert {found[name] for name in ("A5", "A11", "A12")} == {"undecided"}
    assert found["A3"] == "holds"
