"""Any images with labels, listed in a CSV: NIfTI, Analyze, MetaImage, NRRD, PNG or TIFF.

SOURCE is the CSV, in UTF-8, or a folder with a ``pairs.csv``. Its columns are ``case`` and
``label``, one ``image:NAME`` a channel, and if wanted ``patient``, ``domain`` and ``split`` (train,
validation, test; also val and the like), in small or capital letters; other columns are told, and
say nothing. Paths are relative to the CSV. A column ``spacing_mm``,
such as ``0.8x0.8x3``, states voxel sizes along the files' axes where their headers state none.
``--classes liver=1 tumour=2,3`` names the label values; what they do not name may not occur, and
two names never share a value. Axes that are merely turned against each other are turned back; grids
that differ are refused.
"""

import sys

from segcal_lite._checks import check_spacing, wrong_input
from segcal_lite.data.labels import read_label_names
from segcal_lite.data.splits import (
    check_commas,
    check_name,
    check_splits,
    check_unique,
    split_named,
)
from segcal_lite.data.volumes import read_label, read_volume

from .convert.cases import Facts, Found, SourceCase, missing_files
from .convert.face import run_script
from .convert.reading import turned_like
from .convert.splits import COUNTS_OF_B, drawn
from .convert.tables import read_table

FACTS = (
    Facts(
        script="pairs",
        title="Your own pairs, by CSV",
        organ="as you say",
        modality="as you say",
        cases="yours",
        size="yours",
        licence="yours",
        obtain="a table of your own",
        reference="",
        papers="",
        task="",
    ),
)
SOURCE = "the CSV, or a folder with a pairs.csv"
IMAGE_PREFIX = "image:"
COLUMNS = ("case", "label", "patient", "domain", "split", "spacing_mm")


def add_options(parser):
    """Add the names of the label values."""
    parser.add_argument(
        "--classes",
        nargs="+",
        required=True,
        metavar="NAME=VALUE[,VALUE]",
        help="foreground names with their label values, such as liver=1 tumour=2,3",
    )


def find(source, classes, seed=2020):
    """Find the pairs that the CSV lists; see the module for its columns."""
    path = source / "pairs.csv" if source.is_dir() else source
    if not path.is_file():
        raise wrong_input(path, "no such file", "a table with case, image:NAME and label")
    table, notes = _known_columns(path, read_table(path))
    channels = [name for name in table.columns if name.startswith(IMAGE_PREFIX)]
    if not channels or not {"case", "label"} <= set(table.columns) or table.empty:
        check_commas(path, table.columns)
        found = f"columns {', '.join(table.columns)} and {len(table)} rows"
        raise wrong_input(path, found, "case, label, image:NAME and at least one row")
    for line, name in table.case.items():
        check_name(f"{path}, line {line}, case", name)
    check_unique(f"{path}, case", list(table.case))
    segments, values = read_classes(classes)
    rows = table.to_dict("index").items()
    cases = tuple(_find_case(path, line, row, channels) for line, row in rows)
    return Found(
        facts=FACTS[0],
        channels=tuple(name.removeprefix(IMAGE_PREFIX) for name in channels),
        segments=segments,
        classes=values,
        cases=cases,
        split_of=_split(path, table, cases, seed),
        settings={"dataset": "pairs", "seed": seed, "classes": sorted(classes)},
        notes=notes,
        is_drawn="split" not in table.columns,
    )


def _known_columns(path, table):
    """Return the table, its known columns in small letters, and what is to be said of others."""
    lowered = {name: name.lower() for name in table if name.lower() in COLUMNS}
    images = [name for name in table if name.lower().startswith(IMAGE_PREFIX)]
    lowered |= {name: IMAGE_PREFIX + name[len(IMAGE_PREFIX) :] for name in images}
    table = table.rename(columns=lowered)
    if len(set(table.columns)) < len(table.columns):
        raise wrong_input(path, f"columns {', '.join(table.columns)}", "each once")
    nameless = [c for c in table if c == IMAGE_PREFIX]
    if nameless:
        raise wrong_input(path, f"a column {IMAGE_PREFIX}", "a name behind it, such as image:T1")
    others = [c for c in table if c not in COLUMNS and not c.startswith(IMAGE_PREFIX)]
    others = [c for c in others if table[c].any()]  # empty ones are a spreadsheet's
    note = f"{path.name}: columns {', '.join(others)} say nothing here; known are " + ", ".join(
        (*COLUMNS, f"{IMAGE_PREFIX}NAME")
    )
    return table, (note,) * bool(others)


def read_classes(texts):
    """Return segments and the class of each value.

    Examples
    --------
    >>> read_classes(["liver=1", "tumour=2,3"])
    (('liver', 'tumour'), {0: 0, 1: 1, 2: 2, 3: 2})
    """
    segments, values = [], {0: 0}
    for text in texts:
        name, _, numbers = text.partition("=")
        stored = numbers.split(",")
        if not name or not all(number.isdecimal() for number in stored):
            raise wrong_input("--classes", repr(text), "a name and values, such as liver=1")
        if name.casefold() == "background":
            raise wrong_input("--classes", repr(text), "segments only; the background is 0")
        if name in segments or any(int(number) in values for number in stored):
            raise wrong_input("--classes", f"{text!r}, given before", "each name and value once")
        segments.append(name)
        values |= {int(number): len(segments) for number in stored}
    read_label_names("--classes", {"background": 0} | {s: k for k, s in enumerate(segments, 1)})
    return tuple(segments), values


def _find_case(path, line, row, channels):
    """Return one row's case; `problem` names its empty cells, or the files that are missing."""
    *images, label = (path.parent / row[column] for column in (*channels, "label"))
    problem, stated = missing_files((*images, label)), row.get("spacing_mm")
    empty = [column for column in (*channels, "label") if not row[column]]
    if empty:
        what = f"{path}, line {line}, {', '.join(empty)}"
        problem = str(wrong_input(what, "an empty cell", "the path of a file"))
    return SourceCase(
        row["case"],
        images=tuple(images),
        labels=(label,),
        patient=row.get("patient") or row["case"],
        domain=row.get("domain") or "source",
        spacing_mm=_read_spacing(row["case"], stated) if stated else None,
        problem=problem,
    )


def _read_spacing(name, text):
    """Return the voxel size that a row states."""
    try:
        return tuple(check_spacing([float(size) for size in text.split("x")], 3).tolist())
    except ValueError as error:
        expected = "three positive numbers in mm, such as 0.8x0.8x3"
        raise wrong_input(f"spacing_mm of {name}", repr(text), expected) from error


def _split(path, table, cases, seed):
    """Return the split in the table, checked, or a drawn one."""
    if "split" not in table.columns:
        return drawn(cases, COUNTS_OF_B, seed)
    patients = [case.patient for case in cases]
    splits = [split_named(f"{path}, line {line}, split", n) for line, n in table.split.items()]
    try:
        check_splits(splits, patients)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return dict(zip(patients, splits, strict=True))


def read_case(case):
    """Read a pair; a label whose axes are turned is brought to those of the first image."""
    images = [read_volume(path, case.spacing_mm) for path in case.images]
    label = read_label(case.labels[0], case.spacing_mm)
    first = images[0]
    return [first, *(turned_like(v, first) for v in images[1:])], turned_like(label, first)


if __name__ == "__main__":
    sys.exit(run_script("pairs"))
