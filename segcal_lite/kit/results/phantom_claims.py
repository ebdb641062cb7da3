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


def tell_claims_of_sets(out, seeds, report=print):
    """Paper B's claims for each seed, of longer runs on its sets: a table of `claim_rows`."""

    def rows_of(experiment):
        tables = tables_of_sets(experiment, EIGHT_SETS, THREE_AGES, PAPER_TRIALS, report)
        return claim_rows(parts_of_b(*tables))

    return rows_of_sets(out, seeds, report, rows_of)


def tables_of_sets(experiment, mixed, chained, trials, report=print):
    """Return what `parts_of_b` judges: the tables of notebooks 07 and 08.

    Parameters
    ----------
    experiment : segcal_lite.experiments.many_sets.JointExperiment
    mixed, chained : tuple of str
        Sets of the joint network and of dedicated ones; sets that chains pass through.
    trials : dict of segcal_lite.experiments.trials.Trial
    report : callable

    Returns
    -------
    joint, transfer, detection : pandas.DataFrame
    """
    together = [plans.joint(*chained), *(plans.chain(*of) for of in plans.orders(*chained))]
    alone = map(plans.dedicated, mixed)
    models = [(plan, False) for plan in (plans.joint(*mixed), *alone, *together)]
    for trial in trials.values():
        models += [(trial.plan, False), (trial.plan, True)][: 1 + trial.with_rivals]
    experiment.train(*map(list, zip(*models, strict=True)), report)  # all side by side
    joint = joint_scores(experiment, mixed, report)
    transfer = experiment.metrics(together, sets=chained, report=report)
    described = describe_trials(experiment, trials, report=report)
    fitted = {title: fit_detectors(training) for title, (training, *_) in described.items()}
    return joint, transfer, detection_scores(fitted, described)
