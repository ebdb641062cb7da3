"""Say case by case whether a folder in nnU-Net's or MSD's layout is fit for the notebooks.

    python -m data_scripts.check DIR [--task NAME] [--leave-out CASE ...] [--workers N]

Nothing is written. Every volume is opened as the notebooks will open it; the exit status is 1 if a
case does not fit.
"""

import argparse
import os
import shlex
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

from segcal_lite._checks import named, wrong_input
from segcal_lite.data.cases import check_case
from segcal_lite.data.datasets import read_dataset
from segcal_lite.data.grids import describe_cut
from segcal_lite.data.labels import segment_values, survey
from segcal_lite.data.splits import SPLITS
from segcal_lite.data.tasks import TASKS
from segcal_lite.data.volumes import doubt_lines
from segcal_lite.experiments.profiles import PROFILES
from segcal_lite.experiments.settled import settle
from segcal_lite.runs.processes import count_workers, spawned_processes

from .convert.face import WORKERS, count, said_in_one_sentence

WITHOUT_TASK = "from each volume's minimum to its maximum, CT too (a --task has its own rule)"


def main(arguments=None):
    """Print what the dataset holds and one line a case; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m data_scripts.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--task", help="a task in segcal_lite.data.tasks, for its channels and segments"
    )
    parser.add_argument("--leave-out", nargs="+", metavar="CASE", help="names to go on without")
    parser.add_argument("--workers", type=count, default=os.cpu_count(), help=WORKERS)
    options = parser.parse_args(arguments)
    given = options.folder, options.task, options.leave_out, options.workers
    return said_in_one_sentence(_check, *given)


def _check(folder, task, leave_out, workers):
    """Print the lines; return the exit status."""
    unfit = {}  # so far: cases without all their files
    dataset = read_dataset(folder, task=task, problems=unfit, leave_out=leave_out)
    for line in describe(dataset, len(unfit), TASKS.get(task)):
        print(line)
    found = check_cases(dataset, workers)
    unfit |= {name: result for name, result in found.items() if isinstance(result, str)}
    fit = {case.name: case for case in dataset.cases if case.name not in unfit}
    for name in sorted(unfit.keys() | fit.keys()):
        problem = unfit.get(name)
        print(f"  {name}: {problem or f'fit ({fit[name].domain}, {fit[name].split})'}")
    good = replace(dataset, cases=tuple(fit.values()))
    extents = survey(good) if fit else []
    for line in describe_crops(good, task, extents) if fit else ():
        print(line)
    for line in [*count_voxels([found[name] for name in fit]), *single_slices(extents)]:
        print(line)
    absent = set(SPLITS) - {case.split for case in fit.values()}
    if absent:
        where = " and ".join(sorted(absent))
        print(f"no fit case in {where}: the notebooks cannot train on it")
    validation = [extent for extent in extents if extent.case.split == "validation"]
    blind = bool(validation) and not any(extent.boxes for extent in validation)
    if blind:
        print("no validation case holds foreground: no network can be chosen by it")
    unheld = unheld_segments(good, extents)
    if unheld:
        where = "no label for training or validation holds"
        print(f"{where} {named(unheld)}: networks cannot learn it; take it out of the labels")
    print(f"{len(fit)} of {len(fit) + len(unfit)} cases are fit")
    if unfit and fit:
        print(way_on(folder, task, sorted({*unfit, *(leave_out or ())})))
    return 1 if unfit or unheld or blind else 0


def way_on(folder, task, unfit):
    """Return the line that tells how to go on without some cases, or why too few would be left."""
    try:
        read_dataset(folder, task=task, leave_out=unfit)
    except ValueError as error:
        return f"without the others too little is left to go on: {error}"
    return f"to go on without the others, here and in the demo: --leave-out {shlex.join(unfit)}"


def unheld_segments(dataset, extents):
    """Return the segments that no label for training or validation holds, if there is any."""
    known = [extent for extent in extents if extent.case.split != "test"]
    held = {value for extent in known for value in extent.boxes}
    values = segment_values(dataset) if known else {}
    return [name for name, of_segment in values.items() if held.isdisjoint(of_segment)]


def describe(dataset, n_incomplete, task):
    """Return lines about channels, segments, domains, intensities and what was decided."""
    incomplete = f", {n_incomplete} of them without all files" if n_incomplete else ""
    rule = f"by the rule of task {task.name}, {task.intensity_rule}" if task else WITHOUT_TASK
    return [
        f"{dataset.name}: {len(dataset.cases) + n_incomplete} cases{incomplete}",
        f"channels {', '.join(dataset.channels)}; segments {', '.join(dataset.segments)}",
        f"domains {', '.join(dataset.domains)}",
        f"intensities are scaled {rule}",
        *(f"note: {note}" for note in dataset.notes),
    ]


def describe_crops(dataset, task, extents):
    """Return for each profile its crop and voxels in 2D, and what that cuts away."""
    lines = []
    for name in PROFILES:
        known, profile, grid = settle(dataset, task, name, extents)
        crop = " x ".join(map(str, profile.crop_size))
        voxels = " x ".join(f"{mm:g}" for mm in known.spacing_mm[:2])
        cut = "; ".join(describe_cut(grid.cut)) or "holds all foreground"
        refused = f": refused, unless with crop_size {grid.enough}" if grid.cuts_much else ""
        lines.append(f"profile {name}: crop of {crop} voxels of {voxels} mm: {cut}{refused}")
    plane = ("sagittal", "coronal", "axial")[grid.slice_axis]
    return [f"slices are {plane}", *lines]


def count_voxels(counts):
    """Return notes on cases without foreground and on voxels that nobody annotated.

    Parameters
    ----------
    counts : list of tuple of three int
        For each case what `segcal_lite.data.cases.check_case` returns.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If no case holds any foreground.

    Examples
    --------
    >>> count_voxels([(5, 10, 100), (0, 0, 100)])
    ['note: 1 of 2 cases hold no foreground', 'note: 5.0 % of all voxels are ignored']
    """
    n_empty = sum(n_foreground == 0 for n_foreground, _, _ in counts)
    if counts and n_empty == len(counts):
        raise wrong_input("labels", f"no foreground in {n_empty} fit cases", "some in one")
    n_ignored, n_voxels = (sum(count[part] for count in counts) for part in (1, 2))
    notes = [f"note: {n_empty} of {len(counts)} cases hold no foreground"] if n_empty else []
    if n_ignored:
        notes.append(f"note: {100 * n_ignored / n_voxels:.1f} % of all voxels are ignored")
    return notes


def single_slices(extents):
    """Return a note on cases of one slice, which networks of volumes refuse, if there are any."""
    single = [extent.case.name for extent in extents if 1 in extent.shape]
    if not single:
        return []
    where = "the networks of 06 to 08 see volumes and refuse them"
    return [f"note: {len(single)} of {len(extents)} cases are one slice: {where}: {named(single)}"]


def check_cases(dataset, workers=1):
    """Return for each case its counts, as `check_case` does, or a sentence about what is wrong.

    Headers that were resolved are no problem; a line is printed for each kind of them.
    """
    names = [case.name for case in dataset.cases]
    check = partial(_counts, dataset)
    workers = count_workers(min(workers, len(names)))
    if workers == 1:
        outcomes = list(map(check, dataset.cases))
    else:
        with spawned_processes(workers) as executor:
            outcomes = list(executor.map(check, dataset.cases))
    for line in doubt_lines([doubt for _, doubts in outcomes for doubt in doubts]):
        print(line)
    return {name: problem for name, (problem, _) in zip(names, outcomes, strict=True)}


def _counts(dataset, case):
    """Return what `check_case` counts or complains about, and its warnings of resolved headers."""
    with warnings.catch_warnings(record=True, action="always") as doubts:
        try:
            found = check_case(dataset, case)
        except (ValueError, OSError) as error:
            found = str(error)
        except MemoryError:
            found = f"{case.name}: found too little memory, expected enough for one case a worker."
    return found, [str(doubt.message) for doubt in doubts]


if __name__ == "__main__":
    sys.exit(main())
