"""What the members say of one case: read one by one, and what is kept of all together."""

from typing import NamedTuple

import numpy as np

from ...data.labels import segment_masks
from ...data.predictions import read_prediction
from ...ensembles import mean_probability
from ...inference import softmax
from ...report.review import pairwise_dice
from ...scaling import log_probabilities

COUNTED = ("n_all_zero", "n_differ", "is_float16", "is_one_hot")  # of `CasePrediction.counts`


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
    together, kind = Combined(None, [], [], []), _kind_of(grid, case)

    def arriving():
        for index, member in enumerate(judging.members):
            prediction = read_prediction(member, case.name, grid, kind)
            together.masks.append(prediction.predicted)
            together.counts.append(prediction.counts)
            together.notes.extend(prediction.notes)
            if receive:
                receive(index, prediction)
            is_logits = judging.members_averaged == "logits" and prediction.probs is not None
            yield log_probabilities(prediction.probs)[0] if is_logits else prediction.probs

    if not judging.has_probabilities:
        list(arriving())
        return together
    mean = mean_probability(arriving())  # Eq. 6
    mean = softmax(mean) if judging.members_averaged == "logits" else mean
    return together._replace(probs=mean.astype(np.float32))


def _kind_of(grid, case):
    """What a grid is of, in words."""
    if case.label_path is not None:
        return "label"
    return "image" if grid.path in case.image_paths else "first member"


def pairwise_agreement(judging, masks):
    """Return, by segment, how much the members' masks overlap with each other, if several.

    NaN where no member finds the segment: empty masks are the same, but no reason to trust.
    """
    if len(masks) < 2:
        return {}
    pairs = {}
    for k, segment in enumerate(judging.names.segments, start=1):
        of_segment = [segment_masks(mask, mask, k)[1] for mask in masks]
        is_found = any(mask.any() for mask in of_segment)
        pairs[segment] = {"pairwise_dice": pairwise_dice(of_segment) if is_found else np.nan}
    return pairs


def volumes_ml(segments, targets, predicted, spacing_mm):
    """Return the predicted volume of each segment among the annotated voxels, by name."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    masks = (segment_masks(targets, predicted, k)[1] for k in range(1, len(segments) + 1))
    return {s: np.count_nonzero(mask) * voxel_ml for s, mask in zip(segments, masks, strict=True)}


def facts_of(together, notes=()):
    """What is kept of reading a case: counts of its members, and notes, first those before them."""
    counts = {name: [of.get(name, 0) for of in together.counts] for name in COUNTED}
    notes = list(dict.fromkeys([*notes, *together.notes]))
    return {"counts": counts, "notes": notes}
