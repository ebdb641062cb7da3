"""MetaImage's and NRRD's headers of text, and the files in which their voxels lie."""

import re

METAIMAGE, NRRD = (".mha", ".mhd"), (".nrrd", ".nhdr")
LONGEST_HEADER = 2**22  # bytes; Slicer's segmentations list every segment
DATA_FILES = ("elementdatafile", "data file", "datafile")
MOST_FILES = 10_000  # of one volume; more is a wrong number in a header


def read_header(path):
    """Return the fields, names in small letters, and the number of bytes before what follows.

    Voxels follow, or the names of their files, one a line.
    """
    is_meta, fields, n_bytes = path.suffix.lower() in METAIMAGE, {}, 0
    with path.open("rb") as file:
        while n_bytes < LONGEST_HEADER and (line := file.readline(LONGEST_HEADER)):
            n_bytes, text = n_bytes + len(line), line.decode("latin-1")
            name, value = (re.split("[=:]" if is_meta else ":", text, maxsplit=1) + [""])[:2]
            name = name.strip().lower()
            if not text.strip() and not is_meta:
                break
            fields[name] = value.strip()
            if name == "elementdatafile" or (name in DATA_FILES and is_list(value)):
                break
    return fields, n_bytes


def detached_files(path):
    """Return the files with the voxels of a header, if they are others than its own."""
    if path.suffix.lower() not in METAIMAGE + NRRD or not path.is_file():
        return ()
    try:
        fields, n_bytes = read_header(path)
    except OSError:  # who reads the volume is told
        return ()
    value = next((fields[name] for name in DATA_FILES if fields.get(name)), "LOCAL")
    if value.upper() == "LOCAL":
        return ()
    return tuple(path.parent / name for name in _listed(path, n_bytes, value) or _numbered(value))


def _listed(path, n_bytes, value):
    """Return the names that stand line by line behind a header, if it says so."""
    if not is_list(value):
        return []
    with path.open("rb") as file:
        file.seek(n_bytes)
        lines = file.read(LONGEST_HEADER).decode("latin-1").splitlines()
    return [line.strip() for line in lines if line.strip()]


def is_list(value):
    """Whether a header names the files of its voxels line by line."""
    return value.split()[:1] in (["LIST"], ["list"])


def is_pattern(value):
    """Whether a header numbers the files of its voxels, as in ``slice%03d.raw 1 20 1``."""
    return "%" in value


def _numbered(value):
    """Return the names that a pattern stands for, or the one that is no pattern."""
    pattern, *numbers = value.split()
    try:
        first, last, step = map(int, numbers[:3])
        numbers = range(first, last + (1 if step > 0 else -1), step)
        if is_pattern(pattern) and len(numbers) <= MOST_FILES:
            return [pattern % number for number in numbers]
    except (ValueError, TypeError):  # other words behind the name belong to it
        pass
    return [value]
