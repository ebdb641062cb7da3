"""Paper B's Table II: what one network of many sets and a network for each score, case by case."""

import numpy as np
import pandas as pd

from .._checks import wrong_input
from ..training import plans
from .many_sets import COLUMNS
from .volume_scores import probability_metrics


def joint_scores(experiment, names, report=print):
    """Score the joint network of some sets, and the dedicated one of each, on its test cases.

    Parameters
    ----------
    experiment : segcal_lite.experiments.many_sets.JointExperiment
    names : sequence of str
        Sets; what is not trained yet is trained.
    report : callable

    Returns
    -------
    pandas.DataFrame
        As of `JointExperiment.metrics`; ``training`` is ``joint`` or ``dedicated``.

    Raises
    ------
    ValueError
        For fewer than two sets: there is nothing to join.
    """
    if len(names) < 2:
        raise wrong_input("names", list(names), "at least two sets, to be joined")
    joint = plans.joint(*names)
    scores = experiment.metrics([joint, *map(plans.dedicated, names)], report=report)
    is_joint = scores.training == plans.plan_name(joint)
    return scores.assign(training=is_joint.map({True: "joint", False: "dedicated"}))


def oracle_scores(experiment, names):
    """Score the posterior that phantoms were labelled from, as if a network had answered with it.

    Parameters
    ----------
    experiment : segcal_lite.experiments.many_sets.JointExperiment
    names : sequence of str
        Sets, of which the test cases are scored.

    Returns
    -------
    pandas.DataFrame
        As of `joint_scores`; ``training`` is ``oracle``.

    Raises
    ------
    ValueError
        If a case has no posterior.
    """
    cases = [(name, case) for name in names for case in experiment.cases(name, "test")]
    without = [name for name, case in cases if case.posterior is None]
    if without:
        raise wrong_input(f"set {without[0]}", "cases without a posterior", "phantoms")
    rows = [
        (experiment.data, "oracle", name, case.name, case.patient, metric, value)
        for name, case in cases
        for metric, value in probability_metrics(
            case, np.asarray(case.posterior)[:, *case.whole], experiment.scoring()
        ).items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
