"""Phantoms on disk: a dataset in the common layout that is there whole or not at all."""

import json
from pathlib import Path

from ._checks import wrong_input
from .data.volumes import write_volume
from .runs.folders import as_json_values, read_json, written_aside


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
