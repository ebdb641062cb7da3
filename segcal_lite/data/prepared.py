"""Prepared cases on disk, memory-mapped: written once, read by every model and notebook."""

import warnings
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from .._checks import wrong_input
from ..runs.claims import claimed
from ..runs.folders import (
    check_same_settings,
    read_json,
    remove_partial,
    write_json,
    written_aside,
)
from ..runs.tables import check_columns, read_table, write_table
from .cases import load_case
from .grids import check_cut, lost_segments, read_grid, settle_grid, write_grid
from .labels import region_labels, region_probs, segment_masks, segment_values
from .preprocessing import (
    Preprocessing,
    crop_label,
    plan_preprocessing,
    prepare_image,
    prepare_probs,
    resample_label,
    undo_crop,
    valid_box,
)
from .volumes import doubt_lines, foreground_box, read_volume

REPORT_EVERY = 10
FIELDS = ("name", "domain", "split", "patient")  # of a case that ``cases.csv`` has
COLUMNS = ["case", *FIELDS[1:]]
LAYOUT = 2  # of a prepared folder; changes when older ones cannot be read as they are


@dataclass(frozen=True)
class PreparedCase:
    """One case on the model's grid; arrays are memory maps, opened when asked for.

    Attributes
    ----------
    name, domain, split : str
    folder : path
    box_dilation : tuple of float and int
        Millimetres in plane and slices out of plane.
    patient : str
        Of whom there may be other cases: the unit that is resampled.
    overlapping : tuple of tuple of int
        The regions of a `segcal_lite.data.tasks.Task`, where segments may overlap.
    """

    name: str
    domain: str
    split: str
    folder: Path
    box_dilation: tuple
    patient: str
    overlapping: tuple = ()

    @property
    def image(self):
        """Intensities as the task scales them, float32, shape (C, X, Y, Z)."""
        return self._map("image")

    @property
    def labels(self):
        """Classes, small integers, `IGNORED` where nobody annotated, shape (X, Y, Z)."""
        return self._map("labels")

    @property
    def targets(self):
        """What networks are trained for and judged by: the labels, or (R, X, Y, Z) of regions."""
        return self._targets_of(np.asarray(self.labels))

    def _targets_of(self, labels):
        """Binary labels of the regions where they overlap."""
        return region_labels(labels, self.overlapping) if self.overlapping else labels

    def mask(self, k):
        """Where segment `k`, from 1 on, is true: bool, shape (X, Y, Z)."""
        targets = self.targets
        return segment_masks(targets, targets, k)[0]

    @property
    def posterior(self):
        """True probabilities of a phantom, (K, X, Y, Z) or (2, R, X, Y, Z); else ``None``."""
        if not (self.folder / "posterior.npy").exists():
            return None
        probs = self._map("posterior")
        return region_probs(probs, self.overlapping) if self.overlapping else probs

    @cached_property
    def record(self):
        """The steps that led here, for `segcal_lite.data.preprocessing.restore_probs`."""
        return Preprocessing.from_json(read_json(self.folder / "record.json", self.folder))

    @property
    def spacing_mm(self):
        """Voxel size on the model's grid, three numbers."""
        return self.record.spacing_mm

    @property
    def whole(self):
        """Three slices: the region without padding, which every network sees."""
        return valid_box(self.record)

    @cached_property
    def regions(self):
        """Slices of the scored regions: ``whole`` volume without padding, and dilated ``box``.

        The box of a case without foreground holds no voxel: its scores are missing (NaN), and
        counted as that.
        """
        whole, foreground = self.whole, self.targets > 0
        if self.overlapping:
            foreground = foreground.any(axis=0)
        if not foreground[whole].any():
            return {"whole": whole, "box": (slice(0, 0),) * 3}
        box = foreground_box(foreground, self.spacing_mm, *self.box_dilation, within=whole)
        return {"whole": whole, "box": box}

    @property
    def patient_labels(self):
        """Classes of the patient, on the grid before the crop, without padding."""
        if (self.folder / "uncropped_labels.npy").exists():
            return np.asarray(self._map("uncropped_labels"))
        return self.on_patient(np.asarray(self.labels[self.whole]))

    @property
    def patient_targets(self):
        """`targets` of `patient_labels`: Dice and distances are of the patient, not of the crop."""
        return self._targets_of(self.patient_labels)

    def on_patient(self, predicted):
        """Return what was predicted on the region ``whole`` on the grid of `patient_labels`."""
        is_whole = predicted.shape[-3:] == tuple(self.record.resampled_shape)
        return predicted if is_whole else undo_crop(predicted, self.record)

    def n_cut_away(self, n_segments):
        """Return how many voxels of each segment the crop cut away, shape (n_segments,)."""
        kept = self.on_patient(self.targets[(..., *self.whole)])
        both = (segment_masks(self.patient_targets, kept, k + 1) for k in range(n_segments))
        return np.array([np.count_nonzero(true) - np.count_nonzero(seen) for true, seen in both])

    def _map(self, name):
        """Slices are first on disk, so that a mini-batch reads whole pages, and last here."""
        path = self.folder / f"{name}.npy"
        try:
            return np.moveaxis(np.load(path, mmap_mode="r"), 0, -1)
        except (ValueError, EOFError) as error:
            expected = f"a whole array; remove {self.folder} and run again"
            raise wrong_input(path, f"a damaged file ({error})", expected) from error


def prepare_dataset(dataset, task, crop_size, folder, report=print, selection=None, grid=None):
    """Preprocess every case of `dataset` into `folder`, or find it done.

    Parameters
    ----------
    dataset : segcal_lite.data.datasets.Dataset
    task : segcal_lite.data.tasks.Task
    crop_size : tuple of two or three int, or None
        Of the model's grid: in plane, along all axes, or nowhere.
    folder : path
        Receives a folder a case, ``cases.csv``, ``cut.csv``, ``grid.json`` and ``settings.json``.
        A case whose folder has its final name is complete and is kept.
    report : callable
        Receives lines of text: how far it is, and at each opening what the crop cuts away, how many
        headers had to be resolved, and how many cases hold no foreground.
    selection : segcal_lite.data.cases.Selection, optional
        The channel and the organ that are kept of a larger dataset.
    grid : segcal_lite.data.grids.Grid, optional
        By default that of `segcal_lite.data.grids.settle_grid`, checked, or what `folder` stores.

    Returns
    -------
    list of PreparedCase

    Raises
    ------
    ValueError
        If `folder` was prepared from other data or settings, a case is wrong, none holds any
        foreground, or the crop cuts away too much (`segcal_lite.data.grids.check_cut`).
    """
    folder = Path(folder)
    settings = {"layout": LAYOUT, "data": dataset.fingerprint()}
    settings |= {"task": asdict(task), "crop_size": crop_size}
    if selection is not None:
        settings["selection"] = asdict(selection)
    with claimed(folder):
        if (folder / "settings.json").exists():
            check_same_settings(folder / "settings.json", settings)
            grid = read_grid(folder)
        elif any((folder / case.name).exists() for case in dataset.cases):
            found, expected = "prepared cases without settings.json", "both; remove the folder"
            raise wrong_input(folder, found, expected)
        else:
            if grid is None:
                grid = settle_grid(dataset, task, crop_size, selection)
                check_cut(grid, f"{dataset.name}, crop_size {crop_size}")
            write_grid(folder, grid)
            write_json(folder / "settings.json", settings)
        for note in grid.notes:
            report(note)
        remove_partial(folder)
        waiting = [case for case in dataset.cases if not (folder / case.name).exists()]
        for number, case in enumerate(waiting, start=1):
            _prepare_case(dataset, case, task, crop_size, folder, selection, grid.slice_axis)
            if number % REPORT_EVERY == 0 or number == len(waiting):
                report(f"prepared {number} of {len(waiting)} cases")
        if waiting or not (folder / "cases.csv").exists():
            rows = [[getattr(case, name) for name in FIELDS] for case in dataset.cases]
            cases = _cases(folder, rows)
            found = _notes(dataset, cases, grid.cut, list(segment_values(dataset, selection)))
            for note in (note for note in found if note not in grid.notes):
                report(note)
            write_grid(folder, replace(grid, notes=tuple(dict.fromkeys((*grid.notes, *found)))))
            write_table(folder / "cases.csv", pd.DataFrame(rows, columns=COLUMNS), sealed=True)
    return read_prepared(folder, dataset)


def _notes(dataset, cases, cut, segments):
    """Lines on all prepared cases, in however many attempts: headers, and foreground that is not.

    Refuses cases of which none holds any foreground.
    """
    files = (case.folder / "doubts.json" for case in cases)  # earlier versions kept none
    doubts = [doubt for file in files if file.exists() for doubt in read_json(file, shape=list)]
    n_empty = sum(not (case.labels > 0).any() for case in cases)
    if n_empty == len(cases):
        raise wrong_input(dataset.folder, f"no foreground in {n_empty} cases", "some in one")
    empty = [f"{n_empty} of {len(cases)} cases hold no foreground"] if n_empty else []
    return [*doubt_lines(doubts), *empty, *lost_segments(cases, cut, segments)]


def _prepare_case(dataset, case, task, crop_size, folder, selection, slice_axis):
    """Write the arrays of one case aside, then give their folder its name."""
    with warnings.catch_warnings(record=True, action="always") as doubts:  # about headers
        image, labels, affine = load_case(dataset, case)
    if selection is not None:
        image, labels = selection.of(image, labels)
    record = plan_preprocessing(labels.shape, affine, task.spacing_mm, crop_size, slice_axis)
    if 1 in record.turned_shape and (crop_size is None or len(crop_size) == 3):
        raise wrong_input(case.label_path, "one slice", "a volume for a 3D network")
    image, record = prepare_image(image, record, task.intensity_percentiles, task.intensity_rule)
    uncropped = resample_label(labels, record)
    arrays = {"image": image, "labels": crop_label(uncropped, record)}
    if np.count_nonzero(uncropped > 0) > np.count_nonzero(arrays["labels"] > 0):
        arrays["uncropped_labels"] = uncropped
    if (labels > 0).any() and not (uncropped > 0).any():
        grid = f"voxels of {record.spacing_mm} mm"
        raise wrong_input(case.label_path, f"no foreground left on {grid}", "some of every organ")
    if case.posterior_path is not None:
        posterior = read_volume(case.posterior_path).data
        if selection is not None:
            posterior = region_probs(posterior, (selection.classes,))[:, 0]
        arrays["posterior"] = prepare_probs(posterior, record)
    with written_aside(folder / case.name) as partial:
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", np.ascontiguousarray(np.moveaxis(array, -1, 0)))
        write_json(partial / "record.json", record.to_json())
        write_json(partial / "doubts.json", [str(doubt.message) for doubt in doubts])


def read_prepared(folder, dataset=None):
    """Return the cases that `prepare_dataset` left in `folder`, as a list of `PreparedCase`.

    Tables of earlier versions have no patients: those of `dataset`, if given, else a case is one.
    """
    folder = Path(folder)
    if not (folder / "cases.csv").exists():
        raise wrong_input(folder, "no cases.csv", "a folder written by prepare_dataset")
    table = read_table(folder / "cases.csv", sealed=True)
    check_columns(folder / "cases.csv", table, texts=COLUMNS[:-1])
    if "patient" not in table:
        patient_of = {case.name: case.patient for case in dataset.cases} if dataset else {}
        table["patient"] = [patient_of.get(name, name) for name in table.case]
    return _cases(folder, table[COLUMNS].itertuples(index=False))


def of_split(cases, split, what="cases"):
    """Return the cases of one split, at least one; `what` is named where there is none."""
    chosen = [case for case in cases if case.split == split]
    if not chosen:
        raise wrong_input(what, f"no case in split {split!r}", "at least one")
    return chosen


def _cases(folder, rows):
    """Return the `PreparedCase` of each row of `FIELDS`."""
    task = read_json(folder / "settings.json", shape={"task": dict})["task"]
    dilation = (task["box_dilation_mm"], task["box_dilation_slices"])
    overlapping = tuple(map(tuple, task.get("regions", ())))
    return [
        PreparedCase(name, domain, split, folder / name, dilation, patient, overlapping)
        for name, domain, split, patient in rows
    ]
