"""The whole chain on real volumes: few patients, one epoch; it must run, not be good."""

import csv
import json
import shutil

import numpy as np
import papermill
import pytest

from segcal_lite.experiments import open_experiment
from segcal_lite.runs import project_root


def subset(source, target, cases):
    """Copy some cases of a dataset in MSD's layout."""
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
        for case in cases:
            shutil.copy(source / name / f"{case}.nii.gz", target / name)
    description = json.loads((source / "dataset.json").read_text())
    description["training"] = []
    (target / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="module")
def hippocampi(real_data, tmp_path_factory):
    """Ten cases of the Medical Segmentation Decathlon's task 4."""
    source = real_data / "Task04_Hippocampus"
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (source / "labelsTr").iterdir())
    target = tmp_path_factory.mktemp("data") / "hippocampi"
    subset(source, target, [case for case in cases if not case.startswith(".")][:10])
    return target


@pytest.fixture(scope="module")
def hearts(real_data, tmp_path_factory):
    """Eight patients of ACDC as ``data_scripts/acdc.py`` lays them out."""
    target = tmp_path_factory.mktemp("data") / "hearts"
    rows = [("case", "domain", "split")]
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
    for number in range(1, 9):
        patient = f"patient{number:03d}"
        frame = f"{patient}/{patient}_frame01"
        official = real_data / "ACDC" / "training"
        shutil.copy(official / f"{frame}.nii.gz", target / f"imagesTr/{patient}_0000.nii.gz")
        shutil.copy(official / f"{frame}_gt.nii.gz", target / f"labelsTr/{patient}.nii.gz")
        rows.append((patient, "source", ("train", "validation", "test", "test")[number % 4]))
    labels = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    description = {"channel_names": {"0": "cine MR"}, "labels": labels, "file_ending": ".nii.gz"}
    (target / "dataset.json").write_text(json.dumps(description))
    with (target / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return target


def test_a_users_own_dataset_without_task_or_split(hippocampi, tmp_path):
    lines = []
    experiment = open_experiment(
        tmp_path, hippocampi, device="cpu", report=lines.append, n_epochs=1, n_members=2
    )
    assert experiment.task.segments == ("Anterior", "Posterior")
    assert any("seed 0" in line for line in lines)
    scores = experiment.scores(report=lines.append)
    assert np.isfinite(scores[scores.metric == "nll"].value).all()
    assert "oracle" not in set(scores.method)
    assert scores.case.nunique() == len(experiment.split("test"))


def test_a_notebook_on_real_hearts(hearts, tmp_path):
    papermill.execute_notebook(
        project_root() / "notebooks" / "03_calibration.ipynb",
        tmp_path / "out.ipynb",
        parameters={
            "data": str(hearts),
            "task": "heart",
            "out": str(tmp_path / "run"),
            "n_epochs": 1,
            "n_members": 2,
        },
        kernel_name="python3",
        progress_bar=False,
        cwd=project_root() / "notebooks",
    )
    table = (tmp_path / "run" / "tables" / "calibration.csv").read_text()
    assert "ensemble" in table
    assert "oracle" not in table
