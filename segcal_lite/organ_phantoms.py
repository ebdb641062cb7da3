"""Phantoms of the sets of paper B: one organ each, all on one grid, the posterior known."""

from functools import partial
from zlib import crc32

from ._checks import check_choice, check_count, wrong_input
from .data.splits import split_counts
from .looks import mixed_look
from .organ_anatomies import draw_organ
from .organ_looks import ORGAN_LOOKS
from .phantom_cases import draw_phantom
from .phantom_files import write_phantom_dataset

MODEL_VERSION = 1  # raised when the same settings would give other cases
SPLIT_NAMES = ("train", "validation", "test")


def make_organ_phantom(name, seed, side=42, spacing_mm=2.5, towards=None, strength=0.0):
    """Draw one volume of a set.

    Shape, annotation and picture have random streams of their own, so that with `towards` the
    same patient is seen in a look between two sets.

    Parameters
    ----------
    name : str
        A key of `organ_looks.ORGAN_LOOKS`.
    seed : int or sequence of int
        At least 0.
    side : int
        Voxels along each axis.
    spacing_mm : float
        Voxel size along each axis. Organs are drawn for a field of view of about 105 mm.
    towards : str, optional
        Another set of the same tissues, such as another MR sequence of the liver.
    strength : float
        From 0, the look of `name`, to 1, that of `towards`.

    Returns
    -------
    Phantom
        Of one channel and two classes; CT in HU.

    Raises
    ------
    ValueError
        For an unknown set, a strength outside [0, 1], or sets that have not the same tissues.

    Examples
    --------
    >>> liver = make_organ_phantom("liver_ct", seed=0)
    >>> liver.image.shape, liver.posterior.shape
    ((1, 42, 42, 42), (2, 42, 42, 42))
    """
    shape = (check_count("side", side),) * 3
    spacing_mm = (float(spacing_mm),) * 3
    check_choice("set", name, tuple(ORGAN_LOOKS))
    look = _look_between(name, towards, strength)
    return draw_phantom(partial(draw_organ, name), look, seed, shape, spacing_mm)


def _look_between(name, towards, strength):
    """Return the look of a set, or one between two."""
    if not 0 <= strength <= 1:
        raise wrong_input("strength", strength, "a number from 0 to 1")
    look = ORGAN_LOOKS[name]
    if towards is None:
        return look
    other = ORGAN_LOOKS[check_choice("towards", towards, tuple(ORGAN_LOOKS))]
    if set(other.tissues) != set(look.tissues):
        raise wrong_input("towards", repr(towards), f"a set that shows the tissues of {name!r}")
    return mixed_look(look, other, strength)


def write_organ_phantoms(
    folder, task, n_images, side=42, spacing_mm=2.5, seed=0, towards=None, strength=0.0
):
    """Write one set as a dataset in nnU-Net's raw layout, split as `task` says.

    Parameters
    ----------
    folder : str or Path
        Of the dataset. One that holds the same phantoms is left untouched.
    task : Task
        From `organ_sets`; its name is the set's.
    n_images : int
        In all; case i is the same whatever their number.
    side, spacing_mm, towards, strength
        As in `make_organ_phantom`.
    seed : int
        Of the whole set.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the folder holds something else, or phantoms of other settings (named), or as
        `make_organ_phantom`.

    Examples
    --------
    >>> import tempfile
    >>> from segcal_lite.data.tasks import ORGAN_SETS
    >>> task = ORGAN_SETS["atrium"].task("atrium", (10.0, 10.0, 10.0))
    >>> folder = write_organ_phantoms(tempfile.mkdtemp(), task, 3, side=8, spacing_mm=10.0)
    >>> len(list((folder / "imagesTr").iterdir()))
    3
    """
    settings = {
        "model_version": MODEL_VERSION,
        "set": task.name,
        "n_images": check_count("n_images", n_images, minimum=3),
        "side": side,
        "spacing_mm": spacing_mm,
        "seed": check_count("seed", seed, minimum=0),
        "towards": towards,
        "strength": strength,
    }
    counts = split_counts(task.split, n_images)
    splits = [name for name, n in zip(SPLIT_NAMES, counts, strict=True) for _ in range(n)]

    def draw_cases():
        for index, split in enumerate(splits):
            seeds = (seed, crc32(task.name.encode()), index)
            image = make_organ_phantom(task.name, seeds, side, spacing_mm, towards, strength)
            yield "source", split, image

    return write_phantom_dataset(folder, task, settings, draw_cases)
