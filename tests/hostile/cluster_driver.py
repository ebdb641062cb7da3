"""A small run on a scheduler: python tests/hostile/cluster_driver.py DISCS OUT SCHEDULER [SETS]."""

import sys
from pathlib import Path

from conftest import TINY_VOLUMES

from segcal_lite.__main__ import said_in_one_sentence
from segcal_lite.experiments.many_sets import open_joint_experiment
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.training.plans import chain, joint

TINY = {"n_epochs": 20, "early_stopping_patience": 20, "n_members": 3, "ensemble_sizes": (1,)}
TINY |= {"n_passes": 2, "n_resamples": 2, "widths": (4, 8), "crop_size": (32, 32)}


def main(discs, out, scheduler, sets=None):
    """Four members and their scores; with sets a joint training and a chain, scored on both."""
    place = {"device": "cpu", "scheduler": scheduler}
    open_experiment(Path(out) / "slices", discs, **place, **TINY).scores(["dice"])
    if sets:
        names = ("liver_ct", "atrium")
        run = open_joint_experiment(Path(out) / "volumes", sets, names, **place, **TINY_VOLUMES)
        run.metrics([joint(*names), chain(*names)], sets=names)
    return 0


if __name__ == "__main__":
    sys.exit(said_in_one_sentence(lambda: main(*sys.argv[1:])))
