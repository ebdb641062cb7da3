"""Time the training of members on the CPU, beside the loop that most people would write.

Run by hand: python tests/benchmarks/bench_training.py results/benchmarks_training.csv. Two sizes:
paper A's heart (224 x 224, 32 slices a mini-batch) for the speed, with the start of all processes;
the smoke profile's (64 x 64) for the validation Dice of eight members, which has to be the same.
Seconds are wall-clock, of all cores: nothing else should run.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from data_scripts.phantoms.write import write_phantoms
from segcal_lite.data import TASKS
from segcal_lite.experiments import open_experiment
from segcal_lite.runs.folders import write_json
from segcal_lite.runs.provenance import provenance
from segcal_lite.runs.tables import write_table
from segcal_lite.training.checkpoints import read_history

SIZES = {  # what is measured, side, mini-batch, epochs, members
    "training, 224 x 224": (224, 32, 2, 4),
    "training, 64 x 64": (64, 4, 6, 8),
}
PATIENTS = {"n_train": 12, "n_validation": 4, "n_test": 1, "n_shifted": 0, "n_slices": 10}
STARTS = ("the first two", "two more, later")  # processes, see first_step.py


def silent(line):
    """Print nothing."""


def members_of(folder, side, batch_size, n_epochs, n_members):
    """Write phantoms and prepare them; return an experiment's members, and their cases."""
    data = write_phantoms(folder / "phantoms", TASKS["heart"], size=(side, side), **PATIENTS)
    chosen = {"n_epochs": n_epochs, "n_members": n_members, "ensemble_sizes": (1,)}
    chosen |= {"crop_size": (side, side), "batch_size": batch_size}
    run = open_experiment(folder / "run", data, "heart", "smoke", report=silent, **chosen)
    return run.members("dice"), run.out / "prepared"


def timed(command):
    """Return the seconds of a command, with the start of Python, and the lines that it printed."""
    started = time.monotonic()
    told = subprocess.run(
        [sys.executable, *map(str, command)], check=True, capture_output=True, text=True
    )
    return time.monotonic() - started, told.stdout.splitlines()


def ours(folder, n_epochs, n_members, side, batch_size):
    """Train the members as the kit does: the command of a process of its own."""
    members, prepared = members_of(folder, side, batch_size, n_epochs, n_members)
    from segcal_lite.training import train_members

    train_members(members, prepared, device="cpu", report=silent)


def rows_of(name, side, batch_size, n_epochs, n_members):
    """Return rows of both ways, trained from the same cases."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        members, prepared = members_of(folder, side, batch_size, n_epochs, n_members)
        write_json(folder / "settings.json", asdict(members[0].settings))
        plain = Path(__file__).with_name("plain_loop.py")
        command = (plain, prepared, folder / "settings.json", n_epochs, n_members)
        seconds, told = timed(command)
        dice = {"plain loop": json.loads(told[-1])}
        spent = {"plain loop": seconds}
        again = (Path(__file__), "members", folder, n_epochs, n_members, side, batch_size)
        spent["segcal_lite"], _ = timed(again)
        histories = [read_history(member.folder) for member in members]
        dice["segcal_lite"] = [history.validation_dice.max() for history in histories]
    n_slices = PATIENTS["n_train"] * PATIENTS["n_slices"] * n_epochs * n_members
    for way, values in dice.items():
        rate, mean, spread = n_slices / spent[way], np.mean(values), np.std(values, ddof=1)
        print(
            f"{name}, {n_members} members, {way}: {spent[way]:.1f} s, {rate:.1f} slices a second, "
            f"validation Dice {mean:.4f} (standard deviation {spread:.4f})"
        )
        metric = f"{n_members} members, {n_epochs} epochs"
        yield {"size": name, "metric": metric, "way": way, "seconds": spent[way]}
        yield {"size": name, "metric": "validation Dice", "way": way, "value": mean}
        yield {"size": name, "metric": "its standard deviation", "way": way, "value": spread}


def main(path):
    """Measure all sizes and the start of processes; write one table."""
    rows = [row for name, chosen in SIZES.items() for row in rows_of(name, *chosen)]
    again = [timed((Path(__file__).with_name("first_step.py"),))[1] for _ in range(3)]
    for which, *told in zip(STARTS, *again, strict=True):
        seconds = min(map(float, told))
        print(f"start of processes, {which}, to a step of training in each: {seconds:.2f} s")
        rows.append({"size": which, "metric": "start of processes", "seconds": seconds})
    write_table(path, pd.DataFrame(rows).round(4).assign(**provenance("cpu")))


if __name__ == "__main__":
    if sys.argv[1] == "members":
        ours(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        main(Path(sys.argv[1]))
