"""PROSTATEx: axial T2 MR in DICOM, with public masks of the prostate.

SOURCE is the TCIA download with *descriptive* names, ``ProstateX-0006/<study>/4-t2tsetra-98209``
below any other folders; folders that are named by UID, and DICOM SEG masks, are not read.
``--masks`` is one of two public sets:

- PROSTATEx_masks (R. Cuocolo et al.): the repository, or its ``Files/prostate`` with
  ``mask_prostate``; 204 patients.
- The zones of A. Meyer et al., which paper A used: folders ``ProstateX-0004`` with one NRRD each,
  below ``GT Export`` or wherever they were unpacked; all zones together are the gland.

Patients have several axial T2 series. Taken is the one with the series number in the set's own
list, if it has one, and it has to lie on the mask's grid; a patient for whom no series or more
than one is left is refused. A patient with a mask but no images is reported, and still counts in
the draw of the split (16 : 4 : 20, the sizes of paper A).
"""

import re
import sys
from pathlib import Path

from segcal_lite._checks import wrong_input
from segcal_lite.data.volumes import check_same_grid, read_label

from .convert.cases import Facts, Found, SourceCase, folder_of, keyed, visible
from .convert.face import run_script
from .convert.reading import read_series, turned_like
from .convert.splits import drawn
from .convert.tables import read_table

FACTS = (
    Facts(
        script="prostatex",
        title="PROSTATEx",
        organ="prostate",
        modality="T2 MR",
        cases="204 with PROSTATEx_masks, 98 with Meyer's (paper A: 40)",
        size="15 GB with all series",
        licence="images: TCIA terms; PROSTATEx_masks: CC BY 4.0",
        obtain=(
            "https://www.cancerimagingarchive.net/collection/prostatex; masks: "
            "https://github.com/rcuocolo/PROSTATEx_masks or "
            "http://isgwww.cs.uni-magdeburg.de/cas/isbi2019"
        ),
        reference=(
            "Litjens et al. 2017, doi 10.7937/K9TCIA.2017.MURS5CL; masks: Cuocolo et al. 2021 "
            "(European Journal of Radiology) or Meyer et al. 2019 (ISBI)"
        ),
        papers="A",
        task="prostate",
        layout=(
            "rcuocolo/PROSTATEx_masks (names, list, issues); "
            "AnnekeMeyer/zone-segmentation; constantinpape/torch-em, prostatex.py"
        ),
        unconfirmed=(
            "names and stored values of Meyer's NRRD files (any 1 to 4 is taken for gland)"
        ),
    ),
)
SPLIT = (16, 4, 20)
PATIENT = re.compile(r"ProstateX-([0-9]+)")
AXIAL_T2 = re.compile(r"^([0-9]+)(?:\.0+)?-.*t2_?tse_?tra", re.IGNORECASE)
MASK_NAME = re.compile(r"(?:ProstateX|VOLUME)-([0-9]+)(?i:\.nii\.gz)")


def add_options(parser):
    """Add where the masks are."""
    parser.add_argument(
        "--masks", type=Path, required=True, help="folder of one of the two sets of masks"
    )


def find(source, masks, seed=2020):
    """Find the patients who have a mask, and their axial T2 series in `source`."""
    patients = _find_patients(folder_of(source))
    labels, series_numbers, kind = _find_masks(folder_of(masks))
    if not patients:
        expected = "the TCIA download, with folders such as ProstateX-0006/<study>/4-t2tsetra-98209"
        raise wrong_input(source, "no patient with axial T2 series", expected)
    cases = tuple(
        _find_case(number, patients.get(number, {}), labels[number], series_numbers.get(number))
        for number in sorted(labels)
    )
    return Found(
        facts=FACTS[0],
        channels=("T2",),
        segments=("prostate",),
        classes=dict.fromkeys(range(1, 5), 1) | {0: 0, 255: 1},
        cases=cases,
        split_of=drawn(cases, SPLIT, seed),
        settings={"dataset": "prostatex", "seed": seed, "masks": kind},
        notes=("all zones together are the gland",) if kind == "Meyer" else (),
    )


def _find_masks(folder):
    """Return the mask and, where the set lists it, the series number of each patient."""
    whole_glands = visible(folder.rglob("mask_prostate"))
    if len(whole_glands) > 1:
        raise wrong_input(folder, ", ".join(map(str, whole_glands)), "one folder mask_prostate")
    if whole_glands:
        masks = [path for path in whole_glands[0].iterdir() if MASK_NAME.fullmatch(path.name)]
        labels = keyed(visible(masks), lambda path: int(MASK_NAME.fullmatch(path.name)[1]))
        return labels, _series_numbers(whole_glands[0].parent / "image_list.csv"), "PROSTATEx_masks"
    zones = [
        path for path in visible(folder.rglob("*"), ".nrrd") if PATIENT.search(path.parent.name)
    ]
    if not zones:
        expected = "mask_prostate/ProstateX-0000.nii.gz or ProstateX-0000/*.nrrd"
        raise wrong_input(folder, "no mask", expected)
    return keyed(zones, lambda path: int(PATIENT.search(path.parent.name)[1])), {}, "Meyer"


def _series_numbers(path):
    """Return the series number of each patient from ``image_list.csv``."""
    if not path.is_file():
        raise wrong_input(path, "no such file", "the list of series of PROSTATEx_masks")
    rows = read_table(path).iloc[:, 0]
    matches = rows.str.extract(r"ProstateX-([0-9]+).*_([0-9]+)[a-z]?$").dropna().astype(int)
    return dict(zip(matches[0], matches[1], strict=True))


def _find_patients(folder):
    """Return the number of each axial T2 series by its folder, for each patient's number."""
    patients = {}
    for path in visible(folder.rglob("ProstateX-[0-9]*")):
        match = PATIENT.fullmatch(path.name)
        for series in visible(path.glob("*/*")) if match else []:
            number = AXIAL_T2.match(series.name)
            if number and series.is_dir():
                patients.setdefault(int(match[1]), {})[series] = int(number[1])
    return patients


def _find_case(number, series, label, series_number):
    """Return one patient with all candidate series; which of them fits is seen when it is read."""
    name = f"ProstateX-{number:04d}"
    if series_number is not None:
        series = {path: n for path, n in series.items() if n == series_number}
    slices = tuple(tuple(visible(path.iterdir(), ".dcm")) for path in series)
    problem = ""
    if not slices:
        which = "" if series_number is None else f" with the number {series_number}"
        expected = "a folder such as ProstateX-0006/<study>/4-t2tsetra-98209"
        problem = str(wrong_input(name, f"no axial T2 series{which}", expected))
    return SourceCase(name, images=slices, labels=(label,), patient=name, problem=problem)


def read_case(case):
    """Read the mask, and the one series of the candidates that lies on its grid."""
    label = read_label(case.labels[0])
    fitting, reasons = [], []
    for slices in case.images:
        try:
            volume = read_series(slices)
            turned = turned_like(label, volume)
            check_same_grid(volume, turned)
            fitting.append((volume, turned))
        except ValueError as error:
            reasons.append(str(error))
    if len(fitting) != 1:
        found = f"{len(fitting)} of {len(case.images)} axial T2 series on its grid"
        detail = f"one ({' '.join(reasons)})" if reasons else "one"
        raise wrong_input(case.labels[0], found, detail)
    volume, turned = fitting[0]
    return [volume], turned


if __name__ == "__main__":
    sys.exit(run_script("prostatex"))
