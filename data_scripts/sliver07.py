"""SLIVER07: contrast-enhanced CT of the liver, the liver CT of paper B.

SOURCE holds ``liver-orig001.mhd`` and ``liver-seg001.mhd`` with their ``.raw`` up to 020, in one
folder or several below it. The liver is 1 (or 255). Test scans, in a folder called test, are left
out.
"""

import sys

from segcal_lite._checks import wrong_input
from segcal_lite.data.other_formats import voxel_files

from .convert.cases import (
    Facts,
    Found,
    SourceCase,
    folder_of,
    keyed,
    missing_files,
    outside_test_folders,
    visible,
)
from .convert.face import run_script
from .convert.splits import COUNTS_OF_B, drawn

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
        layout="constantinpape/torch-em, sliver07.py",
        unconfirmed="the mask's value (1 or 255 is taken), mirrored scans",
    ),
)


def number_of(path):
    """Return the three digits of a file's name."""
    return path.stem[-3:]


def find(source, seed=2020):
    """Find the scans in `source`."""
    folder = folder_of(source)
    images, labels = (
        keyed(outside_test_folders(visible(folder.rglob(stem), ".mhd"), folder), number_of)
        for stem in ("liver-orig[0-9]*", "liver-seg[0-9]*")
    )
    if not images:
        raise wrong_input(source, "no liver-orig001.mhd or the like", "SLIVER07's training data")
    cases = []
    for number, path in images.items():
        label = labels.get(number, path.with_name(f"liver-seg{number}.mhd"))
        problem = missing_files((label, *voxel_files(path), *voxel_files(label)))
        name = f"liver{number}"
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
