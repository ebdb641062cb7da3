"""Time the scores of one brain-sized case on one thread, beside what others offer for them.

`make bench` runs it and writes results/benchmarks.csv: for each score, ours and its peers in the
same run, the shortest of several processor times (of one thread, so what else the machine does
counts little) and the peak of the memory that NumPy allocated meanwhile. The probabilities are
smooth and saturated, as a trained network's.
"""

import os
import subprocess
import sys
import time
import tracemalloc
import warnings
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import bench_ensembles
import numpy as np
import pandas as pd
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage
from torchmetrics.functional.classification import multiclass_calibration_error

from segcal_lite.calibration import CalibrationSums, sums_by_region
from segcal_lite.entropy import segment_entropy
from segcal_lite.experiments.scores import score_probabilities, segmentation_scores
from segcal_lite.runs.provenance import provenance
from segcal_lite.runs.tables import write_table
from segcal_lite.segmentation_metrics import boundary_band, surface_metrics
from segcal_lite.spectral import spectral_signature

SHAPE = (240, 240, 155)
SPACING_MM = (1.0, 1.0, 1.0)
SEGMENTS = ("oedema", "core", "enhancing")
FEATURES = (14, 96, 96, 96)
N_REPEATS = 5
IMPORTS = {
    "import of calibration": "import segcal_lite.calibration",
    "the same, and a first score": (
        "import numpy as np, segcal_lite.calibration as c; c.nll(np.array([0]), np.eye(2)[:, :1])"
    ),
}


def smooth_noise(rng, sigma):
    """Gaussian noise of variance 1 and of so many voxels' width."""
    coarse = rng.normal(size=[-(-side // 4) for side in SHAPE])
    fine = ndimage.zoom(ndimage.gaussian_filter(coarse, sigma / 4), 4, order=1)
    return fine[tuple(slice(side) for side in SHAPE)] / fine.std()


def make_case(seed=0):
    """Return uint8 labels (X, Y, Z) of nested blobs and float32 probabilities (4, X, Y, Z)."""
    rng = np.random.default_rng(seed)
    grid = np.ogrid[tuple(slice(-(side // 2), side - side // 2) for side in SHAPE)]
    radius = np.sqrt(sum(axis.astype(float) ** 2 for axis in grid)) + 6 * smooth_noise(rng, 12)
    labels = np.digitize(-radius, (-45, -30, -18)).astype(np.uint8)
    seen = radius + 2 * smooth_noise(rng, 8)
    logits = np.stack([-np.abs(seen - r) / 2 for r in (75, 37, 24, 9)]).astype(np.float32)
    logits[0, seen > 75] = 0
    return labels, torch.softmax(torch.from_numpy(logits), dim=0).numpy()


def make_masks(labels, probs):
    """Return pairs of masks (truth, prediction) by what they look like."""
    predicted = probs.argmax(axis=0)
    rng = np.random.default_rng(1)
    parts = smooth_noise(rng, 4)
    small = np.zeros(SHAPE, dtype=bool)
    small[100:124, 110:130, 70:84] = True
    return {
        "one large part": (labels > 0, predicted > 0),
        "one small part": (small, np.roll(small, 2, axis=0)),
        "many parts": (parts > 1, parts + 0.2 * smooth_noise(rng, 4) > 1),
    }


def of_monai(mask_gt, mask_pred):
    """HD95 and ASSD."""
    masks = [torch.from_numpy(mask)[None, None] for mask in (mask_pred, mask_gt)]
    options = {"include_background": True, "spacing": SPACING_MM}
    hd95 = compute_hausdorff_distance(*masks, percentile=95, **options)
    return hd95, compute_average_surface_distance(*masks, symmetric=True, **options)


def of_torchmetrics(labels, probs):
    """ECE."""
    probs, labels = torch.from_numpy(probs)[None], torch.from_numpy(labels.astype(np.int64))[None]
    return multiclass_calibration_error(probs, labels, num_classes=probs.shape[1], n_bins=10)


def works(labels, probs):
    """Yield size, score, who computes it, and how."""
    size = " x ".join(map(str, SHAPE))
    case = f"{size}, 4 classes"
    around = ndimage.find_objects(labels.astype(bool).astype(int))[0]
    whole_and_box = {"whole": (slice(None),) * 3, "box": around}
    masks_gt = np.stack([labels == k for k in (1, 2, 3)])
    regions = whole_and_box | {"band": boundary_band(masks_gt, SPACING_MM, 4)}
    everything = "NLL, Brier, ECE, MCE, class-wise ECE"
    ours = "segcal_lite"
    yield case, everything, ours, lambda: CalibrationSums(4).update(labels, probs).result()
    in_both = f"{everything}, whole and box"
    yield case, in_both, ours, lambda: sums_by_region(labels, probs, whole_and_box)
    yield case, "ECE", "torchmetrics", lambda: of_torchmetrics(labels, probs)
    yield case, "segment entropy of one", ours, lambda: segment_entropy(probs, 1)
    yield case, "boundary band, 4 mm", ours, lambda: boundary_band(masks_gt, SPACING_MM, 4)
    scored = labels, probs, SPACING_MM, SEGMENTS, regions
    yield case, "score_probabilities, 3 regions", ours, lambda: score_probabilities(*scored)
    predicted = probs.argmax(axis=0)
    masks = [(labels == k, predicted == k) for k in (1, 2, 3)]
    distances = "HD95, ASSD"
    of_it = f"of it {distances} of 3 segments"
    yield case, of_it, ours, lambda: [surface_metrics(*pair, SPACING_MM) for pair in masks]
    with_dice = labels, predicted, SPACING_MM, SEGMENTS
    yield case, "segmentation_scores", ours, lambda: segmentation_scores(*with_dice)
    for name, pair in make_masks(labels, probs).items():
        mask = f"{size}, {name}"
        yield mask, distances, ours, lambda p=pair: surface_metrics(*p, SPACING_MM)
        yield mask, distances, "MONAI", lambda p=pair: of_monai(*p)
    yield from works_on_features()


def works_on_features():
    """Yield the same of a map of features in float32, as networks give them."""
    features = np.random.default_rng(2).normal(size=FEATURES).astype(np.float32)
    size, matrix = " x ".join(map(str, FEATURES)), features.reshape(len(features), -1)
    in_double, tensor = matrix.astype(np.float64), torch.from_numpy(matrix)
    yield size, "signature", "segcal_lite", lambda: spectral_signature(features)
    yield size, "svd, float64", "NumPy", lambda: np.linalg.svd(in_double, compute_uv=False)
    yield size, "svdvals, float32", "torch", lambda: torch.linalg.svdvals(tensor)
    turned = "svdvals, float32, transposed first"
    yield size, turned, "torch", lambda: torch.linalg.svdvals(tensor.T.contiguous())


def measure(functions):
    """Return the shortest processor time of each in seconds, and the peak of its memory in MB.

    They take turns, because what slows the machine for a while has to slow all of them.
    """
    for function in functions:
        function()  # what is compiled or loaded at a first call does not count
    rounds = [[seconds_of(function) for function in functions] for _ in range(N_REPEATS)]
    return np.min(rounds, axis=0), [peak_mb_of(function) for function in functions]


def seconds_of(function):
    """Return the processor time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def peak_mb_of(function):
    """Return the peak of allocated memory, of a call of its own, because tracing costs time."""
    tracemalloc.start()
    function()
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return peak_mb


def first_calls():
    """Yield what a new process pays before its first score, loops compiled and loops cached."""
    with TemporaryDirectory() as folder:
        for way in ("nothing in the cache", "loops in the cache"):
            for work, code in IMPORTS.items():
                before = os.times()
                own = os.environ | {"NUMBA_CACHE_DIR": folder}
                subprocess.run([sys.executable, "-c", code], check=True, env=own)
                after = os.times()
                seconds = sum(after[2:4]) - sum(before[2:4])  # of child processes
                yield "a new process", work, way, seconds


def main(path):
    """Time all and write one table."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    found = [(*row, np.nan) for row in first_calls()]
    all_works = chain(works(*make_case()), bench_ensembles.works())
    for _, of_one_size in groupby(all_works, key=itemgetter(0)):
        *names, functions = zip(*of_one_size, strict=True)
        for row in zip(*names, *measure(functions), strict=True):
            print("{:56} {:50} {:14} {:7.3f} s {:7.1f} MB".format(*row), flush=True)
            found.append(row)
    table = pd.DataFrame(found, columns=["size", "metric", "way", "seconds", "peak_mb"])
    write_table(Path(path), table.round(4).assign(**provenance("cpu")))


if __name__ == "__main__":
    main(*sys.argv[1:])
