"""Sets of one's own: a file that says where each lies and which organ of it is meant.

The file is YAML, one entry a set; all but ``data`` may be left out::

    fetal_neurotypical:
      data: data/Fetal_CP       # nnU-Net raw layout; relative paths start at the project root
      channel: T2               # by name; needed where there are several
      foreground: [cortical plate]  # segments merged to one organ; default all
      modality: MR              # MR or CT; default CT where the channel is called CT
      spacing_mm: [1.6, 1.6, 1.6]   # of the model's grid; default the median of the headers
      crop_size: [96, 96, 96]   # centre crop on that grid; default none
      cut_foreground: true      # go on though the crop cuts the organ; default false
      domains: [Gholipour2017, Wu2021]  # cases of these only; default all

In place of a file a folder will do: each dataset in it is a set, if it has one channel.
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from .._checks import (
    check_choice,
    check_count,
    check_spacing,
    check_text,
    composed,
    is_file,
    named,
    shown,
    wrong_input,
)
from ..runs.folders import read_json, resolve_path, text_digest, write_json
from .cases import Dataset, Selection, case_names, check_leave_out
from .datasets import read_dataset
from .grids import median_spacing, read_grid, settle_grid
from .labels import survey
from .prepared import prepare_dataset, read_prepared
from .splits import check_set_name, check_unique, read_case_table, split_by_patient
from .tasks import MODALITIES, SPLIT, Task, organ_task

TEXTS = ("data", "channel", "modality")
LISTS = {  # keys whose value is a list
    "foreground": "a list of segments",
    "domains": "a list of domains",
    "spacing_mm": "a list of three numbers",
    "crop_size": "a list of three numbers",
}
KEYS = ("data", "channel", "modality", *LISTS, "cut_foreground")


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error, not overwritten."""

    def construct_mapping(self, node, deep=False):
        """Return a dict, as YAML's own method."""
        n_times = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, n in n_times.items():
            if n > 1:
                raise yaml.YAMLError(f"the key {key!r} twice")
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class SetSource:
    """What one set is prepared from."""

    task: Task
    dataset: Dataset
    selection: Selection
    crop_size: tuple | None
    cut_foreground: bool = False


def read_sets(path, seed=0, leave_out=None):
    """Read the sets of a file, or of a folder of datasets.

    Parameters
    ----------
    path : str or Path
    seed : int
        Of the splits, where ``cases.csv`` assigns none: 60 : 10 : 30 by patient, as B.
    leave_out : list of str, optional
        Sets to go on without, and cases, each in every set that has one of that name.

    Returns
    -------
    dict of SetSource
        By name, in the order of the file.

    Raises
    ------
    ValueError
        Naming the file and the set: an unknown key, channel, segment or domain, no data, a patient
        who is in one split of a set and in another of the next, or a name to leave out that no set
        and no case has.
    """
    leave_out = check_leave_out(leave_out)
    unknown = set(leave_out) - (names_in_sets(path, leave_out) if leave_out else set())
    if unknown:
        raise wrong_input("leave_out", named(unknown), f"sets of {path}, or cases of them")
    entries = _read_entries(path, leave_out)
    sets = {name: _read_set(path, name, entry, seed, leave_out) for name, entry in entries.items()}
    _check_patients(path, sets)
    return sets


def names_in_sets(path, leave_out=()):
    """Return the names of all sets, and of the cases of those sets that are not left out."""
    folders = [resolve_path(entry["data"]) for entry in _read_entries(path, leave_out).values()]
    names = set(_read_entries(path))
    return names.union(*(case_names(folder) for folder in folders))


def _read_entries(path, leave_out=()):
    """Return the entries of a file, or one for each dataset in a folder."""
    path = Path(path)
    if path.is_dir():
        folders = sorted(p for p in path.iterdir() if _is_dataset(p))
        entries = {folder.name: {"data": folder} for folder in folders}
    else:
        entries = _read_yaml(path)
    for name in entries:
        check_set_name(f"{path}, set", name)
    check_unique(f"{path}, sets", list(entries))
    entries = {composed(name): entry for name, entry in entries.items()}
    entries = {name: entry for name, entry in entries.items() if name not in leave_out}
    if not entries:
        raise wrong_input(path, "no set", "at least one dataset")
    return entries


def _is_dataset(folder):
    """Tell whether a visible folder holds a dataset, or says that it does."""
    has_files = (folder / "imagesTr").is_dir() or (folder / "dataset.json").is_file()
    return has_files and not folder.name.startswith(".")


def _read_yaml(path):
    """Return the entries of a file, each a dict of known keys with ``data``."""
    if not is_file(path):
        raise wrong_input(path, "no such file or folder", "a file of sets, or a folder of datasets")
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise wrong_input(path, f"text that is no YAML ({cause})", "one entry a set") from error
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise wrong_input(path, "no table of sets", "one entry a set, each with data: FOLDER")
    for name, entry in entries.items():
        _check_entry(f"{path}, set {name}", entry)
    return entries


def _check_entry(where, entry):
    """Refuse unknown keys, and values of another kind than their key has."""
    unknown = [key for key in entry if key not in KEYS]
    if unknown or "data" not in entry:
        expected = f"data and some of {list(KEYS[1:])}"
        raise wrong_input(where, f"keys {shown(list(entry))}", expected)
    for key in TEXTS:
        check_text(f"{where}, {key}", entry.get(key, ""))
    for key in LISTS.keys() & entry.keys():
        value, what = entry[key], f"{where}, {key}"
        if not isinstance(value, list) or not value:
            raise wrong_input(what, shown(value), LISTS[key])
        if key in ("foreground", "domains"):
            names = [check_text(what, name) for name in value]
            if len(set(names)) < len(names):
                raise wrong_input(what, shown(value), "each name once")
        elif len(value) != 3 or not all(type(size) in (int, float) for size in value):
            raise wrong_input(what, shown(value), LISTS[key])
    for size in entry.get("crop_size", ()):
        check_count(f"{where}, crop_size", size)
    if "spacing_mm" in entry:
        try:
            check_spacing(entry["spacing_mm"], 3)
        except ValueError as error:
            raise ValueError(f"{where}, {error}") from error


def _read_set(path, name, entry, seed, leave_out):
    """Return one set: its dataset, narrowed to a domain, and what of it is one organ."""
    where, folder = f"{path}, set {name}", resolve_path(entry["data"])
    absent = [case for case in case_names(folder) if case in leave_out] if leave_out else None
    dataset = read_dataset(folder, seed=seed, leave_out=absent)
    dataset = _of_domains(dataset, entry, where, seed)
    channel = entry.get("channel", dataset.channels[0])
    if "channel" not in entry and len(dataset.channels) > 1:
        example = f"{name}: {{data: {entry['data']}, channel: {channel}}} in a file of sets"
        expected = f"channel: one of them, as in {example}, or leave_out: [{name}]"
        raise wrong_input(where, f"channels {dataset.channels}", expected)
    if dataset.channels.count(channel) > 1:
        raise wrong_input(where, f"several channels called {channel}", "names that differ")
    check_choice(f"{where}, channel", channel, dataset.channels)
    foreground = entry.get("foreground", list(dataset.segments))
    for segment in foreground:
        check_choice(f"{where}, foreground", segment, dataset.segments)
    modality = entry.get("modality", "CT" if channel.upper() == "CT" else "MR")
    check_choice(f"{where}, modality", modality, tuple(MODALITIES))
    spacing_mm = tuple(entry.get("spacing_mm") or median_spacing(survey(dataset)))
    crop_size = entry.get("crop_size")
    numbers = [dataset.segments.index(segment) for segment in foreground]
    regions = dataset.regions or [(1 + number,) for number in range(len(dataset.segments))]
    classes = {k for number in numbers for k in regions[number]}
    return SetSource(
        task=organ_task(name, modality, " + ".join(foreground), spacing_mm),
        dataset=dataset,
        selection=Selection(dataset.channels.index(channel), tuple(sorted(classes))),
        crop_size=None if crop_size is None else tuple(crop_size),
        cut_foreground=check_choice(
            f"{where}, cut_foreground", entry.get("cut_foreground", False), (True, False)
        ),
    )


def _of_domains(dataset, entry, where, seed):
    """Narrow a dataset to the domains asked for; split it as B where ``cases.csv`` does not."""
    asked = [composed(name) for name in entry.get("domains", dataset.domains)]
    for domain in asked:
        check_choice(f"{where}, domains", domain, dataset.domains)
    cases = [case for case in dataset.cases if case.domain in asked]
    rows = read_case_table(dataset.folder / "cases.csv") or [{}]
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
            key = source.dataset.folder.resolve(), case.patient
            first, split = seen.setdefault(key, (f"{case.name} in set {name}", case.split))
            if split != case.split:
                found = f"{split} for {first}, {case.split} for {case.name} in set {name}"
                where = f"{path}, patient {case.patient}"
                expected = "one split for each patient, and for one image, in cases.csv"
                raise wrong_input(where, found, expected)


def prepare_set(folder, source):
    """Bring every case of a set to the model's grid, and keep what was done as a fingerprint."""
    grid = None
    if source.cut_foreground and not (folder / "prepared" / "settings.json").exists():
        grid = settle_grid(source.dataset, source.task, source.crop_size, source.selection)
    what = source.dataset, source.task, source.crop_size
    prepare_dataset(*what, folder / "prepared", _untold, source.selection, grid)
    if (folder / "fingerprint.json").exists():
        return
    notes = [*source.dataset.notes, *read_grid(folder / "prepared").notes]
    write_json(folder / "notes.json", notes)
    facts = json.dumps(read_json(folder / "prepared" / "settings.json"), sort_keys=True)
    write_json(folder / "fingerprint.json", text_digest(facts, 16))


def read_sets_prepared(folders, sources):
    """Return the prepared cases of sets by name; a patient is one in all sets of one folder.

    `folders` and `sources` have the folder and the `SetSource` of each.
    """
    first, cases = {}, {}
    for name, source in sources.items():
        of_folder = first.setdefault(source.dataset.folder.resolve(), name)
        read = read_prepared(folders[name] / "prepared", source.dataset)
        cases[name] = [replace(case, patient=f"{of_folder}/{case.patient}") for case in read]
    return cases


def _untold(line):
    """Say nothing: whoever opens the run is told the notes."""
