"""A whole small run: a conversion, members in two and three dimensions, scores, a notebook.

Run in a process of its own: python tests/hostile/farm.py SOURCE DISCS SETS SETTINGS OUT.
"""

import json
import sys
from pathlib import Path

from data_scripts.convert.face import run_script
from segcal_lite.experiments.many_sets import open_joint_experiment
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.kit.pages import execute_notebook, kernel_name
from segcal_lite.runs.folders import project_root
from segcal_lite.training.plans import chain, joint

TINY = {"n_epochs": 4, "n_members": 2, "n_passes": 2, "n_resamples": 2, "ensemble_sizes": (1,)}
TINY |= {"widths": (4, 8), "crop_size": (32, 32), "device": "cpu"}


def main(source, discs, sets, settings, out):
    """Do all of it, or what is left of it."""
    if run_script("acdc", [str(source), str(out / "ACDC"), "--workers", "2"]):
        return 1
    open_experiment(out / "slices", discs, **TINY).scores()
    names = ("liver_ct", "atrium")
    run = open_joint_experiment(out / "volumes", sets, names, device="cpu", **settings)
    run.metrics([joint(*names), chain(*names)], sets=names)
    executed = out / "notebooks" / "01_preprocessing.ipynb"
    if not executed.exists():
        source = project_root() / "notebooks" / executed.name
        given = {"data": str(discs), "out": str(out / "read"), "crop_size": [32, 32]}
        execute_notebook(source, executed, given, kernel_name())
    return 0


if __name__ == "__main__":
    *inputs, settings, out = sys.argv[1:]
    sys.exit(main(*map(Path, inputs), json.loads(settings), Path(out)))
