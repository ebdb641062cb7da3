"""Phantoms on disk: a dataset in the common layout that is there whole or not at all.

Patients of paper A's tasks come in two domains: the second shows shapes and labels of the same
kind in another look. Paper B's sets have one organ each, all on one grid.
"""

import json
from pathlib import Path
from zlib import crc32

from segcal_lite._checks import check_count, wrong_input
from segcal_lite.data.splits import SPLITS, split_counts
from segcal_lite.data.volumes import write_volume
from segcal_lite.runs.folders import as_json_values, read_json, written_aside

from .draw import _check_grid, make_organ_phantom, make_phantom

MODEL_VERSION = 1  # raised when the same settings would give other cases
GROUPS = (("source", "train"), ("source", "validation"), ("source", "test"), ("shifted", "test"))


def write_phantom_dataset(folder, task, settings, draw_cases):
    """Write a dataset of phantoms in nnU-Net's raw layout, with posteriors and ``cases.csv``.

    Parameters
    ----------
    folder : str or Path
        Of the dataset. One that holds phantoms of the same settings is left untouched.
    task : Task
        Its name, channels and segments.
    settings : dict
        All that decides the cases; kept in ``dataset.json``.
    draw_cases : callable
        Returns an iterable of (domain, split, `Phantom`); called only when there is nothing yet.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the folder holds something else, or phantoms of other settings (named).
    """
    folder, settings = Path(folder), as_json_values(settings)
    if _holds_phantoms(folder, settings):
        return folder
    try:
        with written_aside(folder) as partial:
            _write_dataset(partial, task, settings, draw_cases())
            if folder.is_dir():
                folder.rmdir()  # an empty one, as _holds_phantoms has seen
    except OSError:
        if not _holds_phantoms(folder, settings):  # another process may have been faster
            raise
    return folder


def _holds_phantoms(folder, settings):
    """Tell whether `folder` holds these phantoms; anything else in it is refused."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    path = folder / "dataset.json"
    stored = read_json(path).get("phantom") if path.is_file() else None
    if stored is None:
        raise wrong_input(folder, "something else than phantoms", "a new or an empty folder")
    different = [name for name in settings if stored.get(name) != settings[name]]
    if different:
        found = ", ".join(f"{name} = {stored.get(name)!r}" for name in different)
        expected = ", ".join(f"{name} = {settings[name]!r}" for name in different)
        raise wrong_input(folder, f"phantoms with {found}", f"{expected}; choose another folder")
    return True


def _write_dataset(folder, task, settings, cases):
    """Write all cases and, when they are there, the files that describe them."""
    for name in ("imagesTr", "labelsTr", "posteriorsTr"):
        (folder / name).mkdir(parents=True)
    rows = ["case,domain,split"]
    for domain, split, phantom in cases:
        case = f"{task.name}_{len(rows):03d}"
        _write_case(folder, case, phantom)
        rows.append(f"{case},{domain},{split}")
    description = {
        "channel_names": {str(i): name for i, name in enumerate(task.channels)},
        "labels": {name: k for k, name in enumerate(("background", *task.segments))},
        "file_ending": ".nii.gz",
        "numTraining": len(rows) - 1,
        "phantom": settings,
    }
    (folder / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(description, indent=1), encoding="utf-8")


def _write_case(folder, case, phantom):
    """Write one case: a file a channel, one of labels, one of probabilities."""
    for number, channel in enumerate(phantom.image):
        path = folder / "imagesTr" / f"{case}_{number:04d}.nii.gz"
        write_volume(path, channel, phantom.affine)
    write_volume(folder / "labelsTr" / f"{case}.nii.gz", phantom.labels, phantom.affine)
    write_volume(folder / "posteriorsTr" / f"{case}.nii.gz", phantom.posterior, phantom.affine)


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


def write_organ_phantoms(
    folder, task, n_images, side=42, spacing_mm=2.5, seed=0, towards=None, strength=0.0
):
    """Write one set as a dataset in nnU-Net's raw layout, split as `task` says.

    Parameters
    ----------
    folder : str or Path
        Of the dataset. One that holds the same phantoms is left untouched.
    task : Task
        Of an `OrganSet`; its name is the set's.
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
    splits = [name for name, n in zip(SPLITS, counts, strict=True) for _ in range(n)]

    def draw_cases():
        for index, split in enumerate(splits):
            seeds = (seed, crc32(task.name.encode()), index)
            image = make_organ_phantom(task.name, seeds, side, spacing_mm, towards, strength)
            yield "source", split, image

    return write_phantom_dataset(folder, task, settings, draw_cases)
