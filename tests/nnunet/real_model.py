"""A real nnU-Net v2, planned, trained and asked by its own commands."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

from segcal_lite.data import load_case, read_dataset, write_volume

DATASET = "Dataset004_Organ"
PARTS = {"Tr": 10, "Ts": 10, "New": 4}  # cases to train on, to judge by, and without labels
FOLDS = (0, 1)
CONFIGURATION, PATCH = "3d_small", [24, 40, 24]  # voxels along Z, Y, X
LONGEST_S = 3600  # a command that has not ended by then hangs


def write_raw(source, folder):
    """Write cases of a dataset as nnU-Net wants them; return that folder.

    Every second case to judge by is stored from right to left, as some scanners do.
    """
    dataset = read_dataset(source)
    raw = folder / "raw" / DATASET
    for name in ("images", "labels"):
        for part in PARTS:
            (raw / f"{name}{part}").mkdir(parents=True)
    parts = [part for part, n_cases in PARTS.items() for _ in range(n_cases)]
    for number, (part, case) in enumerate(zip(parts, dataset.cases, strict=False)):
        image, labels, affine = load_case(dataset, case)
        if part == "Ts" and number % 2:
            image, labels, affine = _from_right_to_left(image, labels, affine)
        for channel, voxels in enumerate(image):
            name = f"{case.name}_{channel:04d}.nii.gz"
            write_volume(raw / f"images{part}" / name, voxels, affine)
        write_volume(raw / f"labels{part}" / f"{case.name}.nii.gz", labels, affine)
    description = {
        "channel_names": dict(enumerate(dataset.channels)),
        "labels": {name: k for k, name in enumerate(("background", *dataset.segments))},
        "numTraining": PARTS["Tr"],
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    return raw


def _from_right_to_left(image, labels, affine):
    """Return a case with its first axis reversed, and the affine that says so."""
    turn = np.diag([-1.0, 1, 1, 1])
    turn[0, 3] = len(labels) - 1
    return image[:, ::-1], labels[::-1], affine @ turn


def run(folder, *commands, n_augmenting=1):
    """Run commands of nnU-Net side by side; what one of them says is shown when it fails.

    `n_augmenting` processes transform patches: 0 does so in the one that trains.
    """
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    settings = {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": str(n_augmenting)}
    started = []
    with ExitStack() as stack:
        for number, (name, *arguments) in enumerate(commands):
            log = folder / f"{name}_{number}.log"
            process = subprocess.Popen(
                [shutil.which(name, path=Path(sys.executable).parent), *map(str, arguments)],
                env=os.environ | places | settings,
                stdout=stack.enter_context(log.open("w")),
                stderr=subprocess.STDOUT,
            )
            stack.callback(_end, process)
            started.append((process, log))
        for process, log in started:
            assert process.wait(LONGEST_S) == 0, log.read_text()[-3000:]


def _end(process):
    """Kill a command that has not ended, and the workers that it started."""
    if process.poll() is None:
        family = psutil.Process(process.pid)
        for member in (*family.children(recursive=True), family):
            member.kill()


def train(raw):
    """Plan, preprocess, and train two folds; return the folder of the trained model."""
    folder, number = raw.parents[1], int(DATASET[7:10])
    how = ("-c", "3d_fullres", "-np", 1, "-npfp", 1, "--no_pbar", "--verify_dataset_integrity")
    run(folder, ("nnUNetv2_plan_and_preprocess", "-d", number, *how))
    _add_small_configuration(folder / "preprocessed" / DATASET / "nnUNetPlans.json")
    script = Path(__file__).with_name("short_training.py")
    run(
        folder,
        *(("python", script, DATASET, CONFIGURATION, fold) for fold in FOLDS),
        n_augmenting=0,
    )
    return folder / "results" / DATASET / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"


def _add_small_configuration(path):
    """Add to nnU-Net's plans a configuration of smaller patches and fewer features."""
    plans = json.loads(path.read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    features = [8 * 2**stage for stage in range(architecture["arch_kwargs"]["n_stages"])]
    architecture["arch_kwargs"]["features_per_stage"] = features
    small = {"inherits_from": "3d_fullres", "patch_size": PATCH, "architecture": architecture}
    plans["configurations"][CONFIGURATION] = small
    path.write_text(json.dumps(plans))


def predict(images, *asked):
    """Predict a folder of images; `asked` are (trained model, its folds, folder to write)."""
    how = ("--save_probabilities", "--disable_tta", "-device", "cpu", "-npp", 1, "-nps", 1)
    command = ("nnUNetv2_predict_from_modelfolder", "-i", images, *how)
    run(
        images.parents[2],
        *((*command, "-m", model, "-o", target, "-f", *folds) for model, folds, target in asked),
    )


def with_reader(model, reader, target):
    """Copy a trained model whose plans name another of nnU-Net's readers of volumes."""
    shutil.copytree(model, target)
    plans = json.loads((target / "plans.json").read_text())
    (target / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": reader}))
    return target


def dice_of_nnunet(predicted, labels):
    """Return nnU-Net's own Dice of a folder of segmentations, by case and class."""
    files = ("-djfile", predicted / "dataset.json", "-pfile", predicted / "plans.json")
    run(predicted.parent, ("nnUNetv2_evaluate_folder", labels, predicted, *files, "-np", 1))
    summary = json.loads((predicted / "summary.json").read_text())
    return {
        (Path(row["prediction_file"]).name.removesuffix(".nii.gz"), int(k)): scores["Dice"]
        for row in summary["metric_per_case"]
        for k, scores in row["metrics"].items()
    }
