"""Which claims of either paper hold on phantoms of several seeds."""

from ...data.tasks import EIGHT_SETS, THREE_AGES
from ...detection import fit_detectors
from ...experiments.claims.paper_a import parts_of_a
from ...experiments.claims.paper_b import parts_of_b
from ...experiments.claims.rules import judge
from ...experiments.claims.statements import CLAIMS
from ...experiments.set_scores import joint_scores
from ...experiments.trials import PAPER_TRIALS, describe_trials, detection_scores
from ...training import plans
from .phantom_runs import rows_of_hearts, rows_of_sets

EVIDENCE = {  # what claims of paper B are judged by
    "joint": ("B1", "B2"),
    "transfer": ("B3",),
    "detection": ("B4", "B5", "B6"),
}
CLAIMS_OF_B = tuple(name for names in EVIDENCE.values() for name in names)


def claim_rows(found):
    """Return a dict for each statistic of each claim that one run speaks of.

    `found` holds parts by claim, as of `parts_of_a` and `parts_of_b`. ``verdict`` is that of the
    claim, ``of_part`` that of the statistic, and ``why`` says what keeps that from a conclusion.
    """
    rows = []
    for claim in CLAIMS:
        verdict, judged = judge(claim, found.get(claim.name, []))
        for part in judged:
            row = {"claim": claim.name, "verdict": verdict, "part": part.name}
            row |= {key: getattr(part, key) for key in ("value", "lo", "hi", "n_cases")}
            rows.append(row | {"of_part": part.verdict, "why": part.why})
    return rows


def tell_claims(out, seeds, report=print):
    """Paper A's claims for each seed, of longer runs on hearts: a table of `claim_rows`."""

    def rows_of(experiment, scores):
        task, seed = experiment.task.name, experiment.seed
        return claim_rows(parts_of_a(scores, experiment.known_domains, task, seed=seed))

    return rows_of_hearts(out, seeds, report, rows_of)


def tell_claims_of_sets(out, seeds, report=print, claims=CLAIMS_OF_B):
    """Paper B's claims for each seed, of longer runs on its sets: a table of `claim_rows`.

    With fewer `claims` fewer networks are trained: the rounds of several days make one table.
    """

    def rows_of(experiment):
        sets = EIGHT_SETS, THREE_AGES, PAPER_TRIALS
        found = parts_of_b(**tables_of_sets(experiment, *sets, report, claims))
        return claim_rows({name: parts for name, parts in found.items() if name in claims})

    return rows_of_sets(out, seeds, report, rows_of)


def tables_of_sets(experiment, mixed, chained, trials, report=print, claims=CLAIMS_OF_B):
    """Return what `parts_of_b` judges `claims` by: the tables of notebooks 07 and 08.

    Parameters
    ----------
    experiment : segcal_lite.experiments.many_sets.JointExperiment
    mixed, chained : tuple of str
        Sets of the joint network and of dedicated ones; sets that chains pass through.
    trials : dict of segcal_lite.experiments.trials.Trial
    report : callable
    claims : sequence of str
        Of paper B; what speaks of none of them is neither trained nor in the result.

    Returns
    -------
    dict of pandas.DataFrame
        ``joint``, ``transfer`` and ``detection``.
    """
    asked = [table for table, names in EVIDENCE.items() if set(names) & set(claims)]
    together = [plans.joint(*chained), *(plans.chain(*of) for of in plans.orders(*chained))]
    models = {
        "joint": [(plan, False) for plan in (plans.joint(*mixed), *map(plans.dedicated, mixed))],
        "transfer": [(plan, False) for plan in together],
        "detection": [(trial.plan, False) for trial in trials.values()]
        + [(trial.plan, True) for trial in trials.values() if trial.with_rivals],
    }
    wanted = [model for table in asked for model in models[table]]
    experiment.train(*map(list, zip(*wanted, strict=True)), report)  # all side by side
    tell = {
        "joint": lambda: joint_scores(experiment, mixed, report),
        "transfer": lambda: experiment.metrics(together, sets=chained, report=report),
        "detection": lambda: _scores_of_trials(experiment, trials, report),
    }
    return {table: tell[table]() for table in asked}


def _scores_of_trials(experiment, trials, report):
    """The score that each detector gives to each case of some trials."""
    described = describe_trials(experiment, trials, report=report)
    fitted = {title: fit_detectors(training) for title, (training, *_) in described.items()}
    return detection_scores(fitted, described)
