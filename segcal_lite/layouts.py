"""What a dataset folder says about itself: dataset.json and the names of its files.

Read are nnU-Net's raw layout and the older one of the Medical Segmentation Decathlon (MSD), in
which ``modality`` names the channels, labels are inverted (``{"0": "background"}``) and one 4D
image holds all channels. Voxels are left alone here. Names that come from a file never lead out
of the folder, and hidden files are not looked at.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import other_formats
from ._checks import check_choice, wrong_input
from .splits import check_name, check_unique

FILE_ENDINGS = (".nii.gz", ".nii", *other_formats.ENDINGS)


@dataclass(frozen=True)
class Description:
    """What ``dataset.json`` says.

    Attributes
    ----------
    channels, segments : tuple of str
        Channels in file order; foreground classes by rising label value.
    label_values : tuple of int
        Stored value of each class, background 0 first; (0, 1, 5) is possible.
    file_ending : str
        One of `FILE_ENDINGS`.
    training : tuple of str or None
        Cases in MSD's ``training`` list, if there is one.
    """

    channels: tuple
    segments: tuple
    label_values: tuple
    file_ending: str
    training: tuple | None = None


def read_description(folder):
    """Read ``dataset.json`` in either form.

    Parameters
    ----------
    folder : Path
        The dataset's.

    Returns
    -------
    Description or None
        ``None`` if there is no such file.

    Raises
    ------
    ValueError
        Naming the file and the field: no JSON, channels not numbered from 0, labels that are
        regions, an ignore label, values that repeat or lack 0, another file ending.
    """
    path = Path(folder) / "dataset.json"
    if not path.is_file():
        return None
    fields = _read_json(path)
    if "dataset" in fields:
        raise wrong_input(f"{path}, dataset", "a list of file paths", "imagesTr and labelsTr")
    file_ending = fields.get("file_ending", FILE_ENDINGS[0])
    check_choice(f"{path}, file_ending", file_ending, FILE_ENDINGS)
    names = _label_names(path, fields.get("labels"))
    return Description(
        channels=_channels(path, fields),
        segments=tuple(names[value] for value in sorted(names) if value),
        label_values=tuple(sorted(names)),
        file_ending=file_ending,
        training=_training_list(path, fields.get("training"), file_ending),
    )


def _read_json(path):
    """Return the object in `path`; a key that is given twice is an error, not overwritten."""

    def unique(pairs):
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise wrong_input(path, f"the key {key!r} twice", "each key once")
        return dict(pairs)

    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_input(path, f"unreadable text ({error})", "a JSON object") from error
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
        raise wrong_input(f"{path}, {key}", repr(names), expected)
    return tuple(names[str(i)] for i in range(len(names)))


def _label_names(path, labels):
    """Return names by value from {"liver": 1} or MSD's inverted {"1": "liver"}."""
    what = f"{path}, labels"
    if not isinstance(labels, dict) or len(labels) < 2:
        raise wrong_input(what, repr(labels), "background and at least one segment")
    if all(key.isdecimal() for key in labels):
        pairs = [(int(key), name) for key, name in labels.items()]
    else:
        pairs = [(value, name) for name, value in labels.items()]
    for value, name in pairs:
        if isinstance(value, list):
            expected = "one integer a class, so a value of its own for each region's own voxels"
            raise wrong_input(f"{what}, {name}", f"the region {value}", expected)
        if not (type(value) is int and value >= 0 and isinstance(name, str) and name):
            raise wrong_input(what, f"{name!r}: {value!r}", "names with integers of at least 0")
        if name.lower() == "ignore":
            raise wrong_input(what, "an ignore label", "a class for every voxel")
    values = [value for value, _ in pairs]
    if 0 not in values or len(set(values)) < len(values):
        raise wrong_input(what, f"values {values}", "0 for the background and each value once")
    return dict(pairs)


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
        if parts != [("imagesTr", name), ("labelsTr", name)] or not name.endswith(file_ending):
            raise wrong_input(f"{path}, training", repr(entry), expected)
        cases.append(check_name(f"{path}, training", name.removesuffix(file_ending)))
    check_unique(f"{path}, training", cases)
    return tuple(cases)


def find_file_ending(folder):
    """Return the ending of the files in ``labelsTr``, for a folder without ``dataset.json``."""
    names = _names(folder, "labelsTr")
    present = [ending for ending in FILE_ENDINGS if any(name.endswith(ending) for name in names)]
    found = [ending for ending in present if ending not in other_formats.PICTURES] or present
    if len(found) != 1:
        what = Path(folder) / "labelsTr"
        expected = f"all of one ending: {', '.join(FILE_ENDINGS)}"
        raise wrong_input(what, " and ".join(found) or "no volume", expected)
    return found[0]


def find_files(folder, file_ending):
    """Find images and labels by name.

    A file of ``imagesTr`` whose name is also a label's holds all channels (MSD); otherwise a last
    part such as ``_0001`` is its channel (nnU-Net).

    Parameters
    ----------
    folder : Path
        The dataset's.
    file_ending : str
        Of all its volumes, one of `FILE_ENDINGS`.

    Returns
    -------
    images : dict
        For each case its files by channel number; the number is ``None`` for all channels.
    labels : dict
        For each case its file.

    Raises
    ------
    ValueError
        If ``imagesTr`` or ``labelsTr`` is missing or holds volumes of another ending.
    """
    labels = _stems(folder, "labelsTr", file_ending)
    images = {}
    for stem, path in _stems(folder, "imagesTr", file_ending).items():
        match = None if stem in labels else re.fullmatch(r"(.+)_([0-9]{4})", stem)
        case, channel = (match[1], int(match[2])) if match else (stem, None)
        images.setdefault(case, {})[channel] = path
    return images, labels


def _names(folder, subfolder):
    """Return the names of the visible files in `subfolder`, in order."""
    path = Path(folder) / subfolder
    if not path.is_dir():
        raise wrong_input(path, "no such folder", "a folder with volumes")
    return sorted(file.name for file in path.iterdir() if not file.name.startswith("."))


def _stems(folder, subfolder, file_ending):
    """Return the volumes in `subfolder` by name without ending."""
    others = tuple(set(other_formats.PICTURES) - {file_ending})  # a picture beside is a preview
    names = [name for name in _names(folder, subfolder) if name.endswith(FILE_ENDINGS)]
    names = [name for name in names if not name.endswith(others)]
    for name in names:
        if not name.endswith(file_ending):
            raise wrong_input(Path(folder) / subfolder / name, "this ending", file_ending)
    return {n.removesuffix(file_ending): Path(folder) / subfolder / n for n in names}
