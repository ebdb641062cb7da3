"""Medical Segmentation Decathlon (MSD): any of its ten tasks, by number.

SOURCE is the task's folder, such as ``Task04_Hippocampus``, or the one that holds it. With
``--download`` the archive is fetched into SOURCE first. Paper B uses the tasks 2, 4, 5, 7 and 9
with one foreground organ each: there the labels are merged into one, and of the prostate's two
channels T2 is kept. ``--segments own`` keeps the task's own labels and channels, as all other
tasks do.
"""

import sys
from dataclasses import replace
from pathlib import Path

from segcal_lite._checks import wrong_input
from segcal_lite.data.layouts import find_files, read_description
from segcal_lite.data.tasks import TASKS

from .convert.cases import Facts, Found, SourceCase, folder_of
from .convert.downloads import Archive
from .convert.face import run_script
from .convert.splits import COUNTS_OF_B, drawn

ADDRESS = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
ARCHIVES = {  # folder, and the MD5 that MONAI publishes of its archive
    1: ("Task01_BrainTumour", "240a19d752f0d9e9101544901065d872"),
    2: ("Task02_Heart", "06ee59366e1e5124267b774dbd654057"),
    3: ("Task03_Liver", "a90ec6c4aa7f6a3d087205e23d4e6397"),
    4: ("Task04_Hippocampus", "9d24dba78a72977dbd1d2e110310f31b"),
    5: ("Task05_Prostate", "35138f08b1efaef89d7424d2bcc928db"),
    6: ("Task06_Lung", "8afd997733c7fc0432f71255ba4e52dc"),
    7: ("Task07_Pancreas", "4f7080cfca169fa8066d17ce6eb061e4"),
    8: ("Task08_HepaticVessel", "641d79e80ec66453921d997fbf12a29c"),
    9: ("Task09_Spleen", "410d4a301da4e5b2f6f86ec3ddba524e"),
    10: ("Task10_Colon", "bad7a188931dc2f6acf72b08eb6202d0"),
}
MSD = Facts(
    script="msd",
    title="MSD, any other task",
    organ="see the task",
    modality="CT or MR",
    cases="see the task",
    size="up to 29 GB",
    licence="CC BY-SA 4.0",
    obtain="http://medicaldecathlon.com, or --download",
    reference="Antonelli et al. 2022, doi 10.1038/s41467-022-30695-9",
    papers="",
    task="",
    layout="MIC-DKFZ/nnUNet, convert_MSD_dataset.py; MONAI, DecathlonDataset; real cases of task 4",
    download=True,
)
ONE_ORGAN = {  # of paper B: the task's name here, its organ, modality, cases and size
    2: ("left_atrium", "left atrium", "MR", "20", "435 MB"),
    4: ("hippocampus", "hippocampus", "MR", "260", "28 MB"),
    5: ("prostate_mr", "prostate", "T2 MR (ADC is left out)", "32", "229 MB"),
    7: ("pancreas", "pancreas", "CT", "281", "12 GB"),
    9: ("spleen", "spleen", "CT", "41", "1.5 GB"),
}
PUBLISHED = {  # channels and segments that may be merged, as the archives' dataset.json has them
    2: (("MRI",), ("left atrium",)),
    4: (("MRI",), ("Anterior", "Posterior")),
    5: (("T2", "ADC"), ("PZ", "TZ")),
    7: (("CT",), ("pancreas", "cancer")),
    9: (("CT",), ("spleen",)),
}
CHANNEL = {5: (0,)}  # T2 of T2 and ADC


def facts_of(number):
    """Return the row of one task in the table of datasets."""
    if number not in ONE_ORGAN:
        return replace(MSD, title=f"MSD {ARCHIVES[number][0]}")
    task, organ, modality, cases, size = ONE_ORGAN[number]
    return replace(
        MSD,
        title=f"MSD {ARCHIVES[number][0]}",
        organ=organ,
        modality=modality,
        cases=cases,
        size=size,
        papers="B",
        task=task,
    )


FACTS = (*map(facts_of, ONE_ORGAN), MSD)


def add_options(parser):
    """Add which task it is, and what becomes of its labels."""
    number = {"type": int, "choices": ARCHIVES, "metavar": "1..10"}
    parser.add_argument("--task", **number, required=True, help="4 is the hippocampus")
    parser.add_argument(
        "--segments", choices=("one", "own"), help="default one for 2, 4, 5, 7, 9; else own"
    )


def archive(task, **_):
    """Return the archive that ``--download`` fetches."""
    name, md5 = ARCHIVES[task]
    return Archive(f"{ADDRESS}/{name}.tar", f"md5:{md5}", name)


def find(source, task, seed=2020, segments=None):
    """Find the labelled cases of a task in `source`.

    Parameters
    ----------
    source : path
    task : int
        1 to 10.
    seed : int
        Of the split.
    segments : {"one", "own"}, optional
        One foreground organ, or the task's own labels and channels.

    Returns
    -------
    Found
    """
    folder = folder_of(source, ARCHIVES[task][0])
    given = read_description(folder)
    if given is None:
        expected = f"the folder {ARCHIVES[task][0]}"
        raise wrong_input(folder / "dataset.json", "no such file", expected)
    segments = segments or ("one" if task in ONE_ORGAN else "own")
    merged = segments == "one"
    if merged and task not in ONE_ORGAN:
        known = ", ".join(map(str, ONE_ORGAN))
        raise wrong_input(
            "--segments", f"one, for task {task}", f"own, or one of the tasks {known}"
        )
    if merged:
        _check_published(folder, task, given)
    images, labels = find_files(folder, given.file_ending)
    channels = CHANNEL.get(task, ()) if merged else ()
    cases = tuple(
        _find_case(folder, name, images, labels, channels) for name in given.training or labels
    )
    return Found(
        facts=facts_of(task),
        channels=TASKS[ONE_ORGAN[task][0]].channels if merged else given.channels,
        segments=(ONE_ORGAN[task][1],) if merged else given.segments,
        classes={value: min(k, 1) if merged else k for k, value in enumerate(given.label_values)},
        cases=cases,
        split_of=drawn(cases, COUNTS_OF_B, seed),
        settings={"dataset": "msd", "task": task, "seed": seed, "segments": segments},
        notes=_notes(given, merged, channels),
    )


def _check_published(folder, task, given):
    """Refuse to merge labels that are not the published ones."""
    for kind, ours, theirs in (
        ("channels", given.channels, PUBLISHED[task][0]),
        ("labels", given.segments, PUBLISHED[task][1]),
    ):
        if [name.casefold() for name in ours] != [name.casefold() for name in theirs]:
            expected = f"{', '.join(theirs)} (or --segments own)"
            raise wrong_input(f"{folder / 'dataset.json'}, {kind}", ", ".join(ours), expected)


def _find_case(folder, name, images, labels, channels):
    """Return one case of the ``training`` list, whose image holds all channels."""
    absent = [
        str(Path(folder) / place / f"{name}.nii.gz")
        for place, found in (("imagesTr", images), ("labelsTr", labels))
        if name not in found
    ]
    return SourceCase(
        name,
        images=tuple(images.get(name, {}).values()),
        labels=(labels[name],) if name in labels else (),
        patient=name,
        beside=(Path(folder) / "dataset.json",),
        channels=channels,
        problem=f"no such file: {', '.join(absent)}" if absent else "",
    )


def _notes(given, merged, channels):
    """Say what was merged and left out."""
    notes = []
    if merged and len(given.segments) > 1:
        notes.append(f"{' and '.join(given.segments)} are merged into one organ, as paper B has it")
    if channels:
        kept = ", ".join(given.channels[c] for c in channels)
        notes.append(f"of the channels {', '.join(given.channels)} only {kept} is kept")
    return tuple(notes)


if __name__ == "__main__":
    sys.exit(run_script("msd"))
