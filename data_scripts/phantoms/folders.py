"""From the word ``phantoms`` to folders of cases: how many and how large, by profile."""

from dataclasses import dataclass
from pathlib import Path

from segcal_lite._checks import check_choice
from segcal_lite.data.tasks import ORGAN_SETS, TASKS
from segcal_lite.experiments.profiles import get_profile, task_for_profile
from segcal_lite.runs.folders import resolve_path
from segcal_lite.runs.processes import count_workers
from segcal_lite.runs.schedules import run_in_order

from .write import write_organ_phantoms, write_phantoms

PHANTOMS = "phantoms"  # what notebooks call them, and their folder in a run
DEFAULT_TASK = "heart"
PHANTOM_TASKS = ("brain", "heart", "prostate", "prostate_3d")  # whose anatomy can be drawn


@dataclass(frozen=True)
class Amount:
    """How many phantoms a profile draws, and on which grid.

    Attributes
    ----------
    n_patients : tuple of four int
        For training, validation, test, and test in the shifted domain.
    n_slices : int
        Of a patient, where the networks see slices.
    most_images : int
        Of one of paper B's sets: as many as B has, at most so many.
    side, spacing_mm : int, float
        Grid of all of paper B's sets.
    """

    n_patients: tuple
    n_slices: int
    most_images: int
    side: int
    spacing_mm: float


AMOUNTS = {
    "smoke": Amount((16, 6, 16, 16), 8, most_images=14, side=28, spacing_mm=3.75),
    "laptop": Amount((40, 10, 50, 50), 10, most_images=40, side=56, spacing_mm=1.875),
    "paper": Amount((40, 10, 50, 50), 10, most_images=400, side=104, spacing_mm=1.0),
}


def dataset_folder(data, task, out, profile="smoke", seed=0, crop_size=None):
    """Return what to open as `data`: for ``"phantoms"`` the folder of them, written when missing.

    Parameters
    ----------
    data : path or "phantoms"
        A path is returned as it is, with its task.
    task : str, optional
        Of phantoms brain, heart (their default), prostate or prostate_3d.
    out : path
        Run folder; its phantoms lie in ``phantoms``.
    profile, seed, crop_size
        As in `segcal_lite.experiments.open_experiment`: phantoms fill the networks' input.

    Returns
    -------
    data : path
    task : str or None

    Raises
    ------
    ValueError
        For a task without phantoms, a wrong profile or size, or a folder of other phantoms.

    Examples
    --------
    >>> dataset_folder("data/ACDC", "heart", "runs/acdc")
    ('data/ACDC', 'heart')
    """
    if str(data) != PHANTOMS:
        return data, task
    task = check_choice("task", task or DEFAULT_TASK, PHANTOM_TASKS)
    folder = resolve_path(out) / PHANTOMS
    return write_patients(folder, task, profile, seed, crop_size), task


def write_patients(
    folder, task, profile="smoke", seed=0, crop_size=None, shift_strength=1.0, n_patients=None
):
    """Write the phantoms of a task in as many cases as a profile has, or find them in `folder`.

    Parameters
    ----------
    folder : path
    task : str
    profile, seed, crop_size
        As in `dataset_folder`.
    shift_strength : float
        Of the shifted domain, from 0 to 1.
    n_patients : tuple of four int, optional
        As in `Amount`; default as the profile says.

    Returns
    -------
    Path
    """
    known = task_for_profile(TASKS[task], profile)
    crop_size = get_profile(profile, known, crop_size=crop_size).crop_size
    amount = AMOUNTS[profile]
    return write_phantoms(
        folder,
        known,
        *(n_patients or amount.n_patients),
        size=crop_size[:2],
        n_slices=(*crop_size, amount.n_slices)[2],
        seed=seed,
        shift_strength=shift_strength,
    )


def sets_folder(sets, names, out, profile="smoke", seed=0):
    """Return what to open as sets: for ``"phantoms"`` their folder, those of `names` written.

    Parameters
    ----------
    sets : path or "phantoms"
        A path is returned as it is.
    names : iterable of str
        Keys of `segcal_lite.data.tasks.ORGAN_SETS`: the sets of paper B that are needed.
    out, profile, seed
        As in `dataset_folder`.

    Returns
    -------
    path

    Raises
    ------
    ValueError
        For an unknown set or profile, or a folder of other phantoms.
    """
    if str(sets) != PHANTOMS:
        return sets
    return write_sets(resolve_path(out) / PHANTOMS, names, profile, seed)


def write_sets(folder, names, profile="smoke", seed=0, n_images=None):
    """Write some of paper B's sets side by side, each in a folder of its name; see `write_set`."""
    jobs = {}
    for name in names:
        check_choice("set", name, tuple(ORGAN_SETS))
        jobs[name] = write_set, folder / name, name, profile, seed, n_images
    n_missing = sum(not (folder / name).exists() for name in jobs)
    run_in_order(jobs, n_workers=count_workers(n_missing))
    return folder


def write_set(folder, name, profile="smoke", seed=0, n_images=None, **look):
    """Write the phantoms of one of paper B's sets as a profile has them, or find them.

    Parameters
    ----------
    folder : path
    name : str
    profile, seed
        As in `dataset_folder`.
    n_images : int, optional
        Default as many as paper B has, but no more than the profile's `Amount`.
    **look
        ``towards`` and ``strength`` of `write_organ_phantoms`.

    Returns
    -------
    Path
    """
    amount = AMOUNTS[check_choice("profile", profile, tuple(AMOUNTS))]
    organ = ORGAN_SETS[name]
    task = organ.task(name, (amount.spacing_mm,) * 3)
    if n_images is None:
        n_images = min(organ.n_images, amount.most_images)
    grid = amount.side, amount.spacing_mm
    return write_organ_phantoms(Path(folder), task, n_images, *grid, seed, **look)
