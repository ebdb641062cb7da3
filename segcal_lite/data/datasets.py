"""Datasets in the common layout: which cases a folder holds, how they are split, what task.

The layout is nnU-Net's raw one; a dataset in it runs without conversion::

    dataset.json                  channel_names, labels, file_ending, numTraining
    imagesTr/<case>_0000.nii.gz   one file a channel (or MSD's <case>.nii.gz with all of them)
    labelsTr/<case>.nii.gz
    cases.csv                     optional: case, domain, split, patient; it decides which cases
    imagesTs, labelsTs            optional: further cases, where cases.csv names them
    posteriorsTr/<case>.nii.gz    phantoms only: true class probabilities, classes along axis 4

``dataset`` in ``dataset.json`` may list the files of each case, as in nnU-Net. Without a column
``split`` the patients are split by a seed; without ``patient`` each case is its own patient;
without ``domain`` there is one. Where splits are drawn, cases of the same image count as one
patient. What was decided so is logged and kept in `Dataset.notes`.
"""

import logging
import warnings
from dataclasses import fields

import numpy as np

from .._checks import check_choice, is_file, wrong_input
from ..runs.folders import without_dots
from .cases import Case, Dataset, check_case, load_case, select_cases
from .grids import median_spacing
from .labels import LabelNames, survey
from .layouts import FOLDERS, TEST_FOLDERS, Description, is_for_tests, read_layout
from .other_formats import PICTURES
from .splits import (
    DEFAULT_COUNTS,
    SPLITS,
    check_name,
    check_splits,
    check_unique,
    keep_together,
    same_images,
    split_by_patient,
)
from .tasks import TASKS, Task
from .volumes import read_label, read_volume

__all__ = ["Case", "Dataset", "check_case", "load_case", "read_dataset", "task_of"]

logger = logging.getLogger("segcal_lite")


def read_dataset(
    folder, task=None, seed=0, split=None, problems=None, leave_out=None, keeps_splits=True
):
    """Find the cases of a folder and split them by patient.

    ``cases.csv`` decides which cases there are, else the list in ``dataset.json``, else the files.
    Without ``dataset.json``, channels and segments are those of `task`, or else come from the file
    names and the values in the labels; only then are volumes opened.

    Parameters
    ----------
    folder : str or Path
        In the common layout.
    task : str or Task, optional
        A name in `tasks.TASKS`, or a task of one's own; the data must have as many channels and
        segments.
    seed : int
        Of the split, where ``cases.csv`` assigns none.
    split : tuple of three int, optional
        Patients, or proportions, for training, validation and test, scaled by
        `splits.split_counts`; default the task's, else `splits.DEFAULT_COUNTS`.
    problems : dict, optional
        Receives for each case whose files are not all there why it is left out; without it the
        first such case is an error.
    leave_out : list of str, optional
        Cases to go on without, as if they were not there: splits are drawn among the others.
    keeps_splits : bool
        Whether splits of ``cases.csv`` are to be used; who replaces them needs no whole ones.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        Naming the file or field: a missing folder, file, channel or label, a malformed
        ``dataset.json`` or ``cases.csv``, ``numTraining`` that counts other cases than there are, a
        name in `leave_out` that no case has, a task that does not fit, a split without patients, a
        patient in two splits, or `split` where ``cases.csv`` already assigns one.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from segcal_lite.data.volumes import write_volume
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for value, name in enumerate(("a", "b", "c"), start=1):
    ...         for subfolder, file in (("imagesTr", f"{name}_0000"), ("labelsTr", name)):
    ...             path = Path(folder) / subfolder / f"{file}.nii.gz"
    ...             path.parent.mkdir(exist_ok=True)
    ...             write_volume(path, np.full((4, 4, 2), value, dtype=np.uint8), np.eye(4))
    ...     dataset = read_dataset(folder, task="prostate")
    >>> len(dataset.cases), dataset.segments, dataset.notes[0]
    (3, ('prostate',), 'no dataset.json: channels T2 and segments prostate come from task prostate')
    """
    folder = without_dots(folder)  # as the paths that dataset.json lists
    if not folder.is_dir():
        raise wrong_input(folder, "no such folder", "a dataset with imagesTr and labelsTr")
    task = None if task is None else _get_task(task)
    given, file_ending, images, labels = read_layout(folder)
    rows, notes = select_cases(folder, given, images, labels, leave_out)
    names = [check_name(f"{folder}, case", row["case"]) for row in rows]
    check_unique(f"{folder}, cases", names)
    files = [(images.get(name, {}), labels.get(name)) for name in names]
    strict = problems is None
    description, class_notes = _describe(folder, given, files, file_ending, task, strict)
    paths = [sorted(images.values()) for images, _ in files]
    rows, same_notes = keep_together(rows, same_images(dict(zip(names, paths, strict=True))))
    splits, split_notes = _assign_splits(rows, task, seed, split, keeps_splits)
    cases = []
    for row, pair, split_name in zip(rows, files, splits, strict=True):
        try:
            cases.append(_make_case(folder, row, *pair, split_name, description))
        except ValueError as error:
            if problems is None:
                raise
            problems[row["case"]] = str(error)
    name, notes = folder.resolve().name, (*notes, *class_notes, *same_notes, *split_notes)
    for note in notes:
        logger.info("%s: %s", name, note)
    labels = {field.name: getattr(description, field.name) for field in fields(LabelNames)}
    of_folder = {"folder": folder, "name": name, "channels": description.channels}
    return Dataset(**labels, **of_folder, cases=tuple(cases), notes=notes)


def _get_task(task):
    """Return a `Task`, by name or as it is."""
    return task if isinstance(task, Task) else TASKS[check_choice("task", task, tuple(TASKS))]


def _check_task(task, data):
    """Raise unless counts and regions agree; return a note for each kind of name that differs."""
    if (task.regions, task.region_order) != (data.regions, data.region_order):
        found = f"regions {data.segments}" if data.regions else "classes that exclude each other"
        expected = "the regions of the task; without a task they come from the data"
        raise wrong_input(f"task {task.name}", f"{found} in the data", expected)
    notes = []
    for kind in ("channels", "segments"):
        ours, theirs = getattr(data, kind), getattr(task, kind)
        if len(ours) != len(theirs):
            found = f"{len(ours)} {kind} in the data {ours}"
            raise wrong_input(f"task {task.name}", found, f"{len(theirs)} {theirs}")
        if ours != theirs:
            names = f"{', '.join(ours)} stand for {', '.join(theirs)}"
            notes.append(f"{kind} {names} of task {task.name}")
    return notes


def _class_notes(description):
    """Return what becomes of stored values that are not the classes 0, 1, 2, ... themselves."""
    values, notes = description.label_values, []
    if values != tuple(range(len(values))):
        notes.append(f"label values {list(values)} become classes 0 to {len(values) - 1}")
    for name, region in zip(description.segments, description.regions, strict=False):
        stored = [str(values[k]) for k in region]
        notes.append(f"segment {name} is the region of label values {', '.join(stored)}")
    if description.ignore_value is not None:
        left_out = "is left out of losses, scores and boxes"
        notes.append(f"label value {description.ignore_value}, ignore, {left_out}")
    return notes


def _describe(folder, given, files, file_ending, task, strict):
    """Return what ``dataset.json`` says, or else task or files, and notes on it."""
    description = given or _derive_description(folder, files, file_ending, task, strict)
    notes = [] if task is None else _check_task(task, description)
    if given is None:
        origin = "the files" if task is None else f"task {task.name}"
        channels, segments = ", ".join(description.channels), ", ".join(description.segments)
        both = f"channels {channels} and segments {segments}"
        notes.insert(0, f"no dataset.json: {both} come from {origin}")
    return description, notes + _class_notes(description)


def _derive_description(folder, files, file_ending, task, strict):
    """Return channels and segments of a folder without ``dataset.json``.

    Volumes that cannot be read are passed over if not `strict`.
    """
    if task is not None:
        values = tuple(range(task.n_classes))
        of_files = {"channels": task.channels, "file_ending": file_ending}
        return Description(task.segments, values, **of_files)
    numbers = {number for images, _ in files for number in images}
    if None in numbers or (numbers == {0} and file_ending in PICTURES):
        paths = [images[n] for images, _ in files for n in (None, 0) if n in images]
        data = next(_voxels(read_volume, paths, strict), None)
        data = read_volume(paths[0]).data if data is None else data
        numbers = range(data.shape[0] if data.ndim == 4 else 1)
    values = {0}
    paths = [path for _, path in files if path]
    for data in _voxels(read_label, paths, strict):
        values.update(np.unique(data).tolist())
    if values == {0}:
        for _ in _voxels(read_label, paths, strict=True):  # tells why one could not be read
            pass
        raise wrong_input(folder / "labelsTr", "only 0", "values of at least one segment")
    values = tuple(sorted(values))
    channels = tuple(f"channel {number}" for number in range(len(numbers)))
    segments = tuple(f"label {v}" for v in values[1:])
    return Description(segments, values, channels=channels, file_ending=file_ending)


def _voxels(read, paths, strict):
    """Yield the arrays of volumes; what is wrong with one is told when its case is read."""
    for path in paths:
        try:
            with warnings.catch_warnings(action="ignore"):
                yield read(path).data
        except ValueError:
            if strict:
                raise


def _assign_splits(rows, task, seed, split, keeps_splits):
    """Return the split of each row and a note if it was drawn."""
    patients = [row.get("patient", row["case"]) for row in rows]
    if "split" in rows[0]:
        if split is not None:
            raise wrong_input("split", split, "None, because cases.csv assigns the splits")
        splits = [row["split"] for row in rows]
        if keeps_splits:
            check_splits(splits, patients)
        return splits, []
    if split is None:
        split = DEFAULT_COUNTS if task is None else task.split
    split_of = split_by_patient(patients, split, seed)
    counts = ", ".join(f"{list(split_of.values()).count(name)} {name}" for name in SPLITS)
    note = f"no split in cases.csv: seed {seed} drew {counts} patients for {tuple(split)}"
    if len({row.get("domain") for row in rows}) > 1:
        note += ", domains mixed"
    return [split_of[patient] for patient in patients], [note]


def _make_case(folder, row, images, label_path, split, description):
    """Return a `Case` after checking that its files are there."""
    name, n_channels = row["case"], len(description.channels)
    file_name = name + description.file_ending
    below = (TEST_FOLDERS if is_for_tests(label_path) else FOLDERS)[0]
    where = folder / ("dataset.json" if description.files else below)
    if label_path is None:
        raise wrong_input(folder / "labelsTr" / file_name, "no such file", f"the label of {name}")
    is_picture = description.file_ending in PICTURES  # its colours are channels of one file
    if set(images) not in ({None}, set(range(n_channels)), {0} if is_picture else None):
        numbers = ", ".join("all in one" if n is None else f"{n:04d}" for n in images)
        expected = f"{n_channels}, from 0000 on: {', '.join(description.channels)}"
        raise wrong_input(f"{where}, {name}", f"channels {numbers or 'none'}", expected)
    for path in (*images.values(), label_path):
        if not is_file(path):
            raise wrong_input(path, "no such file", f"a volume of {name}")
    beside = label_path.parent if label_path.parent.name else folder / ".." / "labelsTr"
    posterior_path = beside.with_name("posteriorsTr") / label_path.name
    return Case(
        name=name,
        image_paths=tuple(images[number] for number in sorted(images)),
        label_path=label_path,
        domain=row.get("domain", "source"),
        split=split,
        posterior_path=posterior_path if is_file(posterior_path) else None,
        patient=row.get("patient", name),
    )


def task_of(dataset, task=None, extents=None):
    """Return the task that a dataset poses, or `task`, by name or as it is, if the data fit it.

    Without `task`: voxel size in plane the median over cases of each of the first two axes, rounded
    to 0.0001 mm, because slices are cut along the last axis, whose voxel size is kept; Dice weights
    all 1; `split` the patients there are. `extents` are `labels.survey`'s, if they are at hand.
    Other numbers of channels or segments, or other regions, are a ``ValueError``.
    """
    if task is not None:
        task = _get_task(task)
        for note in _check_task(task, dataset):
            logger.info("%s: %s", dataset.name, note)
        return task
    extents = extents or survey(dataset)
    in_plane_mm = median_spacing(extents)[:2]
    patients = [{c.patient for c in dataset.cases if c.split == name} for name in SPLITS]
    return Task(
        name=dataset.name,
        channels=dataset.channels,
        segments=dataset.segments,
        spacing_mm=(*in_plane_mm, None),
        dice_weights=(1.0,) * len(dataset.segments),
        split=tuple(map(len, patients)),
        regions=dataset.regions,
        region_order=dataset.region_order,
    )
