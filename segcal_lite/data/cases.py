"""What a dataset is, which cases are chosen or left out by name, and the arrays of one case."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._checks import (
    IGNORED,
    check_finite,
    composed,
    named,
    shown,
    told_if_unreadable,
    wrong_input,
)
from ..runs.folders import file_digest, text_digest
from .labels import LabelNames
from .layouts import is_for_tests, passed_over, read_layout, unread_files
from .other_formats import companion_files
from .splits import read_case_table
from .volumes import LABEL_SHIFT, LARGEST_LABEL, check_same_grid, read_label, read_volume


@dataclass(frozen=True)
class Case:
    """One image with its label: files and place in the split.

    Attributes
    ----------
    name : str
    image_paths : tuple of Path
        One a channel, or a single 4D file.
    label_path : Path
    domain : str
    split : {"train", "validation", "test"}
    posterior_path : Path or None
    patient : str
    """

    name: str
    image_paths: tuple
    label_path: Path
    domain: str
    split: str
    posterior_path: Path | None
    patient: str


@dataclass(frozen=True, kw_only=True)
class Dataset(LabelNames):
    """The cases of one folder.

    Attributes
    ----------
    folder : Path
    name : str
        The folder's.
    channels : tuple of str
    cases : tuple of Case
        By name.
    notes : tuple of str
        What was derived, left out, renumbered or drawn by the seed, for people to read.
    segments, label_values, regions, region_order, ignore_value
        As in `segcal_lite.data.labels.LabelNames`: class k of the arrays is stored as
        ``label_values[k]``, and what nobody annotated becomes `_checks.IGNORED`.
    """

    folder: Path
    name: str
    channels: tuple
    cases: tuple
    notes: tuple = ()

    @property
    def domains(self):
        """Names of the domains, sorted."""
        return tuple(sorted({case.domain for case in self.cases}))

    def fingerprint(self):
        """Return 16 hexadecimal digits that change with any file, name, class, domain or split.

        Where the folder lies does not matter; a file outside of it counts by its name.
        """
        facts = [self.channels, self.segments, self.label_values]
        facts += [self.regions, self.region_order, self.ignore_value]
        for case in self.cases:
            facts.append([case.name, case.patient, case.domain, case.split])
            for path in filter(None, (*case.image_paths, case.label_path, case.posterior_path)):
                is_inside = path.is_relative_to(self.folder)
                name = path.relative_to(self.folder).as_posix() if is_inside else path.name
                name = composed(name)
                for file in (path, *companion_files(path)):
                    with told_if_unreadable(file):
                        facts.append([name, file.stat().st_size, file_digest(file)])
        return text_digest(json.dumps(facts), 16)


@dataclass(frozen=True)
class Selection:
    """One channel and one organ of a dataset that has more; several classes make one organ."""

    channel: int
    classes: tuple  # merged to foreground; all others but `IGNORED` become background

    def of(self, image, labels):
        """Return the image (1, X, Y, Z) and labels 0 and 1; where the organ is absent, all 0.

        Examples
        --------
        >>> image, labels = np.zeros((3, 2, 2, 2)), np.arange(-1, 7).reshape(2, 2, 2)
        >>> image, labels = Selection(2, (1, 4)).of(image, labels)
        >>> image.shape, labels.ravel().tolist()
        ((1, 2, 2, 2), [-1, 0, 1, 0, 0, 1, 0, 0])
        """
        merged = np.where(labels == IGNORED, IGNORED, np.isin(labels, self.classes))
        return image[self.channel][np.newaxis], merged.astype(np.int16)


def load_case(dataset, case):
    """Read and check the arrays of one case.

    Parameters
    ----------
    dataset : Dataset
        Knows the channels and label values to expect.
    case : Case
        One of its cases.

    Returns
    -------
    image : ndarray (C, X, Y, Z), float32
        As stored, not normalised.
    labels : ndarray (X, Y, Z), int16
        Classes 0 to K - 1, renumbered by `Dataset.label_values`; `_checks.IGNORED` where nobody
        annotated. All background is a label like any other: the image shows no lesion.
    affine : ndarray (4, 4), float64
        From voxel indices to mm.

    Raises
    ------
    ValueError
        Naming the file: unreadable or truncated, NaN or infinite voxels, another number of
        channels, image and label on different grids, a value that is no label of the dataset, or
        no voxel that somebody annotated.

    Warns
    -----
    UserWarning
        What headers left open, and a label moved by less than half a voxel: the image's affine is
        in force.
    """
    volumes = [read_volume(path) for path in case.image_paths]
    label = read_label(case.label_path)
    check_same_grid(volumes[0], label, LABEL_SHIFT)
    for volume in volumes[1:]:
        check_same_grid(volumes[0], volume)
    n_channels = sum(len(v.data) if v.data.ndim == 4 else 1 for v in volumes)
    if n_channels != len(dataset.channels):
        expected = f"{len(dataset.channels)}: {', '.join(dataset.channels)}"
        raise wrong_input(case.image_paths[0], f"{n_channels} channels", expected)
    labels = label_classes(dataset, label)
    image = np.concatenate([v.data.reshape(-1, *v.grid_shape) for v in volumes], dtype=np.float32)
    return check_finite(case.image_paths[0], image), labels, volumes[0].affine


def label_classes(dataset, label):
    """Return the class of each voxel of a label map, int16, `IGNORED` where nobody annotated.

    `dataset` knows the label values, as a `labels.LabelNames` does; `label` is of `read_label`.
    """
    values, unknown = list(dataset.label_values), IGNORED - 1
    class_of = np.full(LARGEST_LABEL + 1, unknown, dtype=np.int16)
    class_of[values] = range(len(values))
    if dataset.ignore_value is not None:
        class_of[dataset.ignore_value] = IGNORED
    labels = class_of[label.data]
    lowest = labels.min()
    if lowest == IGNORED == labels.max():
        raise wrong_input(label.path, f"{dataset.ignore_value} (ignore) only", f"some of {values}")
    if lowest == unknown:
        found = f"label values {shown(np.unique(label.data[labels == unknown]).tolist())}"
        raise wrong_input(label.path, found, f"only {shown(values)}")
    return labels


def check_case(dataset, case):
    """Return how many voxels are foreground, ignored, and there, or raise as `load_case`."""
    _, labels, _ = load_case(dataset, case)
    return int((labels > 0).sum()), int((labels == IGNORED).sum()), labels.size


def case_names(folder):
    """Return the names of the cases in use, sorted, before any is left out."""
    description, _, images, labels = read_layout(Path(folder))
    rows, _ = select_cases(Path(folder), description, images, labels)
    return [row["case"] for row in rows]


def select_cases(folder, description, images, labels, leave_out=None):
    """Choose the cases: by ``cases.csv``, else by the list in ``dataset.json``, else all.

    Takes what `layouts.read_layout` returns of `folder`; returns rows by name, as
    `splits.read_case_table` does, and notes on cases, files and announced numbers that do not
    agree. Where ``numTraining`` counts other cases than there are, and no list says which are
    meant, that is a ``ValueError``, as is no case, or none of a name in `leave_out`.
    """
    on_disk, notes = set(images) | set(labels), []
    rows, source = read_case_table(folder / "cases.csv"), "cases.csv"
    listed = description and description.training
    is_listed = bool(rows or listed)
    if rows is None:
        rows, source = [{"case": name} for name in listed or on_disk], "dataset.json"
    if not rows:
        raise wrong_input(folder, "no volume in imagesTr and labelsTr", "at least one case")
    unread = unread_files(folder, images, labels)
    if description and description.n_announced is not None:
        of_training = [name for name in on_disk if not is_for_tests(labels.get(name))]
        n_found = len(listed or of_training)
        notes += _compare_counts(folder, description.n_announced, n_found, is_listed, unread)
    unnamed = on_disk - {row["case"] for row in rows}
    if unnamed:
        notes.append(f"{source} does not name, so left out: {named(unnamed)}")
    if unread:
        notes.append(f"files that belong to no case, not read: {named(unread)}")
    notes += passed_over(folder, labels)
    rows, left_out = _leave_out(folder, rows, check_leave_out(leave_out))
    return sorted(rows, key=lambda row: row["case"]), notes + left_out


def _leave_out(folder, rows, names):
    """Return the rows without those of `names`, and a note that says so."""
    known = {row["case"] for row in rows}
    unknown = set(names) - known
    if unknown:
        raise wrong_input("leave_out", named(unknown), f"cases of {folder}: {named(known)}")
    if len(names) == len(rows):
        raise wrong_input("leave_out", f"all cases of {folder}", "at least one that stays")
    kept = [row for row in rows if row["case"] not in names]
    return kept, [f"left out by name: {named(names)}"] if names else []


def _compare_counts(folder, n_announced, n_found, is_listed, unread):
    """Return a note where ``numTraining`` is wrong; raise where nothing else says which cases."""
    if n_announced == n_found:
        return []
    if is_listed:
        return [f"numTraining in dataset.json announces {n_announced} cases, found {n_found}"]
    found = f"{n_announced} announced and {n_found} in imagesTr and labelsTr"
    found += f" (not read: {named(unread)})" if unread else ""
    expected = "one number; add what is missing, correct it, or name the cases in cases.csv"
    raise wrong_input(folder / "dataset.json, numTraining", found, expected)


def check_leave_out(leave_out):
    """Return the names in `leave_out`, sorted; ``None`` is none.

    Examples
    --------
    >>> check_leave_out(["b", "a"]), check_leave_out(None)
    (['a', 'b'], [])
    >>> check_leave_out([2])
    Traceback (most recent call last):
    ValueError: leave_out: found [2], expected a list of names, each as text: ['a', '002'].
    """
    names = [] if leave_out is None else leave_out
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        expected = "a list of names, each as text: ['a', '002']"
        raise wrong_input("leave_out", repr(leave_out), expected)
    return sorted(set(map(composed, names)))
