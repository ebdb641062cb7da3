"""What one 3D model says about one volume, reduced to numbers that fit a small file.

The volume is predicted once and dropped; kept are segmentation and calibration scores, the scores
of the detectors that need probabilities, and for the others the singular values of feature maps,
pooled features and the moments of the intensities.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..data.prepared import read_prepared
from ..detectors import intensity_moments
from ..ensembles import mean_probability
from ..inference import stochastic_passes
from ..runs.claims import each_claimed
from ..runs.folders import read_json, write_json
from ..sliding_window import named_layer, predict_volume, predict_with_features
from ..spectral import SpectrumSums
from ..training.checkpoints import trained_digest
from ..training.models import load_model
from .scores import score_case

LAST = "last_features"
LAYOUT = 2  # of what is kept of a volume; where it changes, volumes are scored again


@dataclass(frozen=True)
class VolumeScoring:
    """How volumes are scored."""

    block_side: int
    overlap: int
    n_bins: int
    n_passes: int  # stochastic ones, of a model with dropout
    layers: tuple = ()  # whose spectra are kept, for the detectors of features
    shuffle_seed: int = 0  # or of a control: the weights in random order

    @classmethod
    def gather(cls, profile, layers=(), shuffle_seed=0):
        """Take what a `VolumeProfile` says of it."""
        blocks = profile.block_side, profile.overlap
        return cls(*blocks, profile.n_bins, profile.n_passes, tuple(layers), shuffle_seed)


class ScoreRequest(NamedTuple):
    """One set of volumes that one model is to score."""

    plan: tuple  # of the model, from `segcal_lite.training.plans`
    dropout: bool  # whether it is the plan's twin with dropout
    name: str  # of the set
    split: str | None  # None: all cases
    scoring: VolumeScoring


def score_path(out, name):
    """Where the scores of a volume lie in the folder `out`."""
    return Path(out) / f"{name}.json"


def unscored(out, names, model_folder):
    """Return those of `names` that the model as it is now has not scored: it may be made anew.

    Scores of earlier versions, which do not say whose they are, are taken for its own.
    """
    model = trained_digest(model_folder)
    paths = {name: score_path(out, name) for name in names}
    return [
        name
        for name, path in paths.items()
        if not path.exists() or read_json(path, shape=dict).get("model", model) != model
    ]


def score_volumes(model_folder, prepared_folder, names, out, scoring, device="cpu"):
    """Score cases of one set by one model; a file ``<case>.json`` each, finished ones are kept."""
    out = Path(out)

    def is_scored(name):
        return not unscored(out, [name], model_folder)

    if all(map(is_scored, names)):
        return
    model, settings = load_model(model_folder, device)
    cases = {case.name: case for case in read_prepared(prepared_folder)}
    if scoring.shuffle_seed:
        shuffle_weights(model, scoring.shuffle_seed)
    for name in each_claimed(out, names, is_scored):
        scores = score_volume(model, settings, cases[name], scoring)
        scores["model"] = trained_digest(model_folder)
        write_json(score_path(out, name), scores, sealed=True)


def score_volume(model, settings, case, scoring):
    """Return all that is kept of one case.

    Parameters
    ----------
    model : ResidualUNet
    settings : segcal_lite.training.models.BlockSettings
        Of `model`.
    case : segcal_lite.data.prepared.PreparedCase
    scoring : VolumeScoring

    Returns
    -------
    dict
        ``metrics`` by name, NaN where a score is undefined; for a model without dropout also
        by layer ``spectra`` (singular values), ``n_voxels`` (of each spectrum) and ``pooled`` (mean
        of each feature), and ``moments`` of the intensities.
    """
    whole = case.regions["whole"]
    image = np.ascontiguousarray(case.image[:, *whole])
    window = {"block_size": (scoring.block_side,) * 3, "overlap": scoring.overlap}
    if settings.dropout:
        predict = partial(predict_volume, model, image, settings.loss, **window)
        passes = stochastic_passes(model, predict, scoring.n_passes, settings.seed)
        return {"metrics": probability_metrics(case, mean_probability(passes), scoring)}
    layers = {layer: named_layer(model, layer) for layer in scoring.layers}
    spectra, totals = {}, {}

    def receive(layer, place, features):
        spectra.setdefault(layer, SpectrumSums(len(features))).update(features)
        total = features.reshape(len(features), -1).sum(axis=1, dtype=np.float64)
        totals[layer] = totals.get(layer, 0.0) + total

    probs = predict_with_features(model, layers, image, settings.loss, receive, **window)
    with np.errstate(invalid="ignore"):  # a thin volume may own no voxel of a coarse layer: NaN
        means = {layer: totals[layer] / sums.n_voxels for layer, sums in spectra.items()}
    return {
        "metrics": probability_metrics(case, probs, scoring),
        "spectra": {layer: sums.singular_values().tolist() for layer, sums in spectra.items()},
        "n_voxels": {layer: sums.n_voxels for layer, sums in spectra.items()},
        "pooled": {layer: mean.tolist() for layer, mean in means.items()},
        "moments": intensity_moments(image).tolist(),
    }


def probability_metrics(case, probs, scoring):
    """Scores by name of class probabilities (2, X, Y, Z) without padding, and of their detectors.

    Calibration is of the annotated voxels, the others counted, in the whole volume and in the box
    around the foreground. What has no foreground to look at is NaN, Dice and distances as well:
    silence where there is nothing to find is no merit.
    """
    rows = score_case(case, probs, ("organ",), scoring.n_bins).rows
    found = {(row["metric"], row["region"]): row["value"] for row in rows}
    metrics = {name: found[name, "whole"] for name in ("segment_entropy", "uncertainty")}
    confidence = probs[1][probs.argmax(axis=0) == 1]
    metrics["one_minus_max_softmax"] = float(1 - confidence.mean()) if confidence.size else np.nan
    metrics["predicted_voxels"] = confidence.size
    for name in ("dice", "hd95_mm", "assd_mm"):
        metrics[name] = found[name, "whole"] if found["n_true", "whole"] else np.nan
    for region in ("whole", "box"):
        for name in ("nll", "brier", "ece", "mce", "n_ignored"):
            metrics[f"{name}_{region}"] = found[name, region]
    return metrics


def shuffle_weights(model, seed):
    """Put the numbers of each parameter into random order: a network that has learned nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.reshape(-1)[order].view(parameter.shape))


def read_scores(out, names):
    """Return what `score_volumes` left, a dict a case in the order of `names`."""
    return [read_json(score_path(out, name), shape={"metrics": dict}) for name in names]
