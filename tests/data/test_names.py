"""Cases, domains and segments whose names look like numbers or gaps, from files to notebooks."""

import csv
import json
from functools import partial

import matplotlib.pyplot as plt
import nbformat
import pytest
from conftest import write_discs

from segcal_lite.experiments import one_dataset as experiments
from segcal_lite.kit.notebook_sources import tags
from segcal_lite.runs.folders import project_root

TRAINING = ("1e5", "True", "-0.0", "1e400", "2024-01-01")  # the last two validate
TEST = ("002", "005", "01", "1", "NA", "nan", "null", "None", "inf", "a, b", 'the "left" one', "é")
TINY = {"widths": (4, 8), "n_passes": 2, "n_resamples": 3, "crop_size": (32, 32)}


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory):
    """Discs whose cases, domains and segments look like numbers, gaps and worse."""
    folder = tmp_path_factory.mktemp("data") / "007"
    names = (*TRAINING, *TEST)
    write_discs(folder, n_cases=len(names))
    splits = ("train",) * 3 + ("validation",) * 2 + ("test",) * len(TEST)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "domain", "split"])
        for number, (name, split) in enumerate(zip(names, splits, strict=True)):
            for place, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
                path = folder / place / f"disc{number}{ending}"
                path.rename(path.with_name(name + ending))
            writer.writerow([name, ("1.5", "3")[number % 2], split])
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"] = {"background": 0, "1": 1, "2": 2}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """One run for both notebooks: the second finds the models and scores of the first."""
    return tmp_path_factory.mktemp("run")


def run_cells(name, monkeypatch, **parameters):
    """Run a notebook's code in this process, at a size for tests; return its variables."""
    monkeypatch.setattr(
        experiments, "open_experiment", partial(experiments.open_experiment, **TINY)
    )
    monkeypatch.setattr(plt, "show", lambda: None)
    source = nbformat.read(project_root() / "notebooks" / f"{name}.ipynb", as_version=4)
    variables = {"In": [], "display": lambda *shown: None}  # as a kernel has them
    for cell in source.cells:
        if cell.cell_type != "code" or {"exercise", "solution", "check"} & set(tags(cell)):
            continue
        exec(compile(cell.source, f"{name}: {cell.source[:40]!r}", "exec"), variables)
        if "parameters" in tags(cell):
            variables |= parameters
    plt.close("all")
    return variables


@pytest.mark.slow
@pytest.mark.parametrize("name", ["03_calibration", "04_segment_entropy"])
def test_notebooks_show_every_case(name, oddly_named, run_folder, monkeypatch):
    chosen = {"data": str(oddly_named), "task": None, "out": str(run_folder), "device": "cpu"}
    found = run_cells(name, monkeypatch, n_epochs=1, n_members=2, **chosen)
    scores = found["scores"]
    assert set(scores.case) == set(TEST)
    assert set(scores.domain) == set(found["domains"]) == {"1.5", "3"}
    assert set(scores.segment.dropna()) == {"1", "2"}
    if name == "03_calibration":
        assert set(found["case_values"]("nll", "box").index) == set(found["rows"].case)
        assert {"Dice 1", "HD95 2 (mm)"} <= set(found["table"].columns)
    else:
        assert {(row.case, row.segment) for row in found["ensembles"]["dice"].itertuples()} == {
            (case, segment) for case in TEST for segment in ("1", "2")
        }
