"""How time and memory of scoring grow with members, with the side of a slice and with cases.

Run by hand, on Linux, about five minutes: python tests/benchmarks/bench_growth.py. It writes
results/growth.csv and results/growth.png. What runs is what a run's workers do, `score_cases`: all
members predict a case, each is scored as it is and with both scalings, then their mean and the
ensembles of the sweep. Each point is a process of its own on one thread; its memory is the largest
that it held for itself, without the pages of files that it only reads.
"""

import argparse
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from threadpoolctl import threadpool_limits

from segcal_lite.calibration import nll
from segcal_lite.data.datasets import read_dataset, task_of
from segcal_lite.data.prepared import prepare_dataset
from segcal_lite.experiments.case_scores import Scoring, fit_member_scalings, score_cases
from segcal_lite.experiments.profiles import get_profile
from segcal_lite.runs.folders import model_folder, write_json
from segcal_lite.runs.provenance import provenance
from segcal_lite.runs.tables import write_table
from segcal_lite.training.models import TrainingSettings
from segcal_lite.training.on_slices import train_model

RESULTS = Path(__file__).resolve().parents[2] / "results"
MEMBERS, SIDES, CASES = (1, 2, 4, 8, 16, 32), (64, 96, 128, 192, 256), (1, 3, 10, 30, 100)
N_SLICES, N_SUBSETS = 8, 20
MEMORY_EVERY_S = 0.01


def write_discs(folder, side, n_test):
    """Noisy discs with a core in the common layout: one to train, one to validate, then tests."""
    rng = np.random.default_rng(side)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rows, distance = [], np.hypot(*np.mgrid[-side // 2 : side // 2, -side // 2 : side // 2])
    for number in range(n_test + 2):
        noise = ndimage.gaussian_filter(
            rng.normal(size=(side, side, N_SLICES)), (side / 16, side / 16, 1)
        )
        radius = side * (0.3 + 0.04 * noise / noise.std())
        labels = sum(distance[..., np.newaxis] < part * radius for part in (1.0, 0.5))
        image = labels + 0.5 * rng.normal(size=labels.shape)
        affine = np.diag([1.5, 1.5, 8.0, 1.0])
        for name, values in ((f"imagesTr/c{number}_0000", image), (f"labelsTr/c{number}", labels)):
            nib.save(nib.Nifti1Image(values.astype(np.float32), affine), folder / f"{name}.nii.gz")
        rows.append({"case": f"c{number}", "domain": "discs", "split": "test"})
    rows[0]["split"], rows[1]["split"] = "train", "validation"
    pd.DataFrame(rows).to_csv(folder / "cases.csv", index=False)
    labels = {"background": 0, "ring": 1, "core": 2}
    description = {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", description)
    return folder


def prepare(root, side, n_test):
    """Return the folder of prepared cases, their task and fingerprint."""
    dataset = read_dataset(write_discs(root / f"data_{side}", side, n_test))
    folder, task = root / f"prepared_{side}", task_of(dataset)
    prepare_dataset(dataset, task, (side, side), folder, report=lambda line: None)
    return folder, task, dataset.fingerprint()


def train(root, prepared, task, data):
    """Train the members for two epochs on small discs, which networks of any size come from."""
    profile = get_profile("smoke", task, crop_size=(SIDES[0],) * 2, n_epochs=2, batch_size=4)
    folders = []
    for seed in range(max(MEMBERS)):
        settings = TrainingSettings.gather(task, profile, data, "ce", seed)
        folders.append(model_folder(root, "unet2d", "ce", seed, 0.0))
        train_model(folders[-1], prepared, settings, "cpu")
        fit_member_scalings(folders[-1], prepared, "cpu")
    return tuple(folders)


class Memory(threading.Thread):
    """Looks at what this process holds for itself, time and again."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak_mb, self.ended = 0.0, threading.Event()

    def run(self):
        """Until it is told to end."""
        while not self.ended.wait(MEMORY_EVERY_S):
            status = Path("/proc/self/status").read_text()
            self.peak_mb = max(self.peak_mb, int(status.split("RssAnon:")[1].split()[0]) / 1e3)


def measure(scoring, prepared, names):
    """Return processor time in seconds and peak of memory in MB of scoring some cases."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        nll(np.array([0]), np.eye(2)[:, :1])  # loads the loops
        memory = Memory()
        memory.start()
        start = time.process_time()
        score_cases(scoring, prepared, names, "cpu")
        seconds = time.process_time() - start
    memory.ended.set()
    memory.join()
    return seconds, memory.peak_mb


def points(root):
    """Yield what is varied, its value, and the arguments of `measure`."""
    prepared = {side: prepare(root, side, max(CASES) if side == SIDES[0] else 1) for side in SIDES}
    smallest, task, data = prepared[SIDES[0]]
    members = train(root, smallest, task, data)
    settings = {"loss": "ce", "segments": task.segments, "dropout_members": (), "n_passes": 1}
    settings |= {"ensemble_sizes": (1,), "n_resamples": N_SUBSETS, "n_bins": 10}
    seeds = count()  # other seeds, other folder: no score is there yet

    def scoring(n_members):
        return Scoring(out=root, members=members[:n_members], seed=next(seeds), **settings)

    for n in MEMBERS:
        yield "members", n, scoring(n), prepared[128][0], ["c2"]
    for side in SIDES:
        yield "side", side, scoring(4), prepared[side][0], ["c2"]
    for n in CASES:
        yield "cases", n, scoring(2), smallest, [f"c{number}" for number in range(2, n + 2)]


def draw(table, path):
    """Time and memory against what is varied; the dotted line grows in proportion."""
    matplotlib.use("Agg")
    names = {"members": "members", "side": "side of a slice in pixels, squared", "cases": "cases"}
    figure, panels = plt.subplots(2, 3, figsize=(10, 6), layout="constrained", sharex="col")
    for (above, below), (varied, name) in zip(panels.T, names.items(), strict=True):
        rows = table[table.varied == varied]
        size = rows.n**2 if varied == "side" else rows.n
        above.loglog(size, rows.seconds, "o-")
        above.loglog(size, rows.seconds.iloc[-1] * size / size.iloc[-1], ":", color="grey")
        above.set_yticks((0.1, 0.3, 1, 3, 10, 30), (0.1, 0.3, 1, 3, 10, 30))
        above.set_ylim(0.1, 2 * table.seconds.max())
        below.semilogx(size, rows.peak_mb, "o-")
        below.set(xlabel=name, ylim=(0, 1.2 * table.peak_mb.max()))
        below.set_xticks(size, [f"{n}²" if varied == "side" else n for n in rows.n])
        above.minorticks_off()
        below.minorticks_off()
    panels[0, 0].set_ylabel("processor time in s")
    panels[1, 0].set_ylabel("peak of memory in MB")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(folder):
    """Measure all points, one process each, and write the table and the figure."""
    found = []
    with TemporaryDirectory() as root, threadpool_limits(1):
        torch.set_num_threads(1)
        for varied, n, *job in points(Path(root)):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                seconds, peak_mb = pool.submit(measure, *job).result()
            found.append((varied, n, round(seconds, 3), round(peak_mb, 1)))
            print("{:8} {:4} {:8.2f} s {:7.1f} MB".format(*found[-1]), flush=True)
    table = pd.DataFrame(found, columns=["varied", "n", "seconds", "peak_mb"])
    write_table(folder / "growth.csv", table.assign(**provenance("cpu")))
    draw(table, folder / "growth.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=RESULTS)
    main(parser.parse_args().folder)
