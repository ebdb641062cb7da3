"""What the members say of one case: read one by one, and what is kept of all together."""

from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from ...data.labels import segment_masks
from ...data.predictions import read_prediction
from ...ensembles import mean_probability
from ...report.review import pairwise_dice
from ...scaling import log_probabilities

COUNTED = ("n_all_zero", "n_differ", "is_float16")  # of `CasePrediction.counts`


class Combined(NamedTuple):
    """What all members say of a case together."""

    probs: np.ndarray | None  # float32, (K, X, Y, Z) or (2, R, X, Y, Z); None from hard labels
    masks: list  # what each member predicts, (X, Y, Z) or (R, X, Y, Z)
    counts: list  # of each member
    notes: list

    @property
    def predicted(self):
        """The arg max of all together; of hard labels those of the first member."""
        return self.masks[0] if self.probs is None else self.probs.argmax(axis=0)


def combine(judging, case, grid, receive=None):
    """Read the members of a case one by one, hand each to `receive`, return what all say."""
    together = Combined(None, [], [], [])

    def arriving():
        for index, member in enumerate(judging.members):
            prediction = read_prediction(member, case.name, grid)
            together.masks.append(prediction.predicted)
            together.counts.append(prediction.counts)
            together.notes.extend(prediction.notes)
            if receive:
                receive(index, prediction)
            is_logits = judging.members_averaged == "logits" and prediction.probs is not None
            yield log_probabilities(prediction.probs)[0] if is_logits else prediction.probs

    if judging.members[0].form == "labels":
        list(arriving())
        return together
    mean = mean_probability(arriving())  # Eq. 6
    mean = softmax(mean, axis=0) if judging.members_averaged == "logits" else mean
    return together._replace(probs=mean.astype(np.float32))


def agreement_rows(judging, masks):
    """Rows of how much the members' segments overlap with each other, where there are several."""
    if len(masks) < 2:
        return []
    of_all = {"method": judging.uncorrected, "member": 0, "n_members": len(masks)}
    of_all["region"], rows = "whole", []
    for k, segment in enumerate(judging.names.segments, start=1):
        value = pairwise_dice([segment_masks(mask, mask, k)[1] for mask in masks])
        rows.append(of_all | {"segment": segment, "metric": "pairwise_dice", "value": value})
    return rows


def volumes_ml(segments, predicted, spacing_mm):
    """Return the volume of each segment of what is predicted, or true, by name."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    masks = (segment_masks(predicted, predicted, k)[0] for k in range(1, len(segments) + 1))
    return {s: np.count_nonzero(mask) * voxel_ml for s, mask in zip(segments, masks, strict=True)}


def facts_of(together, grid):
    """What is kept of reading a case: counts and notes of its members, and the size of its grid."""
    counts = {name: [of.get(name, 0) for of in together.counts] for name in COUNTED}
    notes = list(dict.fromkeys(together.notes))
    return {"counts": counts, "notes": notes, "n_voxels": int(np.prod(grid.grid_shape))}
