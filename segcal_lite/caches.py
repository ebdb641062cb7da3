"""Prepared cases on disk, memory-mapped: written once, read by every model and notebook."""

import shutil
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ._checks import wrong_input
from .datasets import load_case
from .preprocessing import (
    Preprocessing,
    plan_preprocessing,
    prepare_image,
    prepare_label,
    prepare_probs,
    valid_box,
)
from .runs import (
    ASIDE,
    check_same_settings,
    read_json,
    read_table,
    run_lock,
    write_json,
    write_table,
    written_aside,
)
from .volumes import foreground_box, read_volume

REPORT_EVERY = 50


@dataclass(frozen=True)
class PreparedCase:
    """One case on the model's grid; arrays are memory maps, opened when asked for.

    Attributes
    ----------
    name, domain, split : str
    folder : path
    box_dilation : tuple of float and int
        Millimetres in plane and slices out of plane.
    """

    name: str
    domain: str
    split: str
    folder: Path
    box_dilation: tuple

    @property
    def image(self):
        """Intensities as the task scales them, float32, shape (C, X, Y, Z)."""
        return np.moveaxis(self._map("image"), 0, -1)

    @property
    def labels(self):
        """Classes, small integers, shape (X, Y, Z)."""
        return np.moveaxis(self._map("labels"), 0, -1)

    @property
    def posterior(self):
        """True class probabilities of a phantom, shape (K, X, Y, Z); ``None`` for real data."""
        if not (self.folder / "posterior.npy").exists():
            return None
        return np.moveaxis(self._map("posterior"), 0, -1)

    @cached_property
    def record(self):
        """The steps that led here, for `segcal_lite.preprocessing.restore_probs`."""
        return Preprocessing.from_json(read_json(self.folder / "record.json", self.folder))

    @property
    def spacing_mm(self):
        """Voxel size on the model's grid, three numbers."""
        return self.record.spacing_mm

    @cached_property
    def regions(self):
        """Slices of the scored regions: ``whole`` volume without padding, and dilated ``box``."""
        whole = valid_box(self.record)
        box = foreground_box(self.labels, self.spacing_mm, *self.box_dilation, within=whole)
        return {"whole": whole, "box": box}

    def _map(self, name):
        """Slices first on disk, so that a mini-batch reads whole pages."""
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            expected = f"a whole array; remove {self.folder} and run again"
            raise wrong_input(path, f"a damaged file ({error})", expected) from error


def prepare_dataset(dataset, task, crop_size, folder, report=print, selection=None):
    """Preprocess every case of `dataset` into `folder`, or find it done.

    Parameters
    ----------
    dataset : segcal_lite.datasets.Dataset
    task : segcal_lite.tasks.Task
    crop_size : tuple of two or three int, or None
        Of the model's grid: in plane, along all axes, or nowhere.
    folder : path
        Receives a folder a case, ``cases.csv`` and ``settings.json``. A case whose folder has its
        final name is complete and is kept.
    report : callable
        Receives lines of text: how far it is, and how many headers had to be resolved.
    selection : segcal_lite.cases.Selection, optional
        The channel and the organ that are kept of a larger dataset.

    Returns
    -------
    list of PreparedCase

    Raises
    ------
    ValueError
        If `folder` was prepared from other data or settings, or a case is wrong.
    """
    folder = Path(folder)
    settings = {
        "data": dataset.fingerprint(),
        "task": asdict(task),
        "crop_size": crop_size,
    }
    if selection is not None:
        settings["selection"] = asdict(selection)
    with run_lock(folder):
        if (folder / "settings.json").exists():
            check_same_settings(folder / "settings.json", settings)
        elif any((folder / case.name).exists() for case in dataset.cases):
            found, expected = "prepared cases without settings.json", "both; remove the folder"
            raise wrong_input(folder, found, expected)
        write_json(folder / "settings.json", settings)
        for left in folder.glob(f"{ASIDE}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        waiting = [case for case in dataset.cases if not (folder / case.name).exists()]
        with warnings.catch_warnings(record=True) as header_conflicts:
            warnings.simplefilter("always")
            for number, case in enumerate(waiting, start=1):
                _prepare_case(dataset, case, task, crop_size, folder, selection)
                if number % REPORT_EVERY == 0 or number == len(waiting):
                    report(f"prepared {number} of {len(waiting)} cases")
        if header_conflicts:  # one line for all of them, not one for each file
            first = header_conflicts[0].message
            report(f"{len(header_conflicts)} headers were resolved, the first: {first}")
        rows = [(case.name, case.domain, case.split) for case in dataset.cases]
        table = pd.DataFrame(rows, columns=["case", "domain", "split"])
        write_table(folder / "cases.csv", table, sealed=True)
    return read_prepared(folder)


def _prepare_case(dataset, case, task, crop_size, folder, selection):
    """Write the arrays of one case aside, then give their folder its name."""
    image, labels, affine = load_case(dataset, case)
    if selection is not None:
        image, labels = selection.of(image, labels, case.label_path)
    record = plan_preprocessing(labels.shape, affine, task.spacing_mm, crop_size)
    image, record = prepare_image(image, record, task.intensity_percentiles, task.intensity_rule)
    arrays = {"image": image, "labels": prepare_label(labels, record)}
    if not arrays["labels"].any():
        grid = f"voxels of {record.spacing_mm} mm, cropped to {record.prepared_shape}"
        raise wrong_input(case.label_path, f"no foreground left on {grid}", "some of every organ")
    if case.posterior_path is not None:
        arrays["posterior"] = prepare_probs(read_volume(case.posterior_path).data, record)
    with written_aside(folder / case.name) as partial:
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", np.ascontiguousarray(np.moveaxis(array, -1, 0)))
        write_json(partial / "record.json", record.to_json())


def read_prepared(folder):
    """Return the cases that `prepare_dataset` left in `folder`, as a list of `PreparedCase`."""
    folder = Path(folder)
    if not (folder / "cases.csv").exists():
        raise wrong_input(folder, "no cases.csv", "a folder written by prepare_dataset")
    task = read_json(folder / "settings.json")["task"]
    dilation = (task["box_dilation_mm"], task["box_dilation_slices"])
    table = read_table(folder / "cases.csv", sealed=True)
    return [
        PreparedCase(row.case, row.domain, row.split, folder / row.case, dilation)
        for row in table.itertuples()
    ]


@dataclass(frozen=True)
class Slices:
    """The samples of many cases, slices or volumes, as tensors on one device.

    Attributes
    ----------
    images : tensor, shape (N, C, X, Y) or (N, C, X, Y, Z)
    labels : uint8 tensor, shape (N, X, Y) or (N, X, Y, Z)
    case_index : tensor, shape (N,)
        Which case a sample is from; on the CPU.
    """

    images: torch.Tensor
    labels: torch.Tensor
    case_index: torch.Tensor


def load_slices(cases, split, device="cpu", n_dims=2):
    """Read the slices of one split to `device`, or its whole volumes.

    Parameters
    ----------
    cases : list of PreparedCase
    split : {"train", "validation", "test"}
    device : torch device
    n_dims : {2, 3}
        With 3 a sample is a volume (C, X, Y, Z), and all have one grid.

    Returns
    -------
    Slices
        Of 4 C + 1 bytes a pixel: 40 heart volumes of 10 slices at 224 x 224 take 100 MB.

    Raises
    ------
    ValueError
        If no case is in `split`.
    """
    chosen = [case for case in cases if case.split == split]
    if not chosen:
        raise wrong_input("cases", f"no case in split {split!r}", "at least one")
    if n_dims == 3:
        return Slices(
            torch.from_numpy(np.stack([case.image for case in chosen])).to(device),
            torch.from_numpy(np.stack([case.labels for case in chosen])).to(device),
            torch.arange(len(chosen)),
        )
    images = np.concatenate([np.moveaxis(case.image, -1, 0) for case in chosen])
    labels = np.concatenate([np.moveaxis(case.labels, -1, 0) for case in chosen])
    n_slices = [case.labels.shape[-1] for case in chosen]
    return Slices(
        torch.from_numpy(images).to(device),
        torch.from_numpy(labels).to(device),
        torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor(n_slices)),
    )
