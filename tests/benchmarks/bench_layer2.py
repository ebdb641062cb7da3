"""Time the scores of one case: 224 x 224 x 10 voxels, 4 classes.

Run by hand: python tests/benchmarks/bench_layer2.py. It prints, for each score, the shortest of
several wall times and the peak of the memory that NumPy allocated meanwhile. The probabilities
are smooth and saturated, as a trained network's: the surfaces are those of organs, not of noise.
"""

import platform
import time
import tracemalloc

import numpy as np
from scipy import ndimage

from segcal_lite.calibration import CalibrationSums
from segcal_lite.entropy import segment_entropy, voxel_entropy
from segcal_lite.segmentation_metrics import (
    average_symmetric_surface_distance,
    dice_coefficient,
    hausdorff95,
)
from segcal_lite.spectral import SpectrumSums, spectral_signature

SHAPE = (224, 224, 10)
SPACING_MM = (2.0, 2.0, 8.0)
N_CLASSES = 4
N_CHANNELS = 8
N_REPEATS = 3


def make_case(seed=0):
    """Return labels, float32 probabilities of nested discs, and a float32 feature map."""
    rng = np.random.default_rng(seed)
    rows, columns, _ = np.indices(SHAPE)
    radius = np.hypot(rows - 112, columns - 112)
    wobble = ndimage.gaussian_filter(rng.normal(size=SHAPE), (8, 8, 1))
    distance = radius + 4 * wobble / wobble.std()
    probs = np.exp(-np.abs(distance[None] - np.array([80, 12, 27, 40]).reshape(-1, 1, 1, 1)) / 3)
    probs = (probs / probs.sum(axis=0)).astype(np.float32)
    labels = np.select([radius < 20, radius < 33, radius < 46], [1, 2, 3], 0)
    features = rng.normal(size=(N_CHANNELS, *SHAPE)).astype(np.float32)
    return labels, probs, features


def measure(function):
    """Return the shortest wall time in seconds and the peak of allocated memory in MB."""
    seconds = []
    for _ in range(N_REPEATS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()  # in a run of its own, because tracing costs time
    function()
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return min(seconds), peak_mb


def stream(features):
    """Feed the feature map slice by slice."""
    sums = SpectrumSums(N_CHANNELS)
    for block in np.split(features, SHAPE[-1], axis=-1):
        sums.update(block)
    return sums.signature()


def main():
    labels, probs, features = make_case()
    predicted = probs.argmax(axis=0)
    masks = [(labels == k, predicted == k) for k in range(1, N_CLASSES)]
    scores = {
        "calibration sums and result": lambda: (
            CalibrationSums(N_CLASSES).update(labels, probs).result()
        ),
        "Dice, 3 segments": lambda: [dice_coefficient(*pair) for pair in masks],
        "HD95, 3 segments": lambda: [hausdorff95(*pair, SPACING_MM) for pair in masks],
        "ASSD, 3 segments": lambda: [
            average_symmetric_surface_distance(*pair, SPACING_MM) for pair in masks
        ],
        "voxel entropy": lambda: voxel_entropy(probs),
        "segment entropy, 3 segments": lambda: [
            segment_entropy(probs, k) for k in range(1, N_CLASSES)
        ],
        f"signature, {N_CHANNELS} channels": lambda: spectral_signature(features),
        "the same, slice by slice": lambda: stream(features),
    }
    print(f"{SHAPE} voxels, {N_CLASSES} classes; NumPy {np.__version__}, {platform.machine()}")
    print(f"{'score':<30}{'time (s)':>10}{'peak (MB)':>11}")
    for name, function in scores.items():
        seconds, peak_mb = measure(function)
        print(f"{name:<30}{seconds:>10.3f}{peak_mb:>11.1f}")


if __name__ == "__main__":
    main()
