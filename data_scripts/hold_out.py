"""Hold some domains (sites, scanners) of a dataset out for testing: the shift of paper A.

    python -m data_scripts.hold_out SOURCE DEST --domains NAME ... [--counts 60 10 30] [--seed N]

SOURCE is in the common layout, with a column ``domain`` in its ``cases.csv``. DEST is a dataset of
the same cases and two small files: a ``dataset.json`` that lists where the volumes of SOURCE lie,
as nnU-Net's does, so that none is copied, and a ``cases.csv`` with a split for each case. All cases
of the domains named are for testing; the other patients are split by seed. A patient who has images
in both is for testing.
"""

import argparse
import shlex
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

from segcal_lite._checks import composed, named, wrong_input
from segcal_lite.data.datasets import read_dataset
from segcal_lite.data.layouts import is_for_tests, read_fields, read_layout
from segcal_lite.data.other_formats import PICTURES
from segcal_lite.data.splits import (
    DEFAULT_COUNTS,
    SPLITS,
    keep_together,
    read_case_table,
    same_images,
    split_by_patient,
)
from segcal_lite.runs.folders import write_json, written_aside
from segcal_lite.runs.tables import write_table

from .convert.face import said_in_one_sentence


def main(arguments=None):
    """Read the command line and write the dataset; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m data_scripts.hold_out",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a dataset with domains")
    parser.add_argument("dest", type=Path, metavar="DEST", help="folder to make")
    parser.add_argument("--domains", nargs="+", required=True, metavar="NAME", help="to test on")
    counts = "patients, or proportions, of the other domains (default 60 10 30)"
    parser.add_argument(
        "--counts", nargs=3, type=int, default=DEFAULT_COUNTS, metavar="N", help=counts
    )
    parser.add_argument("--seed", type=int, default=2020, help="of the split (default 2020)")
    return said_in_one_sentence(_write, **vars(parser.parse_args(arguments)))


def _write(source, dest, domains, counts, seed):
    """Write DEST whole or not at all, and say what lies there and how to use it."""
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        raise wrong_input(dest, "something that lies there already", "a new or an empty folder")
    dataset = read_dataset(source, keeps_splits=False)
    rows = read_case_table(source / "cases.csv")
    if rows is None or "domain" not in rows[0]:
        raise wrong_input(source / "cases.csv", "no column domain", "the domain of each case")
    same = same_images({case.name: case.image_paths for case in dataset.cases})
    tests = {case.name for case in dataset.cases if is_for_tests(case.label_path)}
    rows, notes = hold_out(rows, same, list(map(composed, domains)), counts, seed, tests)
    with written_aside(dest) as partial:
        write_json(partial / "dataset.json", description(dataset))
        write_table(partial / "cases.csv", pd.DataFrame(rows))
        cases = read_dataset(partial).cases
        if dest.exists():
            dest.rmdir()
    print(f"{dest}: {len(cases)} cases of {source}, where their volumes stay")
    for split in SPLITS:
        n_cases = Counter(case.domain for case in cases if case.split == split)
        print(
            f"  {split}: {', '.join(f'{domain} {n_cases[domain]}' for domain in sorted(n_cases))}"
        )
    for note in notes:
        print(f"note: {note}")
    print(f"use it as: python -m segcal_lite demo --data {shlex.quote(str(dest))}")
    return 0


def hold_out(rows, same, domains, counts, seed, tests=()):
    """Give each row of ``cases.csv`` a split: test where a patient has a case of `domains`.

    Parameters
    ----------
    rows : list of dict
        As `read_case_table` returns them, with ``domain``.
    same : list of tuple of str
        Cases of one image, which count as one patient, as `same_images` returns them.
    domains : list of str
    counts : tuple of three int
        Patients, or proportions, of the others in training, validation and test.
    seed : int
        Of their split.
    tests : collection of str
        Further cases to test on: those of ``imagesTs`` and ``labelsTs``.

    Returns
    -------
    rows : list of dict
        By name.
    notes : list of str
        On splits that were given before, patients in both parts, and cases of one image.

    Raises
    ------
    ValueError
        For a domain that there is not, fewer than three other patients, or as `split_by_patient`.

    Examples
    --------
    >>> rows = [{"case": name, "domain": site} for name, site in zip("abcd", "xxyx")]
    >>> rows, notes = hold_out(rows, [], ["y"], (1, 1, 1), seed=0)
    >>> [row["split"] for row in rows], notes
    (['validation', 'test', 'test', 'train'], [])
    """
    known = {row["domain"] for row in rows}
    unknown = set(domains) - known
    if unknown:
        raise wrong_input("--domains", named(unknown), f"some of {named(known, len(known))}")
    undrawn = [{name: row[name] for name in row if name != "split"} for row in rows]
    undrawn.sort(key=lambda row: row["case"])
    notes = ["the splits in cases.csv are replaced"] if "split" in rows[0] else []
    undrawn, same_notes = keep_together(undrawn, same)
    held, others = set(), set()
    for row in undrawn:
        is_held = row["domain"] in domains or row["case"] in tests
        (held if is_held else others).add(row.get("patient", row["case"]))
    both, others = held & others, others - held
    if len(others) < len(SPLITS):
        found = f"all but {len(others)} patients in {named(set(domains))}"
        raise wrong_input("--domains", found, "3 others or more, to train, validate and test on")
    if both:
        notes.append(f"patients who have cases in both parts, all for test: {named(both)}")
    split_of = split_by_patient(others, counts, seed) | dict.fromkeys(held, "test")
    rows = [row | {"split": split_of[row.get("patient", row["case"])]} for row in undrawn]
    return rows, [*notes, *same_notes]


def description(dataset):
    """Return what ``dataset.json`` says of SOURCE, and the list of its files."""
    given, file_ending, *_ = read_layout(dataset.folder)
    n_channels, listed = len(dataset.channels), {}
    for case in dataset.cases:
        if len(case.image_paths) < n_channels and file_ending not in PICTURES:
            found = f"{n_channels} channels in one file"
            raise wrong_input(case.image_paths[0], found, "a file for each, as nnU-Net has it")
        images = [str(path.absolute()) for path in case.image_paths]
        listed[case.name] = {"images": images, "label": str(case.label_path.absolute())}
    fields = {
        "channel_names": {str(c): name for c, name in enumerate(dataset.channels)},
        "labels": dict(zip(("background", *dataset.segments), dataset.label_values, strict=True)),
        "file_ending": file_ending,
    }
    if given:
        fields = read_fields(dataset.folder / "dataset.json")
    return fields | {"numTraining": len(listed), "dataset": listed}


if __name__ == "__main__":
    sys.exit(main())
