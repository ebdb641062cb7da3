"""What ensembles and MC dropout take beside what one would write first; `make bench` runs it too.

The sweep over M: 300 ensembles drawn from a pool of 100 members that agree inside and outside of
their segments and differ at the borders, as trained ones do. MC dropout: paper A's network, whose
masks do not depend on its weights, so that none are trained.
"""

import numpy as np
import torch
from scipy import ndimage

from segcal_lite.ensembles import SweepSums, selection_matrix
from segcal_lite.inference import mc_dropout_passes, predict_case, stochastic_passes
from segcal_lite.runs.devices import memory_layout
from segcal_lite.unet import UNet

SLICE, N_POOL, SIZES, N_SUBSETS = (250, 240), 100, (1, 5, 10, 25, 50), 60
VOLUME, N_PASSES = (1, 224, 224, 10), 10


def smooth_noise(rng, sigma):
    """Gaussian noise of variance 1 and of so many pixels' width."""
    noise = ndimage.gaussian_filter(rng.normal(size=SLICE), sigma)
    return noise / noise.std()


def make_pool(seed=0):
    """Return labels (N,) of nested shells and float32 probabilities (n_pool, 4, N)."""
    rng = np.random.default_rng(seed)
    grid = np.ogrid[tuple(slice(-(side // 2), side - side // 2) for side in SLICE)]
    radius = np.sqrt(sum(axis.astype(float) ** 2 for axis in grid)) + 6 * smooth_noise(rng, 12)
    labels = np.digitize(-radius, (-75, -50, -30)).ravel()
    seen = radius + 2 * smooth_noise(rng, 8)
    pool = np.empty((N_POOL, 4, labels.size), np.float32)
    for member in pool:
        own = seen + 2 * smooth_noise(rng, 8)
        logits = np.stack([-np.abs(own - r) / 2 for r in (110, 62, 40, 15)])
        logits[0, own > 110] = 0
        probs = torch.softmax(torch.from_numpy(logits.astype(np.float32)), dim=0)
        member[:] = probs.reshape(4, -1).numpy()
    return labels, pool


def averaged_anew(labels, pool, selection):
    """NLL and mean Dice of each subset, one after another."""
    scores = []
    for row in selection:
        mean = pool[row > 0].mean(axis=0)
        likelihood = np.maximum(mean[labels, np.arange(labels.size)], 1e-12)
        predicted, dice = mean.argmax(axis=0), []
        for k in range(1, len(mean)):
            is_truth, is_predicted = labels == k, predicted == k
            both = np.count_nonzero(is_truth & is_predicted)
            total = np.count_nonzero(is_truth) + np.count_nonzero(is_predicted)
            dice.append(2 * both / total if total else 1.0)
        scores.append((-np.log(likelihood, dtype=np.float64).mean(), np.mean(dice)))
    return np.transpose(scores)


def works():
    """Yield size, score, who computes it, and how."""
    labels, pool = make_pool()
    rows = [selection_matrix(N_POOL, m, N_SUBSETS) for m in SIZES]
    selection = np.concatenate(rows).astype(np.float32)
    size = f"{len(selection)} of {N_POOL} members, {labels.size:,} voxels, 4 classes"
    sweep, product = "sweep: NLL, Dice", "product alone, of that sweep"
    ours = "segcal_lite"
    with_brier = lambda: SweepSums(selection, 4).update(labels, pool)  # noqa: E731
    yield size, f"{sweep}, Brier", ours, with_brier
    yield size, sweep, "averaged anew", lambda: averaged_anew(labels, pool, selection)
    yield size, product, "NumPy", lambda: selection @ pool.reshape(N_POOL, -1)
    yield from works_of_dropout()


def works_of_dropout():
    """Yield the same of MC dropout."""
    torch.manual_seed(0)
    model = UNet(1, 4, dropout=0.5).eval().to(memory_format=memory_layout(2))
    image = np.random.default_rng(0).normal(size=VOLUME).astype(np.float32)
    whole = lambda: predict_case(model, image, "ce")  # noqa: E731
    size = " x ".join(map(str, VOLUME[1:]))
    what = f"MC dropout, {N_PASSES} passes"
    yield size, what, "segcal_lite", lambda: list(mc_dropout_passes(model, image, "ce", N_PASSES))
    passes = lambda: list(stochastic_passes(model, whole, N_PASSES, 0))  # noqa: E731
    yield size, what, "each pass whole", passes
