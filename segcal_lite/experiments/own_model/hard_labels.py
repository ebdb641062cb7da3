"""Hard labels that come as probabilities do: one channel a class, with 0 and 1 alone.

A network may be certain everywhere in a case. So only all cases together tell: where no member has
any other number in any of them, they are scored once more, as the hard labels that they are.
"""

from contextlib import suppress
from dataclasses import replace

from ...runs.folders import read_json
from .labelled_cases import score_own_case


def score_cases(run, judging, cases):
    """Score labelled cases by `run`; return how they were judged, facts, and what was left out.

    What an earlier call found is tried first, so that finished cases are not read again.
    """
    jobs = dict.fromkeys(cases, ())
    judging = replace(judging, members=as_one_hot(judging.members, _were_one_hot(judging, cases)))
    facts, left_out = run("scored", score_own_case, judging, jobs)
    are_one_hot = bool(facts) and all(all(of["counts"]["is_one_hot"]) for of in facts.values())
    if are_one_hot != judging.members[0].is_one_hot:
        judging = replace(judging, members=as_one_hot(judging.members, are_one_hot))
        facts, left_out = run("scored anew", score_own_case, judging, jobs)
    return judging, facts, left_out


def as_one_hot(members, are_one_hot):
    """Return folders of predictions as those of hard labels, one channel a class, or not."""
    return tuple(replace(member, is_one_hot=are_one_hot) for member in members)


def _were_one_hot(judging, cases):
    """Whether an earlier call took the first case that it scored for hard labels."""
    for case in cases:
        # damaged, or of another layout: it tells nothing
        with suppress(ValueError, FileNotFoundError, LookupError, TypeError):
            asked = read_json(judging.path("scores", case, ".json"), shape={"asked": dict})["asked"]
            return asked["members"][0]["is_one_hot"]
    return False
