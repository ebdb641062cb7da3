"""Runs on phantoms of several seeds, each in a folder of its own: its phantoms, its networks."""

import subprocess
import sys

import pandas as pd

from ...data.tasks import THREE_AGES
from ...experiments.many_sets import open_joint_experiment
from ...experiments.one_dataset import open_experiment
from ...experiments.trials import PAPER_TRIALS, sets_of
from ...runs.folders import project_root

HEARTS = {"profile": "laptop", "n_members": 5}  # A6 asks for five networks
SETS = {
    "profile": "laptop",
    "n_flat_to_stop": 4,  # two of evaluations so close together may both be noise
    "n_images": 40,  # of each set: so many leave 12 test cases
}


def runs_on_hearts(out, seeds, report, profile="smoke", **scale):
    """Yield an `Experiment` on heart phantoms for each seed, of the phantoms and of the run."""
    for seed in seeds:
        run = run_folder(out, profile, seed)
        data = _write_phantoms("heart", run, seed)
        yield open_experiment(run, data, "heart", profile, seed, report=report, **scale)


def rows_of_hearts(out, seeds, report, rows_of):
    """Return a table of what `rows_of` makes of each longer run on hearts, and of its scores."""
    rows = []
    for experiment in runs_on_hearts(out, seeds, report, **HEARTS):
        made = {"seed": experiment.seed, **HEARTS}
        rows += [made | row for row in rows_of(experiment, experiment.scores(report=report))]
    return pd.DataFrame(rows)


def runs_on_sets(out, seeds, names, report, profile="smoke", n_images=None, **scale):
    """Yield a `JointExperiment` on paper B's sets of phantoms for each seed."""
    for seed in seeds:
        run = run_folder(out, profile, seed)
        amount = ["--images", str(n_images)] if n_images else []
        sets = _write_phantoms("sets", run, seed, "--profile", profile, *amount)
        yield open_joint_experiment(run, sets, names, profile, seed, report=report, **scale)


def rows_of_sets(out, seeds, report, rows_of):
    """Return a table of what `rows_of` makes of each longer run on all sets that B looks at."""
    names = tuple(dict.fromkeys((*sets_of(PAPER_TRIALS), *THREE_AGES)))
    rows = []
    for experiment in runs_on_sets(out, seeds, names, report, **SETS):
        rows += [{"seed": experiment.seed, **SETS} | row for row in rows_of(experiment)]
    return pd.DataFrame(rows)


def run_folder(out, profile, seed):
    """Return where the run of a seed lies."""
    return out / (str(seed) if profile == "smoke" else f"{profile}_{seed}")


def _write_phantoms(what, run, seed, *options):
    """Have the script write phantoms into a run folder; return theirs."""
    folder = run / "phantoms"
    script = [sys.executable, "-m", "data_scripts.phantoms", what, folder, "--seed", str(seed)]
    subprocess.run([*script, *options], check=True, cwd=project_root())
    return folder
