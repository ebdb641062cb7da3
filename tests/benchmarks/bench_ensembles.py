"""What ensembles and MC dropout take beside what one would write first; `make bench` runs it too.

The sweep over M: 300 ensembles drawn from a pool of 100 members that agree inside and outside of
their segments and differ at the borders, as trained ones do. Inference: paper A's network, one
after the other member and by MC dropout, beside the textbook's form, all slices at once. What it
takes does not depend on the weights, so that none are trained.
"""

import numpy as np
import torch
from scipy import ndimage
from textbook_unet import as_textbook

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


def averaged_anew(labels, pool, selection, with_brier=False):
    """NLL and mean Dice, and the Brier score, of each subset, one after another."""
    scores, truth = [], np.eye(pool.shape[1], dtype=pool.dtype)[:, labels]
    for row in selection:
        mean = pool[row > 0].mean(axis=0)
        likelihood = np.maximum(mean[labels, np.arange(labels.size)], 1e-12)
        brier = ((mean - truth) ** 2).sum(axis=0).mean(dtype=np.float64) if with_brier else np.nan
        predicted, dice = mean.argmax(axis=0), []
        for k in range(1, len(mean)):
            is_truth, is_predicted = labels == k, predicted == k
            both = np.count_nonzero(is_truth & is_predicted)
            total = np.count_nonzero(is_truth) + np.count_nonzero(is_predicted)
            dice.append(2 * both / total if total else 1.0)
        nll = -np.log(likelihood, dtype=np.float64).mean()
        scores.append((nll, np.mean(dice), brier))
    return np.transpose(scores)


def works():
    """Yield size, score, who computes it, and how."""
    labels, pool = make_pool()
    rows = [selection_matrix(N_POOL, m, N_SUBSETS) for m in SIZES]
    selection = np.concatenate(rows).astype(np.float32)
    size = f"{len(selection)} of {N_POOL} members, {labels.size:,} voxels, 4 classes"
    sweep, product = "sweep: NLL, Dice", "product alone, of that sweep"
    ours = "segcal_lite"
    yield size, f"{sweep}, Brier", ours, lambda: SweepSums(selection, 4).update(labels, pool)
    anew = lambda **how: averaged_anew(labels, pool, selection, **how)  # noqa: E731
    yield size, f"{sweep}, Brier", "averaged anew", lambda: anew(with_brier=True)
    yield size, sweep, "averaged anew", anew
    yield size, product, "NumPy", lambda: selection @ pool.reshape(N_POOL, -1)
    yield from works_of_inference()


def new_model(dropout=0.0):
    """Return paper A's network, ready for use."""
    return UNet(1, 4, dropout=dropout).eval().to(memory_format=memory_layout(2))


@torch.no_grad()
def at_once(model, image):
    """Class probabilities of a volume (1, X, Y, Z), all slices in one mini-batch."""
    batch = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
    logits = model(batch.contiguous(memory_format=memory_layout(2)))
    return logits.softmax(dim=1).movedim(0, -1).numpy()


def works_of_inference():
    """Yield the same of ensembles and MC dropout."""
    torch.manual_seed(0)
    image = np.random.default_rng(0).normal(size=VOLUME).astype(np.float32)
    size = " x ".join(map(str, VOLUME[1:]))
    members, textbooks = [[new_model() for _ in range(N_PASSES)] for _ in range(2)]
    textbooks = [as_textbook(model) for model in textbooks]
    what = f"ensemble of {N_PASSES}"
    yield size, what, "segcal_lite", lambda: [predict_case(m, image, "ce") for m in members]
    yield size, what, "textbook", lambda: [at_once(m, image) for m in textbooks]
    model, textbook = new_model(0.5), as_textbook(new_model(0.5))
    what = f"MC dropout, {N_PASSES} passes"
    yield size, what, "segcal_lite", lambda: list(mc_dropout_passes(model, image, "ce", N_PASSES))
    whole = lambda: at_once(textbook, image)  # noqa: E731
    yield size, what, "textbook", lambda: list(stochastic_passes(textbook, whole, N_PASSES, 0))
