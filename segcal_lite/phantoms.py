"""Synthetic cases whose true label probabilities are known, written in the common layout.

A true shape is drawn (`anatomies`), an annotator labels it with displaced boundaries
(`annotators`), and a picture of it is taken (`pictures`). A second domain shows shapes and labels
of the same kind with another look. The saved posterior belongs to the label's rule at the middle
of each slice; the picture shows the average over the slice's thickness, as scanners do.
"""

from functools import partial
from numbers import Real

import numpy as np

from ._checks import check_count, wrong_input
from .anatomies import draw_anatomy
from .looks import SHIFTED, SOURCE, mixed_look
from .phantom_cases import draw_phantom
from .phantom_files import write_phantom_dataset

PHANTOM_TASKS = ("brain", "heart", "prostate")  # those whose anatomy can be drawn, also as NAME_3d
MODEL_VERSION = 1  # raised when the same settings would give other cases
SLICE_THICKNESS_MM = {"heart": 8.0, "prostate": 3.6}  # where the task leaves it open
GROUPS = (("source", "train"), ("source", "validation"), ("source", "test"), ("shifted", "test"))


def make_phantom(task, seed, shift_strength=0.0, size=(64, 64), n_slices=8):
    """Draw one case.

    Shape, annotation and picture have random streams of their own: the shape depends on the seed
    alone, the labels also on the grid, and only the picture on `shift_strength`.

    Parameters
    ----------
    task : Task
        ``TASKS["brain"]``, ``["heart"]`` or ``["prostate"]``.
    seed : int or sequence of int
        At least 0.
    shift_strength : float
        From 0, the source domain, to 1, the shifted one; looks are interpolated between.
    size : tuple of two int
        Voxels in plane. More of them show more of the surroundings.
    n_slices : int
        8 mm (heart), 3.6 mm (prostate) or 2 mm (brain) thick.

    Returns
    -------
    Phantom

    Raises
    ------
    ValueError
        For a task without a phantom, a strength outside [0, 1], a count below 1, a negative seed.

    Examples
    --------
    >>> from segcal_lite.data.tasks import TASKS
    >>> heart = make_phantom(TASKS["heart"], seed=0)
    >>> heart.image.shape, heart.posterior.shape, np.unique(heart.labels).tolist()
    ((1, 64, 64, 8), (4, 64, 64, 8), [0, 1, 2, 3])
    """
    spacing_mm, shape = _check_grid(task, seed, shift_strength, size, n_slices)
    name = _anatomy_of(task)
    look = mixed_look(SOURCE[name], SHIFTED[name], shift_strength)
    patient = partial(draw_anatomy, name)
    return draw_phantom(patient, look, seed, shape, spacing_mm, shift_strength)


def _anatomy_of(task):
    """Return the anatomy that a task shows: of prostate and prostate_3d the same."""
    return task.name.removesuffix("_3d")


def _check_grid(task, seed, shift_strength, size, n_slices):
    """Return voxel size and shape of the grid, or say what is wrong."""
    if _anatomy_of(task) not in SOURCE:
        raise wrong_input("task", repr(task.name), "one of " + ", ".join(map(repr, SOURCE)))
    for entry in np.atleast_1d(np.asarray(seed, dtype=object)):
        check_count("seed", entry, minimum=0)
    if not (isinstance(shift_strength, Real) and 0 <= shift_strength <= 1):
        raise wrong_input("shift_strength", repr(shift_strength), "a number from 0 to 1")
    if len(size) != 2:
        raise wrong_input("size", size, "two numbers of voxels")
    shape = (*(check_count("size", n) for n in size), check_count("n_slices", n_slices))
    *in_plane_mm, thickness_mm = task.spacing_mm
    return (*in_plane_mm, thickness_mm or SLICE_THICKNESS_MM[task.name]), shape


def write_phantoms(
    folder,
    task,
    n_train=16,
    n_validation=6,
    n_test=16,
    n_shifted=16,
    size=(64, 64),
    n_slices=8,
    seed=0,
    shift_strength=1.0,
):
    """Write a dataset of phantoms in nnU-Net's raw layout, with posteriors and ``cases.csv``.

    It appears under its name whole or not at all. Case i of a group is the same whatever the
    number of cases, and the shifted cases keep shapes and labels at every strength.

    Parameters
    ----------
    folder : str or Path
        Of the dataset. One that holds the same phantoms is left untouched.
    task, size, n_slices, shift_strength
        As in `make_phantom`; the strength is that of the shifted cases.
    n_train, n_validation, n_test, n_shifted : int
        Cases of the source domain by split; test cases of the shifted domain. The first three are
        at least 1.
    seed : int
        Of the whole dataset.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the folder holds something else, or phantoms of other settings (named), or as
        `make_phantom`.

    Examples
    --------
    >>> import tempfile
    >>> from segcal_lite.data.tasks import TASKS
    >>> folder = write_phantoms(tempfile.mkdtemp(), TASKS["heart"], 1, 1, 1, 0, size=(16, 16))
    >>> sorted(path.name for path in folder.iterdir())
    ['cases.csv', 'dataset.json', 'imagesTr', 'labelsTr', 'posteriorsTr']
    """
    minima = {"n_train": 1, "n_validation": 1, "n_test": 1, "n_shifted": 0}
    counts = (n_train, n_validation, n_test, n_shifted)
    settings = {
        "model_version": MODEL_VERSION,
        "task": task.name,
        **{k: check_count(k, n, minima[k]) for k, n in zip(minima, counts, strict=True)},
        "seed": check_count("seed", seed, minimum=0),
        "shift_strength": shift_strength,
    }
    settings["spacing_mm"], (*settings["size"], settings["n_slices"]) = _check_grid(
        task, seed, shift_strength, size, n_slices
    )
    return write_phantom_dataset(folder, task, settings, lambda: _draw_cases(task, settings))


def _draw_cases(task, settings):
    """Yield domain, split and phantom of each case; case i of a group depends on i alone."""
    counts = [settings[name] for name in ("n_train", "n_validation", "n_test", "n_shifted")]
    for group, ((domain, split), n_cases) in enumerate(zip(GROUPS, counts, strict=True)):
        strength = settings["shift_strength"] if domain == "shifted" else 0.0
        for index in range(n_cases):
            seed = (settings["seed"], group, index)
            size, n_slices = settings["size"], settings["n_slices"]
            yield domain, split, make_phantom(task, seed, strength, size, n_slices)
