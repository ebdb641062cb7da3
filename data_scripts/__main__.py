"""``python -m data_scripts``: the table of datasets, for people or for ``README.md``."""

import argparse
import importlib
import sys
from pathlib import Path

SCRIPTS = (
    "phantoms",
    "brats2017",
    "acdc",
    "prostatex",
    "promise12",
    "msd",
    "chaos",
    "sliver07",
    "dhcp",
    "feta",
    "pairs",
)
COLUMNS = ("script", "title", "organ", "modality", "cases", "size", "papers", "task")
README = Path(__file__).parent / "README.md"
INTRODUCTION = """# From a public dataset to the common layout

Each script turns one official download into a folder that the notebooks open as it is:

    python -m data_scripts.NAME SOURCE DEST [--workers N] [--dry-run]

Needed besides: `msd --task 4`, `chaos --set MR`, `prostatex --masks FOLDER`, `pairs --classes
liver=1`; `--help` tells the rest.

SOURCE is the unpacked folder, or the archive itself, which is then unpacked beside it.
`--download` fetches what a licence lets a script fetch; without it nothing touches a network.
DEST gets `imagesTr`, `labelsTr`, `dataset.json`, `cases.csv` (case, domain, split, patient, group),
`sources.csv` (SHA-256 of every source file), `report.csv` and `contact_sheet.png`: look at it. The
same command goes on where it was stopped, converts nothing twice, and refuses a source that has
changed. The exit status is 1 if a case could not be converted; the report says which and why.
DICOM, MetaImage, NRRD, PNG and TIFF need `pip install -e '.[data]'` in the project's `.venv`.

In `report.csv` x, y and z count voxels, x_mm to z_mm are their sizes, min_0 and max_0 the range of
channel 0, NAME_ml a segment's volume, and doubts says what a header left open or contradicted. Of
files without a voxel size `pairs` asks for one, in a column `spacing_mm` such as 0.8x0.8x3. On the
sheet each case shows its slice with most segments; R marks the patient's right.

A folder in nnU-Net's or MSD's layout needs no conversion: `python -m data_scripts.check DIR` says
case by case whether it is fit.

This table is written by `python -m data_scripts --write-readme`.
"""


def all_facts():
    """Return the facts of every dataset, in the order of the table."""
    modules = (importlib.import_module(f"data_scripts.{name}") for name in SCRIPTS)
    return [facts for module in modules for facts in module.FACTS]


def readme_text():
    """Return ``data_scripts/README.md``: how the scripts are used, datasets, terms."""
    facts = all_facts()
    header = "| " + " | ".join(COLUMNS) + " | download |"
    lines = [header, "|---" * (len(COLUMNS) + 1) + "|"]
    for row in facts:
        cells = [f"`{row.script}`", *(getattr(row, column) for column in COLUMNS[1:-1])]
        cells += [f"`{row.task}`" if row.task else "", "yes" if row.download else "by hand"]
        lines.append("| " + " | ".join(cells) + " |")
    terms = ["| title | licence | where | cite |", "|---|---|---|---|"]
    for row in facts:
        terms.append(f"| {row.title} | {row.licence} | {row.obtain} | {row.reference} |")
    layouts = ["| script | described in | not confirmed |", "|---|---|---|"]
    for row in {row.script: row for row in facts if row.layout}.values():
        layouts.append(f"| `{row.script}` | {row.layout} | {row.unconfirmed} |")
    parts = [INTRODUCTION, "\n".join(lines), "", "## Terms", "", "\n".join(terms)]
    parts += ["", "## Where the layouts are described", "", "\n".join(layouts)]
    return "\n".join(parts) + "\n"


def listing():
    """Return the table as lines for a terminal, a block a dataset."""
    lines = []
    for row in all_facts():
        papers = f"paper {row.papers}" if row.papers else "neither paper"
        task = f", task {row.task}" if row.task else ""
        how = ", --download" if row.download else ""
        lines += [
            f"{row.script}: {row.title}",
            f"    {row.organ}; {row.modality}; {row.cases}; {row.size}",
            f"    {papers}{task}{how}",
            f"    {row.licence}; {row.obtain}",
        ]
    return lines


def main(arguments=None):
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts", description=__doc__)
    parser.add_argument("--write-readme", action="store_true", help="write data_scripts/README.md")
    if parser.parse_args(arguments).write_readme:
        README.write_text(readme_text(), encoding="utf-8")
    else:
        print("\n".join(listing()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
