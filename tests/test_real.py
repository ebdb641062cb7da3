"""The whole chain on real volumes: few patients, one epoch; it must run, not be good."""

import hashlib
import json
import shutil
import tarfile

import numpy as np
import pandas as pd
import papermill
import pytest
from local_server import served

from data_scripts import check
from data_scripts.convert.face import run_script
from segcal_lite.data.datasets import load_case, read_dataset
from segcal_lite.data.splits import SPLITS, same_images
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.kit import commands
from segcal_lite.runs.folders import project_root


def subset(source, target, cases):
    """Copy some cases of a dataset in nnU-Net's or MSD's layout."""
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
        for case in cases:
            for path in (source / name).glob(f"{case}*.nii.gz"):
                shutil.copy(path, target / name)
    description = json.loads((source / "dataset.json").read_text())
    if "training" in description:
        description["training"] = [
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}
            for case in cases
        ]
    (target / "dataset.json").write_text(json.dumps(description))


def labelled_cases(source):
    """Names of the cases that have a label."""
    paths = sorted((source / "labelsTr").glob("[!.]*.nii.gz"))
    return [path.name.removesuffix(".nii.gz") for path in paths]


@pytest.fixture(scope="module")
def hippocampi(real_data, tmp_path_factory):
    """Ten cases of the Medical Segmentation Decathlon's task 4."""
    source = real_data / "Task04_Hippocampus"
    target = tmp_path_factory.mktemp("data") / "Task04_Hippocampus"
    subset(source, target, labelled_cases(source)[:10])
    return target


@pytest.fixture(scope="module")
def hearts(real_data, tmp_path_factory):
    """The 100 patients of ACDC, converted by their script."""
    target = tmp_path_factory.mktemp("data") / "hearts"
    assert run_script("acdc", [str(real_data / "ACDC"), str(target)]) == 0
    return target


def test_acdc_goes_through_its_script(hearts):
    dataset = read_dataset(hearts, task="heart")
    assert len(dataset.cases) == 100
    splits = pd.read_csv(hearts / "cases.csv", index_col="case").split
    same = same_images({case.name: case.image_paths for case in dataset.cases})
    assert all(splits[list(group)].nunique() == 1 for group in same)  # patient074, patient076
    n_moved = sum(len(group) - 1 for group in same)
    for split, n_patients in (("train", 40), ("validation", 10), ("test", 50)):
        assert abs((splits == split).sum() - n_patients) <= n_moved
    report = pd.read_csv(hearts / "report.csv")
    assert report.x_mm.between(0.7, 2).all()  # of pixdim: the sform holds 1 mm
    assert report.z_mm.between(5, 10).all()
    assert report.LV_ml.between(30, 500).all()  # an end-diastolic volume of people
    image, labels, affine = load_case(dataset, dataset.cases[0])
    assert labels.max() == 3
    assert np.linalg.norm(affine[:3, 0]) == pytest.approx(report.x_mm[0], abs=1e-3)


def test_acdc_is_not_converted_twice(hearts, real_data, capsys):
    assert run_script("acdc", [str(real_data / "ACDC"), str(hearts)]) == 0
    assert "100 complete, 0 to convert" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["TCGA_LGG", "Fetal_CP", "OpenKBP_CT", "Task04_Hippocampus"])
def test_folders_in_a_known_layout_are_fit_as_they_are(real_data, name, capsys):
    assert check.main([str(real_data / name)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    n_cases = len(labelled_cases(real_data / name))
    assert last == f"{n_cases} of {n_cases} cases are fit"


def test_hippocampus_from_a_server_to_a_page(hippocampi, tmp_path):
    """One command: download, check, unpack, convert, five notebooks, page."""
    archive = tmp_path / "Task04_Hippocampus.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(hippocampi, hippocampi.name)
    content = archive.read_bytes()
    with served(content) as server:
        code = commands.hippocampus(
            profile="smoke",
            source=tmp_path / "sources",
            data=tmp_path / "Hippocampus",
            out=tmp_path / "run",
            seed=0,
            device="cpu",
            mirror=server.url,
            checksum=f"md5:{hashlib.md5(content).hexdigest()}",
        )
    assert code == 0
    dataset = read_dataset(tmp_path / "Hippocampus", task="hippocampus")
    assert len(dataset.cases) == 10
    page = (tmp_path / "run" / "index.html").read_text()
    assert "hippocampus" in page
    table = pd.read_csv(tmp_path / "run" / "tables" / "calibration.csv")
    assert {"baseline", "ensemble", "mc_dropout"} <= set(table.method)


@pytest.mark.parametrize("name", ["01_preprocessing", "02_training", "03_calibration"])
def test_notebooks_on_brain_tumours_of_several_sites(real_data, tmp_path_factory, name):
    """A user's own folder with three channels, without a task; the notebooks share one run."""
    folder = tmp_path_factory.getbasetemp() / "gliomas"
    source = real_data / "TCGA_LGG"
    if not folder.exists():
        subset(source, folder, labelled_cases(source)[::5])
        rows = pd.read_csv(source / "cases.csv")
        kept = rows[rows.case.isin(labelled_cases(folder))]
        kept.to_csv(folder / "cases.csv", index=False)
    papermill.execute_notebook(
        project_root() / "notebooks" / f"{name}.ipynb",
        folder.with_name(f"{name}.ipynb"),
        parameters={
            "data": str(folder),
            "task": None,
            "out": str(folder.with_name("gliomas-run")),
            "n_epochs": 1,
            "n_members": 2,
        },
        kernel_name="python3",
        progress_bar=False,
        cwd=project_root() / "notebooks",
    )


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
    """Eight of the 100: ``cases.csv`` decides which."""
    rows = pd.read_csv(hearts / "cases.csv")
    few = pd.concat(
        [rows[rows.split == name].head(n) for name, n in zip(SPLITS, (2, 2, 4), strict=True)]
    )
    folder = shutil.copytree(hearts, tmp_path / "few", ignore=shutil.ignore_patterns("cases.csv"))
    few.to_csv(folder / "cases.csv", index=False)
    papermill.execute_notebook(
        project_root() / "notebooks" / "03_calibration.ipynb",
        tmp_path / "out.ipynb",
        parameters={
            "data": str(folder),
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
