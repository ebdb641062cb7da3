"""``python -m data_scripts``: the table of datasets, for people or for ``README.md``."""

import argparse
import importlib
import sys
from pathlib import Path

from segcal_lite.kit.environment import escape_other_letters
from segcal_lite.kit.results.published import fill_readme, markdown_table

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
DOWNLOADED = {True: "yes", False: "by hand"}
README = Path(__file__).parent / "README.md"


def all_facts():
    """Return the facts of every dataset, in the order of the table."""
    modules = (importlib.import_module(f"data_scripts.{name}") for name in SCRIPTS)
    return [facts for module in modules for facts in module.FACTS]


def datasets_table():
    """What each script converts."""
    rows = []
    for row in all_facts():
        cells = [f"`{row.script}`", *(getattr(row, column) for column in COLUMNS[1:-1])]
        rows.append([*cells, f"`{row.task}`" if row.task else "", DOWNLOADED[row.download]])
    return markdown_table([*COLUMNS, "download"], rows)


def terms_table():
    """Under which terms each dataset is given, and how to cite it."""
    rows = [[row.title, row.licence, row.obtain, row.reference] for row in all_facts()]
    return markdown_table(["title", "licence", "where", "cite"], rows)


def layouts_table():
    """Where the official layouts are described; one row a script."""
    described = {row.script: row for row in all_facts() if row.layout}.values()
    rows = [[f"`{row.script}`", row.layout, row.unconfirmed] for row in described]
    return markdown_table(["script", "described in", "not confirmed"], rows)


TABLES = {"datasets": datasets_table, "terms": terms_table, "layouts": layouts_table}


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
    """Print the table, or fill the README's."""
    escape_other_letters()
    parser = argparse.ArgumentParser(prog="python -m data_scripts", description=__doc__)
    parser.add_argument("--write-readme", action="store_true", help="fill data_scripts/README.md")
    if parser.parse_args(arguments).write_readme:
        fill_readme(README, TABLES)
    else:
        print("\n".join(listing()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
