"""Say case by case whether a folder in nnU-Net's or MSD's layout is fit for the notebooks.

    python -m data_scripts.check DIR [--task NAME] [--workers N]

Nothing is written. Every volume is opened as the notebooks will open it; the exit status is 1 if a
case does not fit.
"""

import argparse
import os
import sys
import warnings
from functools import partial
from pathlib import Path

from segcal_lite.cases import check_case
from segcal_lite.datasets import read_dataset
from segcal_lite.splits import SPLITS
from segcal_lite.tasks import TASKS
from segcal_lite.volumes import doubt_lines

from ._conversion import spawned
from ._face import WORKERS, count, said_in_one_sentence

WITHOUT_TASK = "from each volume's minimum to its maximum, CT too (a --task has its own rule)"


def main(arguments=None):
    """Print what the dataset holds and one line a case; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m data_scripts.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--task", help="a task in segcal_lite.tasks, for its channels and segments")
    parser.add_argument("--workers", type=count, default=os.cpu_count(), help=WORKERS)
    options = parser.parse_args(arguments)
    return said_in_one_sentence(_check, options.folder, options.task, options.workers)


def _check(folder, task, workers):
    """Print the lines; return the exit status."""
    problems = {}
    dataset = read_dataset(folder, task=task, problems=problems)
    for line in describe(dataset, TASKS.get(task)):
        print(line)
    problems |= check_cases(dataset, workers)
    fit = {case.name: f"fit ({case.domain}, {case.split})" for case in dataset.cases}
    for name, problem in sorted(problems.items()):
        print(f"  {name}: {problem or fit[name]}")
    n_fit = sum(not problem for problem in problems.values())
    absent = set(SPLITS) - {case.split for case in dataset.cases if not problems[case.name]}
    if absent:
        where = " and ".join(sorted(absent))
        print(f"no fit case in {where}: the notebooks cannot train on it")
    print(f"{n_fit} of {len(problems)} cases are fit")
    return 0 if n_fit == len(problems) else 1


def describe(dataset, task):
    """Return lines about channels, segments, domains, intensities and what was decided."""
    rule = f"by the rule of task {task.name}, {task.intensity_rule}" if task else WITHOUT_TASK
    return [
        f"{dataset.name}: {len(dataset.cases)} cases",
        f"channels {', '.join(dataset.channels)}; segments {', '.join(dataset.segments)}",
        f"domains {', '.join(dataset.domains)}",
        f"intensities are scaled {rule}",
        *(f"note: {note}" for note in dataset.notes),
    ]


def check_cases(dataset, workers=1):
    """Return for each case a sentence about what is wrong with it, or an empty text.

    Headers that were resolved are no problem; a line is printed for each kind of them.
    """
    names = [case.name for case in dataset.cases]
    check = partial(_problem, dataset)
    if workers == 1 or len(names) < 2:
        outcomes = list(map(check, dataset.cases))
    else:
        with spawned(min(workers, len(names))) as executor:
            outcomes = list(executor.map(check, dataset.cases))
    for line in doubt_lines([doubt for _, doubts in outcomes for doubt in doubts]):
        print(line)
    return {name: problem for name, (problem, _) in zip(names, outcomes, strict=True)}


def _problem(dataset, case):
    """Return what `check_case` complains about, and what it warns of: headers by a rule."""
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        try:
            check_case(dataset, case)
            problem = ""
        except (ValueError, OSError) as error:
            problem = str(error)
    return problem, [str(doubt.message) for doubt in doubts]


if __name__ == "__main__":
    sys.exit(main())
