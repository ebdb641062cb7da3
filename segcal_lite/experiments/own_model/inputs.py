"""Somebody's predictions, labels and patients: what there is, what belongs together, what is left.

A folder of predictions is a member; several are folds or seeds of one model. Cases are found by
their names. What cannot be judged is left out with its reason, and the others go on.
"""

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings

import numpy as np

from ..._checks import is_file, named, wrong_input
from ...data.labels import LabelNames, read_label_names
from ...data.layouts import case_and_channel, find_volumes
from ...data.predictions import open_predictions
from ...data.splits import LONGEST_NAME, read_case_table
from ...data.volumes import read_label
from ...runs.folders import read_json, resolve_path
from .signatures import gather_signatures

AVERAGED = ("probabilities", "logits")
GROUPS = ("labelled", "new")


@dataclass(frozen=True)
class OwnCase:
    """One case by name, and where its label and images lie."""

    name: str
    label_path: Path | None = None
    image_paths: tuple = ()

    @property
    def group(self):
        """One of `GROUPS`."""
        return GROUPS[self.label_path is None]

    @property
    def paths(self):
        """Paths of its label, if it has one, and of its images."""
        return (*filter(None, [self.label_path]), *self.image_paths)


@dataclass(frozen=True)
class OwnInputs:
    """All that was given to `segcal_lite.experiments.own_model.evaluate`, looked through."""

    names: LabelNames
    members: tuple  # of PredictionFolder, of the labelled cases
    new_members: tuple
    cases: tuple  # of OwnCase: those with a label and a prediction of each member
    new_cases: tuple
    patients: dict  # of each case, by name
    left_out: tuple  # (case, folder, why, group)
    notes: tuple
    signatures: tuple | None  # of the training cases, and of cases here

    @property
    def n_classes(self):
        """K of the probabilities: 2 where segments may overlap."""
        return 2 if self.names.regions else len(self.names.label_values)

    @property
    def has_probabilities(self):
        """Whether members say how sure they are; hard labels alone do not."""
        return self.members[0].has_probabilities


def gather_inputs(labels, predictions, images, dataset, new, patients, classes, signatures):
    """Look through the folders that were given; see `evaluate` for the arguments."""
    labels = _folder("labels", labels)
    folders, new_folders = _member_folders(predictions, new)
    label_paths = find_volumes(labels)
    names, notes = _names(labels, folders, dataset, classes, label_paths)
    files = _image_files(_listed(images))
    known = {*label_paths, *files, *(case_and_channel(stem)[0] for stem in files)}
    members = tuple(open_predictions(folder, names, known) for folder in folders)
    new_members = tuple(open_predictions(folder, names, known) for folder in new_folders)
    _check_forms(members, new_members)
    predicted = [case for member in (*members, *new_members) for case in member.cases]
    image_paths, no_case = _images(files, {*label_paths, *predicted})
    cases, left_out = _with_all(members, labels, label_paths, image_paths)
    new_cases, left_out_new = _with_all(new_members, None, None, image_paths)
    _check_cases(labels, cases, new_cases, left_out, len(members))
    by_kind = [[case.name for case in of] for of in (cases, new_cases)]
    signatures, more_notes = gather_signatures(signatures, *by_kind)
    return OwnInputs(
        names=names,
        members=members,
        new_members=new_members,
        cases=cases,
        new_cases=new_cases,
        patients=_patients(patients, labels, sum(by_kind, [])),
        left_out=(*left_out, *left_out_new),
        notes=(*notes, *no_case, *more_notes),
        signatures=signatures,
    )


def _member_folders(predictions, new):
    """Return the members' folders, and those of their predictions for cases without labels."""
    folders = [_folder("predictions", folder) for folder in _listed(predictions)]
    if not folders:
        raise wrong_input("predictions", "no folder", "at least one")
    new = _listed(new)
    if new and len(new) != len(folders):
        expected = f"{len(folders)}, one a member, as of predictions"
        raise wrong_input("new", f"{len(new)} folders", expected)
    new_folders = [_folder("new", folder) for folder in new]
    for what, of in (("predictions", folders), ("new", new_folders)):
        twice = [str(folder) for folder, n in Counter(of).items() if n > 1]
        if twice:
            raise wrong_input(what, f"{named(twice)} twice", "the folder of each member once")
    return folders, new_folders


def _check_cases(labels, cases, new_cases, left_out, n_members):
    """Refuse new cases that have labels, and folders without a case that can be judged."""
    twice = {case.name for case in cases} & {case.name for case in new_cases}
    if twice:
        raise wrong_input("new", f"labelled cases {named(twice)}", "cases without labels")
    if not cases:
        why = "; ".join(f"{case}: {reason}" for case, _, reason, _ in left_out[:3])
        expected = "a label and a prediction of each member for one case at least"
        if n_members > 1:
            folds = "what the folds of a cross-validation predict is one member, in one folder"
            expected = f"{expected}; {folds}"
        raise wrong_input(labels, f"no case to judge ({why})", expected)


def _listed(paths):
    """Return paths as a list, also a single one, or none."""
    return [paths] if isinstance(paths, (str, Path)) else list(paths or ())


def _folder(what, path):
    """Return a folder that is there."""
    path = resolve_path(path)
    if not path.is_dir():
        raise wrong_input(f"{what} {path}", "no such folder", "a folder with volumes")
    return path


def _names(labels, folders, dataset, classes, label_paths):
    """Return the `LabelNames`: as ``dataset.json`` says, as `classes` say, or from the values."""
    places = [labels.parent, labels, *folders]
    paths = [resolve_path(dataset)] if dataset else [place / "dataset.json" for place in places]
    path = next((path for path in paths if is_file(path)), None)
    if dataset and path is None:
        raise wrong_input("dataset", paths[0], "a file such as nnU-Net's dataset.json")
    if path and classes:
        raise wrong_input("classes", list(classes), f"none beside {path}, which names them")
    if path:
        fields = read_json(path, shape={"labels": dict})
        order = fields.get("regions_class_order")
        return read_label_names(path, fields["labels"], order), [f"names of classes are of {path}"]
    if classes:
        numbered = {name: k for k, name in enumerate(classes, start=1)}
        if len(numbered) < len(classes):
            twice = named(name for name, n in Counter(classes).items() if n > 1)
            raise wrong_input("classes", f"{twice} twice", "each name once")
        return read_label_names("classes", {"background": 0} | numbered), []
    found = set()
    for path in label_paths.values():
        # what is wrong with one, or with its header, is told when its case is scored
        with suppress(ValueError), catch_warnings(action="ignore"):
            found.update(np.unique(read_label(path).data).astype(int).tolist())
    if not found - {0}:
        raise wrong_input(labels, "only 0", "values of at least one segment")
    values = {"background": 0} | {f"label {v}": v for v in sorted(found - {0})}
    note = f"no dataset.json and no names: the classes are the values found, {sorted(found)}"
    return read_label_names(labels, values), [note]


def _check_forms(members, new_members):
    """Refuse hard labels beside probabilities: they have no ensemble."""
    forms = {member.form == "labels" for member in (*members, *new_members)}
    if len(forms) > 1:
        hard = next(m for m in (*members, *new_members) if m.form == "labels")
        expected = "probabilities, as the other folders hold, or hard labels in all"
        raise wrong_input(hard.path, "hard labels alone", expected)


def _image_files(folders):
    """Return the paths of the images in these folders, by their names without ending."""
    found = {}
    for folder in folders:
        for stem, path in find_volumes(_folder("images", folder)).items():
            found.setdefault(stem, []).append(path)
    return found


def _images(files, cases):
    """Return the image paths of each case, and a note on images of none, in a list.

    ``patient_0005`` is a case of that name if there is one, else a channel of ``patient``.
    """
    found, others = {}, []
    for stem, paths in files.items():
        case = stem if stem in cases else case_and_channel(stem)[0]
        if case in cases:
            found.setdefault(case, []).extend(paths)
        else:
            others.append(stem)
    note = f"images that belong to no case: {named(others)}"
    return {case: tuple(paths) for case, paths in found.items()}, [note] if others else []


def _with_all(members, labels, label_paths, image_paths):
    """Return the cases that all members predict (and that have a label), and why others are out."""
    in_any = sorted({case for member in members for case in member.cases})
    in_any += sorted(set(label_paths or ()) - set(in_any))
    cases, left_out, group = [], [], GROUPS[label_paths is None]
    for name in in_any:
        lacking = [member for member in members if name not in member.cases]
        n_bytes = len(os.fsencode(name))
        if n_bytes > LONGEST_NAME:  # no system could write what a run names after it
            why = f"a name of {n_bytes} bytes, where {LONGEST_NAME} are the most"
            left_out.append((name, str(labels or members[0].path), why, group))
        elif lacking:
            why = "no prediction of it in this folder"
            left_out.append((name, str(lacking[0].path), why, group))
        elif label_paths is not None and name not in label_paths:
            left_out.append((name, str(labels), "a prediction, but no label", group))
        else:
            label_path = None if label_paths is None else label_paths[name]
            cases.append(OwnCase(name, label_path, image_paths.get(name, ())))
    return tuple(cases), left_out


def _patients(path, labels, cases):
    """Return the patient of each case: of a table, ``cases.csv`` beside the labels, or itself."""
    given = resolve_path(path) if path else labels.parent / "cases.csv"
    if path and not is_file(given):
        raise wrong_input("patients", f"no file {given}", "a table with columns case, patient")
    rows = read_case_table(given, needed=("case", "patient") if path else ("case",)) or []
    of_case = {row["case"]: row["patient"] for row in rows if "patient" in row}
    unknown = [case for case in cases if case not in of_case]
    if path and unknown:
        raise wrong_input(given, f"no patient of {named(unknown)}", "a row for each case")
    return {case: of_case.get(case, case) for case in cases}
