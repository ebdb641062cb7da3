import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcal_lite.experiments.claims.rules import VERDICTS, Part, combined, judge
from segcal_lite.experiments.claims.statements import CLAIMS

BY_NAME = {claim.name: claim for claim in CLAIMS}


def part(value, arm, n_cases=30, **others):
    """A statistic whose interval grows as that of a normal mean does."""
    from scipy.stats import norm

    def interval(level):
        reach = arm * norm.ppf(0.5 + level / 2) / norm.ppf(0.975)
        return value, value - reach, value + reach

    return Part("a statistic", interval, n_cases, **others)


def test_all_claims_of_both_papers_are_there():
    assert [*BY_NAME] == [f"A{k}" for k in range(1, 14)] + [f"B{k}" for k in range(1, 7)]
    for claim in CLAIMS:
        assert claim.claimed[0] < claim.claimed[1] and claim.sentence and claim.printed


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_each_claim_can_hold_fail_and_stay_undecided(claim):
    lowest, highest = claim.claimed
    inside = np.clip((lowest + highest) / 2, lowest + 0.05, highest - 0.05)
    inside = inside if np.isfinite(inside) else (highest - 1 if lowest == -np.inf else lowest + 1)
    edge = highest if lowest == -np.inf else lowest
    outside = edge + (1 if lowest == -np.inf else -1)
    assert judge(claim, [part(inside, 0.02)] * 3)[0] == "holds"
    assert judge(claim, [part(outside, 0.02)] * 3)[0] == "contradicted"
    assert judge(claim, [part(edge, 0.02)] * 3)[0] == "undecided"
    assert judge(claim, []) == ("not run", [])


def test_against_a_claim_of_many_parts_one_that_lies_outside_by_chance_is_not_enough():
    a3 = BY_NAME["A3"]
    alone, chance = [part(0.11, 0.1)], [part(0.11, 0.1)] + [part(-1, 0.1)] * 5
    assert judge(a3, alone)[0] == "contradicted"
    assert judge(a3, chance)[0] == "undecided"
    assert judge(a3, [part(0.3, 0.1)] + [part(-1, 0.1)] * 5)[0] == "contradicted"


def test_few_cases_poor_networks_and_no_interval_allow_no_conclusion():
    a2 = BY_NAME["A2"]
    for doubtful, why in (
        (part(-1, 0.1, n_cases=9), "9 test cases, at least 10 needed"),
        (part(-1, 0.1, dice=0.3), "mean Dice 0.30, at least 0.5 needed"),
        (part(-1, np.nan), "there is no interval"),
    ):
        verdict, (judged,) = judge(a2, [doubtful])
        assert (verdict, judged.why) == ("undecided", why)


@given(st.lists(st.sampled_from(VERDICTS)), st.booleans())
def test_what_verdicts_come_to_depends_on_neither_order_nor_what_was_not_run(verdicts, most):
    known = [verdict for verdict in verdicts if verdict != "not run"]
    found = combined(verdicts, most)
    assert found == combined(sorted(known), most) and found in VERDICTS
    assert (found == "not run") == (not known)
    if len(set(known)) == 1:
        assert found == known[0]


def test_half_of_the_parts_contradict_a_claim_of_most_and_do_not_hold_it():
    assert combined(["holds", "contradicted"], most=True) == "contradicted"
    assert combined(["undecided", "contradicted"], most=True) == "contradicted"
    assert combined(["holds", "undecided"], most=True) == "undecided"
