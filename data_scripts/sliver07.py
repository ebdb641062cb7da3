"""SLIVER07: contrast-enhanced CT of the liver, the liver CT of paper B.

SOURCE holds ``liver-orig001.mhd`` and ``liver-seg001.mhd`` with their ``.raw`` up to 020, in one
folder or several below it. Every label above 0 is liver.
"""

import sys

from segcal_lite._checks import wrong_input

from ._cases import Facts, Found, SourceCase, folder_of, missing_files, visible
from ._face import run_script
from ._splits import COUNTS_OF_B, drawn

FACTS = (
    Facts(
        script="sliver07",
        title="SLIVER07",
        organ="liver",
        modality="CT",
        cases="20 (paper B: 19)",
        size="about 3 GB",
        licence="liver segmentation research only, no redistribution",
        obtain="https://sliver07.grand-challenge.org (registration)",
        reference="Heimann et al. 2009, doi 10.1109/TMI.2009.2013851",
        papers="B",
        task="liver_ct",
    ),
)


def find(source, seed=2020):
    """Find the scans in `source`."""
    folder = folder_of(source)
    images = visible(folder.rglob("liver-orig[0-9][0-9][0-9].mhd"))
    labels = {path.stem[-3:]: path for path in visible(folder.rglob("liver-seg[0-9]*.mhd"))}
    if not images:
        raise wrong_input(source, "no liver-orig001.mhd or the like", "SLIVER07's training data")
    cases = []
    for path in images:
        number = path.stem[-3:]
        label = labels.get(number, path.with_name(f"liver-seg{number}.mhd"))
        raw = (path.with_suffix(".raw"), label.with_suffix(".raw"))
        name = f"liver{number}"
        problem = missing_files((label, *raw))
        cases.append(SourceCase(name, (path,), (label,), patient=name, problem=problem))
    return Found(
        facts=FACTS[0],
        channels=("CT",),
        segments=("liver",),
        classes={0: 0, 1: 1, 255: 1},
        cases=tuple(cases),
        split_of=drawn(cases, COUNTS_OF_B, seed),
        settings={"dataset": "sliver07", "seed": seed},
        notes=("the headers carry no direction: look at the contact sheet for mirrored scans",),
    )


if __name__ == "__main__":
    sys.exit(run_script("sliver07"))
