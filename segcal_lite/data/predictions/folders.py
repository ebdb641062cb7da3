"""What a folder of predictions holds: its form, its cases, and the order of its classes."""

import re
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib

from ..._checks import composed, is_file, named, told_if_unreadable, wrong_input
from ...runs.folders import read_json
from .. import other_formats
from ..labels import LabelNames, read_label_names
from ..layouts import FILE_ENDINGS, read_fields
from ..nifti import UNREADABLE
from ..volumes import fractions, read_volume

KEYS = {"probabilities": "nnunet", "softmax": "nnunet_v1"}  # of arrays in npz, and their forms
CLASS_FILE = re.compile(r"(.+)_class[_-]?([0-9]{1,4})")
ARRAYS = {"nnunet": ".npz", "nnunet_v1": ".npz", "numpy": ".npy"}
EXPECTED = "case.npz of nnU-Net, case.npy, or volumes: 4D, one a class (case_class1), hard labels"


@dataclass(frozen=True)
class PredictionFolder:
    """The predictions of one model, or of one member of an ensemble.

    Attributes
    ----------
    path : Path
    form : {"nnunet", "nnunet_v1", "nifti_4d", "nifti_classes", "numpy", "labels"}
        ``case.npz`` with the key ``probabilities`` (nnU-Net v2) or ``softmax`` (v1), axes K, Z, Y,
        X; one 4D NIfTI file a case (of one segment also 3D), or one volume a class; ``case.npy``,
        axes K, X, Y, Z; hard labels alone.
    cases : tuple of str
        Sorted. A case of which some file is missing is among them: reading it says which.
    names : LabelNames
        What is predicted, in the folder's own order and values.
    order : tuple of int
        Where each class of the labels (background first), or each region, stands in `names`.
    added_to : tuple of tuple of int
        Where classes are predicted and the labels have regions: the classes that each region is the
        union of, so that its probability is the sum of theirs. Else empty.
    reader : str or None
        nnU-Net's reader, as ``plans.json`` names it.
    volumes : dict
        File of each volume in the folder, by its name without ending.
    arrays : dict
        File of each npz or npy likewise; endings may be in capitals.
    is_one_hot : bool
        Whether a channel a class holds hard labels: it is for who has read all cases to say so,
        since a network may be certain everywhere in one.
    """

    path: Path
    form: str
    cases: tuple
    names: LabelNames
    order: tuple
    added_to: tuple
    reader: str | None
    volumes: dict
    arrays: dict
    is_one_hot: bool = False

    @property
    def has_probabilities(self):
        """Whether it says how sure the model is."""
        return self.form != "labels" and not self.is_one_hot

    @property
    def channels(self):
        """Names of the classes with the background, or of the regions."""
        return (*(() if self.names.regions else ("background",)), *self.names.segments)

    @property
    def n_channels(self):
        """Length of the class axis; one channel of two classes is that of the foreground."""
        return len(self.channels)

    def array_path(self, case):
        """Path of the probabilities of `case`, where they are no volume; it may be missing."""
        return self.arrays.get(case, self.path / f"{case}{ARRAYS[self.form]}")

    def class_paths(self, case):
        """Paths of the classes of `case` in order; that of the background may be missing."""
        last = len(self.names.segments)
        matches = ((CLASS_FILE.fullmatch(stem), file) for stem, file in self.volumes.items())
        pairs = [(int(match[2]), file) for match, file in matches if match and match[1] == case]
        found = dict(pairs)
        twice = next((k for k, file in pairs if found[k] != file), None)
        if twice is not None:
            both = " and ".join(file.name for k, file in pairs if k == twice)
            raise wrong_input(f"{self.path}, {case}", both, f"one volume of class {twice}")
        if found.keys() | {0} != set(range(last + 1)):
            numbers = ", ".join(map(str, sorted(found)))
            expected = f"classes 1 to {last}: {', '.join(self.names.segments)}"
            raise wrong_input(f"{self.path}, {case}", f"volumes of class {numbers}", expected)
        has_background = 0 in found and not self.names.regions
        return [found[k] for k in range(0 if has_background else 1, last + 1)]

    def only(self, case):
        """The same folder with the files of one case, which is what a worker needs."""
        volumes = {stem: path for stem, path in self.volumes.items() if stem.startswith(case)}
        arrays = {stem: path for stem, path in self.arrays.items() if stem == case}
        cases = (case,) * (case in self.cases)
        return replace(self, cases=cases, volumes=volumes, arrays=arrays)

    def files_of(self, case):
        """Paths of the files that `case` is read from, as far as they are there."""
        if self.form == "nifti_classes":
            return self.class_paths(case)
        array = [self.array_path(case)] if self.form in ARRAYS else []
        return [path for path in (*array, self.volumes.get(case)) if path and path.exists()]


def open_predictions(path, names, known=()):
    """Find out what a folder of predictions holds.

    Voxels are read only where 3D volumes may be labels or probabilities: of one segment.

    Parameters
    ----------
    path : str or Path
        All files of one form (see `PredictionFolder`). Beside arrays a segmentation
        ``case.nii.gz`` gives the geometry, and a check of the order of voxels. ``dataset.json``,
        which nnU-Net leaves there, may have the classes in another order than the labels.
    names : segcal_lite.data.labels.LabelNames
        Of the labels.
    known : collection of str
        Names of cases, as far as they are known: ``a_class1`` among them is no class of ``a``.

    Returns
    -------
    PredictionFolder

    Raises
    ------
    ValueError
        No such folder, no prediction in it, files of several forms, or a ``dataset.json`` whose
        classes are not those of the labels.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "a.npy", np.full((2, 4, 4, 3), 0.5, dtype=np.float32))
    >>> found = open_predictions(folder, LabelNames(("liver",), (0, 1)))
    >>> found.form, found.cases, found.n_channels
    ('numpy', ('a',), 2)
    """
    path = Path(path)
    if not path.is_dir():
        raise wrong_input(path, "no such folder", "a folder of predictions")
    described = path / "dataset.json"
    fields = read_fields(described) if is_file(described) else {}
    own = _label_names(names)
    if "labels" in fields:
        order = fields.get("regions_class_order")
        own = _label_names(read_label_names(described, fields["labels"], order))
    with told_if_unreadable(path):
        files = [f for f in sorted(path.iterdir()) if f.is_file() and not f.name.startswith(".")]
    volumes = _volumes(path, files, fields.get("file_ending"))
    form, cases, found = _form_and_cases(path, files, volumes, own, set(known))
    plans = path / "plans.json"
    reader = read_json(plans, shape=dict).get("image_reader_writer") if is_file(plans) else None
    added_to = () if own.regions else names.regions
    order, cases = _order(path, own, names), tuple(sorted(cases))
    return PredictionFolder(path, form, cases, own, order, added_to, reader, volumes, found)


def _label_names(names):
    """Return the names alone; a prediction never says that a voxel is to be ignored."""
    fields = (names.segments, names.label_values, names.regions, names.region_order)
    return LabelNames(*fields, ignore_value=None)


def _order(path, own, names):
    """Return where each class or region of the labels stands among the folder's own."""
    what = path / "dataset.json, labels"
    if own.regions and not names.regions:
        expected = "classes that exclude each other, as the labels have them"
        raise wrong_input(what, "regions that may overlap", expected)
    if names.regions and not own.regions:  # by value: regions do not name the classes
        if own.label_values != names.label_values:
            expected = f"{list(names.label_values)}, of which the labels' regions are made"
            raise wrong_input(what, f"values {list(own.label_values)}", expected)
        return tuple(range(len(own.label_values)))
    if set(own.segments) != set(names.segments):
        expected = f"{', '.join(names.segments)}, in any order, as the labels have them"
        raise wrong_input(what, ", ".join(own.segments), expected)
    order = tuple(map(own.segments.index, names.segments))
    return order if names.regions else (0, *(k + 1 for k in order))


def _volumes(path, files, announced):
    """Return the volumes by name without ending: of the announced ending, if there is any."""
    found = {ending: _by_stem(files, ending) for ending in FILE_ENDINGS}
    if found.get(str(announced).lower()):
        return found[announced.lower()]
    present = [ending for ending, volumes in found.items() if volumes]
    endings = [ending for ending in present if ending not in other_formats.PICTURES] or present
    if len(endings) > 1:
        raise wrong_input(path, f"volumes {' and '.join(endings)}", "all of one ending")
    return found[endings[0]] if endings else {}


def _by_stem(files, ending):
    """Return the files of an ending, in small or capital letters, by their names without it."""
    found = {}
    for file in files:
        if file.name.lower().endswith(ending):
            stem = composed(file.name[: -len(ending)])
            if stem in found:
                second = f"a second {stem} beside {found[stem].name}"
                raise wrong_input(file, second, "one of each name")
            found[stem] = file
    return found


def _form_and_cases(path, files, volumes, names, known):
    """Return the one form that all files have, the names of the cases, and the arrays."""
    npz, npy = (_by_stem(files, ending) for ending in (".npz", ".npy"))
    parts = _class_volumes(volumes, len(names.segments), known)
    kinds = {".npz": npz, ".npy": npy, "one volume a class": parts}
    present = [kind for kind, found in kinds.items() if found]
    if len(present) > 1:
        raise wrong_input(path, " and ".join(present), "predictions of one form")
    others = volumes.keys() - parts.keys()
    if npz:
        return _npz_form(path, npz.values()), others | npz.keys(), npz
    if npy:
        return "numpy", others | npy.keys(), npy
    if parts:
        return "nifti_classes", others | set(parts.values()), {}
    if not volumes:
        raise wrong_input(path, "no prediction", EXPECTED)
    return _volume_form(path, volumes, len(names.segments)), others, {}


def _class_volumes(stems, last, known):
    """Return the case of each volume of one class.

    ``tumour_class1`` may be a case, too: it is class 1 of ``tumour`` if that is a known case, or if
    some case has all its classes.
    """
    parts, numbers = {}, {}
    for stem in stems:
        match = CLASS_FILE.fullmatch(stem)
        if match and stem not in known:
            parts[stem] = match[1]
            numbers.setdefault(match[1], {0}).add(int(match[2]))
    is_whole = any(found >= set(range(last + 1)) for found in numbers.values())
    return parts if is_whole or numbers.keys() & known else {}


def _npz_form(path, files):
    """Return the form that the keys of the first whole archive tell; others are told when read."""
    found = []
    for file in files:
        with suppress(OSError, ValueError, zipfile.BadZipFile):
            with zipfile.ZipFile(file) as archive:
                keys = [name.removesuffix(".npy") for name in archive.namelist()]
            for key in KEYS.keys() & set(keys):
                return KEYS[key]
            found.append(f"{file.name} with {named(keys) or 'nothing'}")
    expected = "archives of NumPy with probabilities (nnU-Net v2) or softmax (v1)"
    raise wrong_input(path, named(found) or f"{len(files)} damaged npz", expected)


def _volume_form(path, volumes, n_segments):
    """Return whether volumes have a class axis; files whose header cannot be read do not count.

    The class axis of one segment may be missing: fractions are no labels.
    """
    by_dims = {}
    for file in volumes.values():
        if file.name.lower().endswith((".nii", ".nii.gz")):
            with suppress(*UNREADABLE):
                shape = nib.load(file).shape
                n_dims = max([3, *(axis + 1 for axis, n in enumerate(shape) if n > 1)])
                by_dims.setdefault(n_dims, file.name)
    if len(by_dims) > 1:
        found = " and ".join(f"{name} of {n} dimensions" for n, name in sorted(by_dims.items()))
        raise wrong_input(path, found, "predictions of one form")
    if set(by_dims) - {3} or (n_segments == 1 and _hold_fractions(volumes.values())):
        return "nifti_4d"
    return "labels"


def _hold_fractions(files):
    """Whether volumes hold other than whole numbers: the first that is not empty tells."""
    for file in files:
        with suppress(ValueError), warnings.catch_warnings(action="ignore"):
            values = read_volume(file).data
            if values.any():
                return values.dtype.kind == "f" and bool(fractions(values).any())
    return False
