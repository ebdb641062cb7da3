"""Runs on phantoms of several seeds, each in a folder of its own: its phantoms, its networks."""

import subprocess
import sys

from ...experiments.many_sets import open_joint_experiment
from ...experiments.one_dataset import open_experiment
from ...runs.folders import project_root


def runs_on_hearts(out, seeds, report, profile="smoke", **scale):
    """Yield an `Experiment` on heart phantoms for each seed, of the phantoms and of the run."""
    for seed in seeds:
        run = out / (str(seed) if profile == "smoke" else f"{profile}_{seed}")
        data = _write_phantoms("heart", run, seed)
        yield open_experiment(run, data, "heart", profile, seed, report=report, **scale)


def runs_on_sets(out, seeds, names, report):
    """Yield a smoke `JointExperiment` on paper B's sets of phantoms for each seed."""
    for seed in seeds:
        run = out / str(seed)
        sets = _write_phantoms("sets", run, seed)
        yield open_joint_experiment(run, sets, names, seed=seed, report=report)


def _write_phantoms(what, run, seed):
    """Have the script write phantoms into a run folder; return theirs."""
    folder = run / "phantoms"
    script = [sys.executable, "-m", "data_scripts.phantoms", what, folder, "--seed", str(seed)]
    subprocess.run(script, check=True, cwd=project_root())
    return folder
