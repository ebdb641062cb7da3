"""A new case, which has no label: what its predictions say, and a slice to look at."""

from functools import partial

import numpy as np

from ...data.labels import segment_probs
from ...data.predictions import grid_of_prediction
from ...data.volumes import doubts_noted, read_volume
from ...entropy import mean_foreground_uncertainty, segment_entropy, voxel_entropy
from ...report.overlays import fullest_slice
from ...runs.arrays import write_arrays
from .correction import METHODS, corrected
from .labelled_cases import made, write_or_remove
from .members import combine, facts_of, pairwise_agreement, volumes_ml

NOT_SHOWN = "the image is damaged, or does not lie where the prediction does: it is not shown"


def look_at_new_case(judging, case, correction, write):
    """Return the facts of a case without a label, or why there are none.

    `correction` is None where nothing could be fitted; `write` names the methods by which corrected
    probabilities are written.
    """
    asked = {"correction": correction and correction.to_json(), "write": write}
    return made(judging, case, "new", asked, partial(_look_at, correction=correction, write=write))


def _look_at(judging, case, correction, write):
    """Write the slices of a case; return what is known of its segments."""
    notes = []
    together, grid, is_image = _read(judging, case, notes)
    image = grid if is_image else None
    probs, predicted, segments = together.probs, together.predicted, judging.names.segments
    for method in METHODS:
        is_asked = correction and method in write
        changed = corrected(probs, correction, method) if is_asked else None
        write_or_remove(judging, case, method, changed, grid.affine)
    volumes = volumes_ml(segments, predicted, predicted, grid.spacing_mm)
    of_segments = {segment: {"predicted_ml": volume} for segment, volume in volumes.items()}
    for k, segment in enumerate(segments if probs is not None else (), start=1):
        of_segments[segment]["segment_entropy"] = segment_entropy(*segment_probs(probs, k))
    for segment, agreement in pairwise_agreement(judging, together.masks).items():
        of_segments[segment] |= agreement
    _write_slices(judging.path("new", case, ".npz"), image, grid.spacing_mm, predicted, probs)
    facts = facts_of(together, notes) | {"segments": of_segments}
    facts["notes"] += [NOT_SHOWN] * bool(case.image_paths and not is_image)
    return facts | ({} if probs is None else {"uncertainty": mean_foreground_uncertainty(probs)})


def _read(judging, case, notes):
    """Return what all members say, the grid that it lies on, and whether that is the image's.

    The image is only to be shown: one that is damaged, or lies elsewhere, takes no case away. What
    its header leaves open is added to `notes`; what the prediction's does, reading that tells.
    """
    grids = [partial(read_volume, path) for path in case.image_paths[:1]]
    grids.append(partial(grid_of_prediction, judging.members[0], case.name))
    errors = []
    for read_grid in grids:
        is_image = len(errors) < len(grids) - 1
        try:
            with doubts_noted(notes if is_image else [], "image"):
                grid = read_grid()
            return combine(judging, case, grid), grid, is_image
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def _write_slices(path, image, spacing_mm, predicted, probs):
    """Write the slice with most predicted foreground: image, prediction, entropy, pixel size."""
    is_regions = predicted.ndim == 4
    index = fullest_slice(predicted.any(axis=0) if is_regions else predicted)
    arrays = {"predicted": predicted[..., index], "spacing_mm": spacing_mm[:2]}
    if probs is not None:
        problems = np.moveaxis(probs, 1, 0) if is_regions else [probs]
        arrays["entropy"] = np.max([voxel_entropy(one[..., index]) for one in problems], axis=0)
    if image is not None:
        arrays["image"] = image.data.reshape(-1, *image.grid_shape)[0, ..., index]
    write_arrays(path, **arrays)
