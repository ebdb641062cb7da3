"""What a dataset folder says about itself: dataset.json and the names of its files.

Read are nnU-Net's raw layout and the older one of the Medical Segmentation Decathlon (MSD), in
which ``modality`` names the channels, labels are inverted (``{"0": "background"}``) and one 4D
image holds all channels. Voxels are left alone here. Hidden files are not looked at, and a case's
name never leads out of the folder; only ``dataset``, nnU-Net's list of paths, may point anywhere.
"""

import json
import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .._checks import (
    check_choice,
    check_count,
    check_letters,
    composed,
    is_file,
    named,
    shown,
    told_if_unreadable,
    wrong_input,
)
from . import other_formats
from .labels import LabelNames, read_label_names
from .splits import check_name, check_unique, read_case_table

FILE_ENDINGS = (".nii.gz", ".nii", *other_formats.ENDINGS)
FOLDERS = ("imagesTr", "labelsTr")
TEST_FOLDERS = ("imagesTs", "labelsTs")  # of cases that nnU-Net never trains with


@dataclass(frozen=True, kw_only=True)
class Description(LabelNames):
    """What ``dataset.json`` says."""

    channels: tuple  # in file order
    file_ending: str  # one of `FILE_ENDINGS`; files may have it in capitals
    training: tuple | None = None  # cases in MSD's ``training`` list, or in ``dataset``
    files: tuple | None = None  # as `find_files` returns them, if ``dataset`` lists paths
    n_announced: int | None = None  # number of cases that ``numTraining`` promises


def read_description(folder):
    """Read ``dataset.json`` in either form; ``None`` if there is no such file.

    What does not fit is a ``ValueError`` that names the file and the field.
    """
    path = Path(folder) / "dataset.json"
    if not is_file(path):
        return None
    fields = read_fields(path)
    file_ending = fields.get("file_ending", FILE_ENDINGS[0])
    file_ending = file_ending.lower() if isinstance(file_ending, str) else file_ending
    check_choice(f"{path}, file_ending", file_ending, FILE_ENDINGS)
    training = _training_list(path, fields.get("training"), file_ending)
    files = _listed_files(path, fields["dataset"]) if "dataset" in fields else None
    n_announced = fields.get("numTraining")
    if n_announced is not None:
        check_count(f"{path}, numTraining", n_announced, minimum=0)
    labels = read_label_names(path, fields.get("labels"), fields.get("regions_class_order"))
    return Description(
        channels=_channels(path, fields),
        file_ending=file_ending,
        training=tuple(files[1]) if files else training,
        files=files,
        n_announced=n_announced,
        **vars(labels),
    )


def read_fields(path):
    """Return the object in `path`; a key that is given twice is an error, not overwritten."""
    twice = []

    def unique(pairs):
        twice.extend(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        return dict(pairs)

    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
        written = json.dumps(fields, ensure_ascii=False)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: 5,000 digits, too
        raise wrong_input(path, f"unreadable text ({error})", "a JSON object") from error
    if twice:
        raise wrong_input(path, f"the key {twice[0]!r} twice", "each key once")
    check_letters(path, written)
    if not isinstance(fields, dict):
        raise wrong_input(path, f"a {type(fields).__name__}", "a JSON object")
    return fields


def _channels(path, fields):
    """Return the channel names, from ``channel_names`` or MSD's ``modality``."""
    key = "modality" if "channel_names" not in fields and "modality" in fields else "channel_names"
    names = fields.get(key)
    numbered = isinstance(names, dict) and set(names) == {str(i) for i in range(len(names))}
    if not (names and numbered and all(isinstance(name, str) and name for name in names.values())):
        expected = 'channels by number, such as {"0": "T1", "1": "FLAIR"}'
        raise wrong_input(f"{path}, {key}", shown(names), expected)
    return tuple(names[str(i)] for i in range(len(names)))


def _training_list(path, training, file_ending):
    """Return the case names in MSD's ``training`` list, or None without one."""
    if not training:
        return None
    expected = f"images in imagesTr, each with a label of the same name, ending in {file_ending}"
    cases = []
    for entry in training if isinstance(training, list) else [training]:
        pair = [entry.get(key) for key in ("image", "label")] if isinstance(entry, dict) else [None]
        parts = [PurePosixPath(item).parts for item in pair if isinstance(item, str)]
        name = parts[0][-1] if parts and parts[0] else ""
        if parts != [(below, name) for below in FOLDERS] or not _ends(name, file_ending):
            raise wrong_input(f"{path}, training", shown(entry), expected)
        cases.append(check_name(f"{path}, training", name[: -len(file_ending)]))
    check_unique(f"{path}, training", cases)
    return tuple(cases)


def _listed_files(path, listed):
    """Return images and labels in ``dataset``: paths as written, or from the dataset's folder on.

    As in nnU-Net a path may hold a variable of the environment, such as ``$DATA/a.nii.gz``.
    """
    what, images, labels = f"{path}, dataset", {}, {}
    expected = 'cases such as "a": {"images": ["a_0000.nii.gz"], "label": "a.nii.gz"}'
    if not isinstance(listed, dict) or not listed:
        raise wrong_input(what, shown(listed), expected)
    check_unique(what, list(listed))
    for name, files in listed.items():
        case = check_name(what, name)
        given = files if isinstance(files, dict) else {}
        channels = given.get("images")
        named = [given.get("label"), *(channels if isinstance(channels, list) else [None])]
        if not all(isinstance(name, str) and _ends(name, FILE_ENDINGS) for name in named):
            raise wrong_input(f"{what}, {case}", shown(files), f"{expected} ({FILE_ENDINGS})")
        expanded = [path.parent / os.path.expandvars(name) for name in named]
        labels[case], *channels = [Path(os.path.normpath(each)) for each in expanded]
        images[case] = dict(enumerate(channels))
    return images, labels


def read_layout(folder):
    """Return what ``dataset.json`` says or ``None``, the file ending, and the files of all cases.

    Images and labels are those in ``dataset``, else as `find_files` returns them, and those of
    cases in `TEST_FOLDERS` that ``cases.csv`` names.
    """
    given, folder = read_description(folder), Path(folder)
    file_ending = given.file_ending if given else find_file_ending(folder / "labelsTr")
    images, labels = given.files if given and given.files else find_files(folder, file_ending)
    rows = read_case_table(folder / "cases.csv") or []
    wanted = {row["case"] for row in rows} - labels.keys()
    if wanted and all((folder / below).is_dir() for below in TEST_FOLDERS):
        test_images, test_labels = find_files(folder, file_ending, TEST_FOLDERS)
        tests = wanted & test_labels.keys()
        if tests and "split" not in rows[0]:
            expected = f"one, for it names cases of labelsTs: {named(tests)}"
            raise wrong_input(folder / "cases.csv", "no column split", expected)
        images |= {name: test_images.get(name, {}) for name in tests}
        labels |= {name: test_labels[name] for name in tests}
    return given, file_ending, images, labels


def is_for_tests(label_path):
    """Tell whether a label, if there is one, is of a case that ``numTraining`` does not count."""
    return label_path is not None and label_path.parent.name == TEST_FOLDERS[1]


def find_file_ending(folder):
    """Return the ending of the volumes in a folder without ``dataset.json``, which all have."""
    names = _names(folder)
    present = [ending for ending in FILE_ENDINGS if any(_ends(name, ending) for name in names)]
    found = [ending for ending in present if ending not in other_formats.PICTURES] or present
    if len(found) != 1:
        expected = f"all of one ending: {', '.join(FILE_ENDINGS)}"
        raise wrong_input(folder, " and ".join(found) or "no volume", expected)
    return found[0]


def find_volumes(folder):
    """Return the path of each volume in a folder by its name without ending, which all share."""
    return _stems(folder, find_file_ending(folder))


def case_and_channel(stem):
    """Return the case and the channel that an image is called by; None for no channel.

    Examples
    --------
    >>> case_and_channel("case_0001"), case_and_channel("case")
    (('case', 1), ('case', None))
    """
    match = re.fullmatch(r"(.+)_([0-9]{4})", stem)
    return (match[1], int(match[2])) if match else (stem, None)


def find_files(folder, file_ending, below=FOLDERS):
    """Return images, a dict by channel number for each case, and labels, found by their names.

    `below` are the folders of both. An image whose name is also a label's holds all channels (MSD),
    and its number is ``None``; otherwise a last part such as ``_0001`` is its channel (nnU-Net).
    """
    files, labels = (_stems(Path(folder) / name, file_ending) for name in below)
    images = {}
    for stem, path in files.items():
        case, channel = (stem, None) if stem in labels else case_and_channel(stem)
        images.setdefault(case, {})[channel] = path
    return images, labels


def _names(folder):
    """Return the names of the visible files in a folder, in order."""
    if not folder.is_dir():
        raise wrong_input(folder, "no such folder", "a folder with volumes")
    with told_if_unreadable(folder):
        return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def unread_files(folder, images, labels):
    """Return the visible files of ``imagesTr`` and ``labelsTr`` that belong to no case."""
    read = {*labels.values(), *(path for files in images.values() for path in files.values())}
    read |= {beside for path in read for beside in other_formats.companion_files(path)}
    there = [below for below in FOLDERS if (Path(folder) / below).is_dir()]
    return [
        f"{below}/{name}"
        for below in there
        for name in _names(Path(folder) / below)
        if Path(folder) / below / name not in read
    ]


def passed_over(folder, labels):
    """Return notes on what nnU-Net may keep beside the cases, and is not read."""
    images, answers = (_glimpse(Path(folder) / below) for below in TEST_FOLDERS)
    unread = answers - {path.name for path in labels.values() if is_for_tests(path)}
    notes = []
    if images and unread:
        way = "give every case a split in cases.csv, and these names that labelsTr has not"
        notes.append(f"not read of labelsTs: {named(unread)}; to test on them, {way}")
    elif images and not answers:
        notes.append("imagesTs is not read: cases without labels are no part of a dataset")
    if (Path(folder) / "splits_final.json").exists():
        notes.append("splits_final.json is not read: name splits of your own in cases.csv")
    return notes


def _glimpse(folder):
    """Return the names of the visible files of a folder that need not be there, nor readable."""
    with suppress(OSError):
        return {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    return set()


def _ends(name, ending):
    """Tell whether a file's name has one of the endings, in small or capital letters."""
    return name.lower().endswith(ending)


def _stems(folder, file_ending):
    """Return the volumes in a folder by name without ending; pictures beside are previews."""
    others = [e for e in FILE_ENDINGS if e != file_ending and e not in other_formats.PICTURES]
    stems = {}
    for name in _names(folder):
        path, stem = folder / name, composed(name[: -len(file_ending)])
        if not _ends(name, file_ending):
            if _ends(name, tuple(others)):
                raise wrong_input(path, "this ending", file_ending)
        elif stem in stems:
            found = f"a second {stem} beside {stems[stem].name}"
            raise wrong_input(path, found, "one of each name")
        else:
            stems[stem] = path
    return stems
