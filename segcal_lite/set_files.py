"""Sets of one's own: a file that says where each lies and which organ of it is meant.

The file is YAML, one entry a set; all but ``data`` may be left out::

    fetal_neurotypical:
      data: data/Fetal_CP       # nnU-Net raw layout; relative paths start at the project root
      channel: T2               # by name; needed where there are several
      foreground: [cortical plate]  # segments merged to one organ; default all
      modality: MR              # MR or CT; default CT where the channel is called CT
      spacing_mm: [1.6, 1.6, 1.6]   # of the model's grid; default the median of the headers
      crop_size: [96, 96, 96]   # centre crop on that grid; default none
      domains: [Gholipour2017, Wu2021]  # cases of these only; default all

In place of a file a folder will do: each dataset in it is a set.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from ._checks import check_choice, check_spacing, check_text, wrong_input
from .cases import Dataset, Selection
from .datasets import read_dataset
from .organ_sets import MODALITIES, SPLIT, organ_task
from .preprocessing import plan_preprocessing
from .runs import resolve_path
from .splits import check_name, check_unique, read_case_table, split_by_patient
from .tasks import Task
from .volumes import read_label

TEXTS = ("data", "channel", "modality", "foreground", "domains")  # a name, or a list of names
LISTS = {  # keys whose value is a list
    "foreground": "a list of segments",
    "domains": "a list of domains",
    "spacing_mm": "a list of three numbers",
    "crop_size": "a list of three numbers",
}
KEYS = ("data", "channel", "foreground", "modality", "spacing_mm", "crop_size", "domains")


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error, not overwritten."""

    def construct_mapping(self, node, deep=False):
        """Return a dict, as YAML's own method."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} twice")
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class SetSource:
    """What one set is prepared from."""

    task: Task
    dataset: Dataset
    selection: Selection
    crop_size: tuple | None


def read_sets(path, seed=0):
    """Read the sets of a file, or of a folder of datasets.

    Parameters
    ----------
    path : str or Path
    seed : int
        Of the splits, where ``cases.csv`` assigns none: 60 : 10 : 30 by patient, as B.

    Returns
    -------
    dict of SetSource
        By name, in the order of the file.

    Raises
    ------
    ValueError
        Naming the file and the set: an unknown key, channel, segment or domain, no data, or a
        patient who is in one split of a set and in another of the next.
    """
    path = Path(path)
    if path.is_dir():
        folders = sorted(p for p in path.iterdir() if (p / "imagesTr").is_dir())
        entries = {folder.name: {"data": folder} for folder in folders}
    else:
        entries = _read_yaml(path)
    if not entries:
        raise wrong_input(path, "no set", "at least one dataset")
    check_unique(f"{path}, sets", list(entries))
    sets = {name: _read_set(path, name, entry, seed) for name, entry in entries.items()}
    _check_patients(path, sets)
    return sets


def _read_yaml(path):
    """Return the entries of a file, each a dict of known keys with ``data``."""
    if not path.is_file():
        raise wrong_input(path, "no such file or folder", "a file of sets, or a folder of datasets")
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise wrong_input(path, f"text that is no YAML ({error})", "one entry a set") from error
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise wrong_input(path, "no table of sets", "one entry a set, each with data: FOLDER")
    for name, entry in entries.items():
        unknown = [key for key in entry if key not in KEYS]
        if unknown or "data" not in entry:
            found = f"keys {list(entry)}"
            raise wrong_input(f"{path}, set {name}", found, f"data and some of {list(KEYS[1:])}")
        for key, expected in LISTS.items():
            value = entry.get(key, [])
            if not isinstance(value, list) or (key in entry and not value):
                raise wrong_input(f"{path}, set {name}, {key}", repr(value), expected)
        for key in TEXTS:
            value = entry.get(key, [])
            for text in value if isinstance(value, list) else [value]:
                check_text(f"{path}, set {name}, {key}", text)
        if "+" in check_text(f"{path}, set", name) or "-then-" in name:
            raise wrong_input(f"{path}, set", repr(name), "a name without + and -then-")
        check_name(f"{path}, set", name)
    return entries


def _read_set(path, name, entry, seed):
    """Return one set: its dataset, narrowed to a domain, and what of it is one organ."""
    where = f"{path}, set {name}"
    dataset = _of_domains(read_dataset(resolve_path(entry["data"]), seed=seed), entry, where, seed)
    channel = entry.get("channel", dataset.channels[0])
    if "channel" not in entry and len(dataset.channels) > 1:
        raise wrong_input(where, f"channels {dataset.channels}", "channel: one of them")
    check_choice(f"{where}, channel", channel, dataset.channels)
    foreground = entry.get("foreground", list(dataset.segments))
    for segment in foreground:
        check_choice(f"{where}, foreground", segment, dataset.segments)
    modality = entry.get("modality", "CT" if channel.upper() == "CT" else "MR")
    check_choice(f"{where}, modality", modality, tuple(MODALITIES))
    spacing_mm = tuple(entry.get("spacing_mm") or _median_spacing(dataset))
    try:
        check_spacing(spacing_mm, 3)
    except ValueError as error:
        raise ValueError(f"{where}, {error}") from error
    crop_size = entry.get("crop_size")
    classes = tuple(1 + dataset.segments.index(segment) for segment in foreground)
    return SetSource(
        task=organ_task(name, modality, " + ".join(foreground), spacing_mm),
        dataset=dataset,
        selection=Selection(dataset.channels.index(channel), classes),
        crop_size=None if crop_size is None else tuple(crop_size),
    )


def _of_domains(dataset, entry, where, seed):
    """Narrow a dataset to the domains asked for; split it as B where ``cases.csv`` does not."""
    for domain in entry.get("domains", ()):
        check_choice(f"{where}, domains", domain, dataset.domains)
    asked = entry.get("domains", dataset.domains)
    cases = [case for case in dataset.cases if case.domain in asked]
    rows = read_case_table(dataset.folder) or [{}]
    if "split" in rows[0]:
        return replace(dataset, cases=tuple(cases))
    split_of = split_by_patient([case.patient for case in cases], SPLIT, seed)
    cases = tuple(replace(case, split=split_of[case.patient]) for case in cases)
    notes = [note for note in dataset.notes if not note.startswith("no split")]
    notes.append(f"no split in cases.csv: seed {seed} drew 60 : 10 : 30 by patient, as B")
    return replace(dataset, cases=cases, notes=tuple(notes))


def _check_patients(path, sets):
    """Refuse that a patient trains one set and tests another; names count within one folder."""
    seen = {}
    for name, source in sets.items():
        for case in source.dataset.cases:
            key = source.dataset.folder, case.patient
            first, split = seen.setdefault(key, (f"{case.name} in set {name}", case.split))
            if split != case.split:
                found = f"{split} for {first}, {case.split} for {case.name} in set {name}"
                where = f"{path}, patient {case.patient}"
                expected = "one split for each patient, and for one image, in cases.csv"
                raise wrong_input(where, found, expected)


def _median_spacing(dataset):
    """Return the median voxel size along each prepared axis, rounded to 0.0001 mm."""
    volumes = [read_label(case.label_path) for case in dataset.cases]
    records = [plan_preprocessing(volume.grid_shape, volume.affine) for volume in volumes]
    median_mm = np.median([record.turned_spacing_mm for record in records], axis=0)
    return np.round(median_mm, 4).tolist()
