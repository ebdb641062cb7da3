"""Say case by case whether a folder in nnU-Net's or MSD's layout is fit for the notebooks.

    python -m data_scripts.check DIR [--task NAME] [--workers N]

Nothing is written. Every volume is opened as the notebooks will open it; the exit status is 1 if a
case does not fit.
"""

import argparse
import os
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

from segcal_lite.cases import check_case
from segcal_lite.datasets import read_dataset, settle
from segcal_lite.grids import describe_cut, survey
from segcal_lite.splits import SPLITS
from segcal_lite.tasks import PROFILES, TASKS

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
    cases = tuple(case for case in dataset.cases if not problems[case.name])
    for line in describe_crops(replace(dataset, cases=cases), task) if cases else ():
        print(line)
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


def describe_crops(dataset, task):
    """Return for each profile its crop and voxels in 2D, and what that cuts away."""
    lines, extents = [], survey(dataset)
    for name in PROFILES:
        known, profile, grid = settle(dataset, task, name, extents)
        crop = " x ".join(map(str, profile.crop_size))
        voxels = " x ".join(f"{mm:g}" for mm in known.spacing_mm[:2])
        cut = "; ".join(describe_cut(grid.cut)) or "holds all foreground"
        refused = f": refused, unless with crop_size {grid.enough}" if grid.cuts_much else ""
        lines.append(f"profile {name}: crop of {crop} voxels of {voxels} mm: {cut}{refused}")
    plane = ("sagittal", "coronal", "axial")[grid.slice_axis]
    return [f"slices are {plane}", *lines]


def check_cases(dataset, workers=1):
    """Return for each case a sentence about what is wrong with it, or an empty text."""
    names = [case.name for case in dataset.cases]
    check = partial(_problem, dataset)
    if workers == 1 or len(names) < 2:
        return dict(zip(names, map(check, dataset.cases), strict=True))
    with spawned(min(workers, len(names))) as executor:
        return dict(zip(names, executor.map(check, dataset.cases), strict=True))


def _problem(dataset, case):
    """Return what `check_case` complains about; headers that are resolved are no complaint."""
    with warnings.catch_warnings(action="ignore"):
        try:
            check_case(dataset, case)
        except (ValueError, OSError) as error:
            return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main())
