"""What a run of a dataset comes to: its task, its profile and its grid, before all else."""

from dataclasses import replace

from ..data.datasets import task_of
from ..data.grids import fit_to_crop, settle_grid
from ..data.labels import survey
from .profiles import get_profile, task_for_profile

MOST_STEPS = 400  # of a training in the smoke profile, twice as many as phantoms take


def settle(dataset, task=None, profile="smoke", extents=None, cut_foreground=False, **scale):
    """Return task, profile and grid of a dataset; `extents` are from `survey`, if at hand.

    Voxels become so large that the crop holds the foreground of training and validation cases.
    Those of a named task stay as the paper has them where the crop cuts away next to nothing, and
    always in the paper's profile; with `cut_foreground` all stay.
    """
    extents = extents or survey(dataset)
    known = task_for_profile(task_of(dataset, task, extents), profile)
    settled = get_profile(profile, known, **scale)
    crop = settled.crop_size
    grid = settle_grid(dataset, known, crop, extents=extents)
    as_the_paper = task is not None and (profile == "paper" or not grid.cuts_much)
    if not cut_foreground and not as_the_paper:
        known, notes = fit_to_crop(known, crop, extents, grid.slice_axis)
        grid = settle_grid(dataset, known, crop, extents=extents)
        grid = replace(grid, notes=(*notes, *grid.notes))
    if profile == "smoke" and scale.get("n_epochs") is None:
        settled, notes = _within_steps(settled, extents, grid.slice_axis)
        grid = replace(grid, notes=(*grid.notes, *notes))
    return known, settled, grid


def _within_steps(profile, extents, slice_axis):
    """Take as few epochs as `MOST_STEPS` mini-batches allow, one at least; say so in a note."""
    of_slices = len(profile.crop_size) == 2
    training = [extent for extent in extents if extent.case.split == "train"]
    n_samples = sum(extent.n_slices(slice_axis) if of_slices else 1 for extent in training)
    steps = max(1, n_samples // profile.batch_size)
    n_epochs = min(profile.n_epochs, max(1, MOST_STEPS // steps))
    if n_epochs == profile.n_epochs:
        return profile, []
    note = f"{n_epochs} of the {profile.name} profile's {profile.n_epochs} epochs, for an epoch of "
    note += f"these data has {steps} steps; n_epochs asks for more"
    return replace(profile, n_epochs=n_epochs), [note]
