"""ACDC (cardiac cine MR, end-diastole) from its official layout to the common one.

    python data_scripts/acdc.py SOURCE TARGET [--seed 2020] [--link]

Data: Automated Cardiac Diagnosis Challenge, O. Bernard et al., "Deep Learning Techniques for
Automatic MRI Cardiac Multi-Structures Segmentation and Diagnosis: Is the Problem Solved?", IEEE
Transactions on Medical Imaging 37(11), 2018, doi 10.1109/TMI.2018.2837502. To be had from the
organisers (University Hospital of Dijon and CREATIS, Lyon), in part after registration, for
research; they state CC BY-NC-SA 4.0. Check the terms that come with your download: nothing of the
data is part of this project.

SOURCE is the folder of the 100 training patients, or the one above its ``training``. Of each
patient are used ``Info.cfg`` (ED, Group), the frame at end-diastole (frame ED) and its
``_gt``. Labels stay as they are: 1 right ventricle (RV), 2 myocardium (MYO), 3 left ventricle
(LV). Files are copied, or hard-linked, byte for byte: the headers hold the voxel size in pixdim
alone, beside a unit sform, and the package's reader resolves that.

TARGET gets ``dataset.json``, ``cases.csv`` (case, domain, split, group), ``checksums.csv`` (SHA-256
of every volume: two people with equal tables have equal data) and the volumes. Paper A uses 40,
10 and 50 patients without saying which; here the split is drawn by `seed` within each of the five
groups of 20, so 8, 2 and 10 of each. TARGET appears only when whole; a second call with
the same arguments checks it and changes nothing.
"""

import argparse
import csv
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

from segcal_lite._checks import wrong_input
from segcal_lite.splits import split_by_patient

GROUPS = {
    "DCM": "dilated cardiomyopathy",
    "HCM": "hypertrophic cardiomyopathy",
    "MINF": "myocardial infarction",
    "NOR": "normal",
    "RV": "abnormal right ventricle",
}
SPLIT = (40, 10, 50)
PATIENTS = tuple(f"patient{number:03d}" for number in range(1, 101))
DESCRIPTION = {
    "name": "ACDC, end-diastole",
    "reference": "Bernard et al. 2018, doi 10.1109/TMI.2018.2837502",
    "licence": "CC BY-NC-SA 4.0 as stated by the organisers; check the terms of your download",
    "channel_names": {"0": "cine MR"},
    "labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3},
    "numTraining": len(PATIENTS),
    "file_ending": ".nii.gz",
}


def read_info(path):
    """Return (ED, Group) from a patient's ``Info.cfg``: the frame number and the group's code."""
    if not path.is_file():
        raise wrong_input(path, "no such file", "the Info.cfg of an ACDC patient")
    text = path.read_text(encoding="utf-8", errors="replace")
    fields = dict(re.findall(r"^\s*(\w+)\s*:\s*(\S+)\s*$", text, flags=re.MULTILINE))
    frame, group = fields.get("ED", "no line"), fields.get("Group", "no line")
    if not re.fullmatch(r"[0-9]{1,2}", frame):
        raise wrong_input(f"{path}, ED", frame, "a frame number")
    if group not in GROUPS:
        raise wrong_input(f"{path}, Group", group, f"one of {', '.join(GROUPS)}")
    return int(frame), group


def find_patients(source):
    """Return for each patient the group, and the files used by their place in the target."""
    source = Path(source)
    folder = source / "training" if (source / "training").is_dir() else source
    if not folder.is_dir():
        raise wrong_input(source, "no such folder", "the ACDC training folder")
    groups, files = {}, {}
    for patient in PATIENTS:
        info = folder / patient / "Info.cfg"
        frame, groups[patient] = read_info(info)
        volume = folder / patient / f"{patient}_frame{frame:02d}.nii.gz"
        label = volume.with_name(f"{patient}_frame{frame:02d}_gt.nii.gz")
        for path in (volume, label):
            if not path.is_file():
                raise wrong_input(
                    path, "no such file", f"end-diastole (frame {frame}) as {info} says"
                )
        files |= {f"imagesTr/{patient}_0000.nii.gz": volume, f"labelsTr/{patient}.nii.gz": label}
    return groups, files


def make_tables(groups, files, seed):
    """Return the small files of the target as text by name."""
    split_of = {}
    for index, group in enumerate(GROUPS):
        members = [patient for patient in PATIENTS if groups[patient] == group]
        split_of |= split_by_patient(members, SPLIT, seed + index)
    cases = [(p, "source", split_of[p], groups[p]) for p in PATIENTS]
    sums = [(path.name, target, sha256(path)) for target, path in files.items()]
    return {
        "dataset.json": json.dumps(DESCRIPTION, indent=1) + "\n",
        "cases.csv": as_csv(("case", "domain", "split", "group"), cases),
        "checksums.csv": as_csv(("official_name", "file", "sha256"), sums),
    }


def sha256(path):
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_csv(columns, rows):
    """Return a table as text with plain line ends on every system."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def check_target(target, tables, files):
    """Raise unless an existing target is what would be written now."""
    for name, text in tables.items():
        path = target / name
        if not path.is_file() or path.read_bytes() != text.encode():
            raise wrong_input(path, "another or no content", "this conversion or no TARGET at all")
    for name, path in files.items():
        if not (target / name).is_file() or sha256(target / name) != sha256(path):
            raise wrong_input(target / name, "another or no content", f"that of {path}")


def convert(source, target, seed=2020, link=False):
    """Write ACDC's end-diastolic volumes to `target` in the common layout.

    Parameters
    ----------
    source, target : str or Path
        Official folder; folder to make. ``TARGET.partial`` beside it is replaced if it is there.
    seed : int
        Of the split.
    link : bool
        Hard links instead of copies: no space, but a change to one file changes both.

    Returns
    -------
    bool
        False if the target was there already, and whole.

    Raises
    ------
    ValueError
        Naming the file that is missing, malformed or different.
    """
    target = Path(target)
    groups, files = find_patients(source)
    tables = make_tables(groups, files, seed)
    if target.exists():
        check_target(target, tables, files)
        return False
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for subfolder in ("imagesTr", "labelsTr"):
        (partial / subfolder).mkdir(parents=True)
    for name, path in files.items():
        place_file(path, partial / name, link)
    for name, text in tables.items():
        (partial / name).write_bytes(text.encode())
    partial.rename(target)
    return True


def place_file(path, copy, link):
    """Copy or hard-link one file."""
    if not link:
        shutil.copyfile(path, copy)
        return
    try:
        copy.hardlink_to(path)
    except OSError as error:
        raise wrong_input("--link", error, "SOURCE and TARGET on one file system") from error


def main(arguments=None):
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="official ACDC training folder")
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("--seed", type=int, default=2020, help="of the split (default 2020)")
    parser.add_argument("--link", action="store_true", help="hard links instead of copies")
    options = parser.parse_args(arguments)
    try:
        written = convert(options.source, options.target, options.seed, options.link)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    sums = sha256(options.target / "checksums.csv")
    print(f"{options.target}: {'written' if written else 'already there, unchanged'}.")
    print(f"SHA-256 of its checksums.csv: {sums}")


if __name__ == "__main__":
    main()
