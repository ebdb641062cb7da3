"""What a dataset is, a tuple of cases, and the checked arrays of one case."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ._checks import check_choice, check_finite, wrong_input
from .same_images import file_digest
from .splits import SPLITS
from .volumes import check_same_grid, read_label, read_volume


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


@dataclass(frozen=True)
class Dataset:
    """The cases of one folder.

    Attributes
    ----------
    folder : Path
    name : str
        The folder's.
    channels, segments : tuple of str
    cases : tuple of Case
        By name.
    label_values : tuple of int
        Value in the files of each class: class k of the arrays is stored as ``label_values[k]``.
    notes : tuple of str
        What was derived, left out, renumbered or drawn by the seed, for people to read.
    regions, region_order : tuple
        As in `segcal_lite.tasks.Task`; empty where classes exclude each other.
    ignore_value : int or None
        Stored value of voxels that nobody annotated; they become `_checks.IGNORED`.
    """

    folder: Path
    name: str
    channels: tuple
    segments: tuple
    cases: tuple
    label_values: tuple
    notes: tuple = ()
    regions: tuple = ()
    region_order: tuple = ()
    ignore_value: int | None = None

    @property
    def domains(self):
        """Names of the domains, sorted."""
        return tuple(sorted({case.domain for case in self.cases}))

    def of(self, split=None, domain=None):
        """Return the cases of a split and a domain; ``None`` takes all.

        Raises
        ------
        ValueError
            If there is no such split, domain, or case in both.
        """
        if split is not None:
            check_choice("split", split, SPLITS)
        if domain is not None:
            check_choice("domain", domain, self.domains)
        chosen = tuple(
            case
            for case in self.cases
            if split in (None, case.split) and domain in (None, case.domain)
        )
        if not chosen:
            found = f"no case with split {split!r} and domain {domain!r}"
            raise wrong_input(self.folder, found, "at least one")
        return chosen

    def fingerprint(self):
        """Return 16 hexadecimal digits that change with any file, name, class, domain or split.

        Where the folder lies does not matter.
        """
        facts = [self.channels, self.segments, self.label_values]
        for case in self.cases:
            facts.append([case.name, case.patient, case.domain, case.split])
            for path in filter(None, (*case.image_paths, case.label_path, case.posterior_path)):
                name = path.relative_to(self.folder).as_posix()
                facts.append([name, path.stat().st_size, file_digest(path)])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Selection:
    """One channel and one organ of a dataset that has more; several classes make one organ.

    Attributes
    ----------
    channel : int
    classes : tuple of int
        Classes 1 to K - 1 that are merged to foreground; all others become background.
    """

    channel: int
    classes: tuple

    def of(self, image, labels, path):
        """Return the image (1, X, Y, Z) and labels 0 and 1; `path` is named where none is 1.

        Examples
        --------
        >>> image, labels = np.zeros((3, 2, 2, 2)), np.arange(8).reshape(2, 2, 2)
        >>> image, labels = Selection(2, (1, 4)).of(image, labels, "a.nii.gz")
        >>> image.shape, labels.ravel().tolist()
        ((1, 2, 2, 2), [0, 1, 0, 0, 1, 0, 0, 0])
        """
        merged = np.isin(labels, self.classes).astype(np.int16)
        if not merged.any():
            raise wrong_input(path, f"no voxel of the classes {self.classes}", "at least one")
        return image[self.channel][np.newaxis], merged


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
        Classes 0 to K - 1, renumbered by `Dataset.label_values`.
    affine : ndarray (4, 4), float64
        From voxel indices to mm.

    Raises
    ------
    ValueError
        Naming the file: unreadable or truncated, NaN or infinite voxels, another number of
        channels, image and label on different grids, a single slice, a value that is no label of
        the dataset, or no voxel of any segment.
    """
    volumes = [read_volume(path) for path in case.image_paths]
    label = read_label(case.label_path)
    for volume in volumes:
        check_same_grid(volume, label)
    n_channels = sum(len(v.data) if v.data.ndim == 4 else 1 for v in volumes)
    if n_channels != len(dataset.channels):
        expected = f"{len(dataset.channels)}: {', '.join(dataset.channels)}"
        raise wrong_input(case.image_paths[0], f"{n_channels} channels", expected)
    if label.grid_shape[-1] < 2:
        raise wrong_input(case.label_path, "1 slice", "at least 2 along the last axis")
    unknown = np.unique(label.data[~np.isin(label.data, dataset.label_values)]).tolist()
    if unknown:
        expected = f"only {list(dataset.label_values)}"
        raise wrong_input(case.label_path, f"label values {unknown}", expected)
    if not label.data.any():
        raise wrong_input(case.label_path, "no voxel of any segment", "at least one")
    image = np.concatenate([v.data.reshape(-1, *v.grid_shape) for v in volumes], dtype=np.float32)
    labels = np.searchsorted(dataset.label_values, label.data).astype(np.int16)
    return check_finite(case.image_paths[0], image), labels, volumes[0].affine


def check_case(dataset, case):
    """Raise what `load_case` would raise; for looking at a whole dataset before it is used."""
    load_case(dataset, case)
