import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data_scripts.phantoms.write import write_phantoms
from segcal_lite.data.tasks import TASKS
from segcal_lite.experiments.case_scores import ScoredCase
from segcal_lite.experiments.many_sets import open_joint_experiment
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.inference import (
    case_signatures,
    case_spectrum,
    predict_case,
    predict_with_spectrum,
)
from segcal_lite.kit.results.story import story_row
from segcal_lite.runs.tables import write_table
from segcal_lite.spectral import spectral_signature
from segcal_lite.training.checkpoints import read_history

TINY = {"n_epochs": 1, "n_members": 2, "n_passes": 2, "n_resamples": 3, "widths": (4, 8)}


def silent(line):
    pass


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    write_phantoms(out / "phantoms", TASKS["heart"], 2, 2, 2, 2, n_slices=4)
    return open_experiment(out, out / "phantoms", "heart", device="cpu", report=silent, **TINY)


@pytest.fixture(scope="module")
def scores(experiment):
    return experiment.scores(report=silent)


def test_phantoms_in_the_run_folder_are_named_by_their_place_and_have_two_domains(experiment):
    assert experiment.data == "phantoms"
    assert experiment.task.name == "heart"
    assert len(experiment.split("train")) == 2
    assert len(experiment.split("test", "source")) == len(experiment.split("test", "shifted")) == 2


def test_the_long_table_has_the_declared_columns_and_methods(scores):
    assert list(scores.columns) == [
        "task",
        "data",
        "loss",
        "domain",
        "case",
        "method",
        "member",
        "n_members",
        "region",
        "metric",
        "value",
        "segment",
        "patient",
        "known",
    ]
    assert (scores.patient == scores.case).all()  # of phantoms
    assert set(scores.method) == {
        "baseline",
        "temperature",
        "vector_scaling",
        "ensemble",
        "mc_dropout",
        "oracle",
        "sweep",
    }
    assert scores[scores.method == "ensemble"].n_members.unique() == [2]
    assert set(scores.loss) == {"ce", "dice"}


def test_the_oracle_is_the_floor(scores):
    nll = scores[(scores.metric == "nll") & (scores.region == "box")]
    means = nll.groupby("method").value.mean()
    assert (means["oracle"] < means.drop("oracle")).all()


def test_scores_are_read_again_not_made_again(experiment, scores):
    def fail(line):
        assert "scoring" not in line

    assert experiment.scores(report=fail).equals(scores)


def test_pooled_results_weigh_voxels(experiment, scores):
    cases = experiment.split("test", "source")
    result = experiment.pooled("dice", "ensemble", region="whole", cases=cases)
    rows = scores[(scores.loss == "dice") & (scores.method == "ensemble")]
    rows = rows[(rows.region == "whole") & (rows.domain == "source")]
    nll = rows[rows.metric == "nll"].value.to_numpy()
    n_voxels = rows[rows.metric == "n_voxels"].value.to_numpy()
    assert result.nll == pytest.approx(np.average(nll, weights=n_voxels))
    assert result.n_voxels == n_voxels.sum()


def test_more_members_reuse_the_trained_ones(experiment, scores):
    before = experiment.members("ce")[1].folder / "weights.safetensors"
    stamp = before.stat().st_mtime_ns
    lines = []
    larger = TINY | {"n_members": 3}
    data = experiment.out / "phantoms"
    more = open_experiment(experiment.out, data, "heart", device="cpu", report=silent, **larger)
    more.train(("ce",), report=lines.append)
    assert lines[0] == "3 of 4 models were trained before"
    assert before.stat().st_mtime_ns == stamp
    assert more.scoring("ce").folder != experiment.scoring("ce").folder


def test_a_run_folder_of_other_settings_is_refused(experiment):
    given = experiment.out, experiment.out / "phantoms", "heart"
    with pytest.raises(ValueError, match=r"run.json: found other settings: .*seed = 0 \(now 1\)"):
        open_experiment(*given, device="cpu", seed=1, report=silent, **TINY)
    with pytest.raises(ValueError, match="run.json: found other settings: .*profile = 'smoke'"):
        crop = {"crop_size": (64, 64)}
        open_experiment(*given, profile="laptop", report=silent, **(TINY | crop))


@pytest.mark.slow
def test_where_jobs_run_is_no_part_of_what_a_run_is(discs, tmp_path):
    settings, found = {"device": "cpu", "report": silent, "crop_size": (32, 32), **TINY}, []
    with ThreadPoolExecutor(2) as executor:
        for place in (tmp_path / "one", tmp_path / "other"):
            for scheduler in (executor, "processes"):
                run = open_experiment(place, discs, scheduler=scheduler, **settings)
                if place.name == "one" or scheduler == "processes":
                    found.append(run.scores(["dice"], silent))
    pd.testing.assert_frame_equal(found[0], found[1])  # read again
    pd.testing.assert_frame_equal(found[0], found[2])  # made again


def test_a_dataset_of_ones_own(discs, tmp_path):
    lines = []
    tiny = {"n_epochs": 1, "n_members": 1, "n_passes": 2, "widths": (4, 8)}
    own = open_experiment(
        tmp_path, discs, crop_size=(32, 32), device="cpu", report=lines.append, **tiny
    )
    assert own.task.segments == ("ring", "core")
    table = own.scores(("ce",), report=lines.append)
    assert "oracle" not in set(table.method)
    assert set(table.case) == {"disc5"}


def test_the_patient_of_each_case_stands_in_the_scores_and_counts(discs, tmp_path):
    folder, lines = shutil.copytree(discs, tmp_path / "discs"), []
    patients = ("train,one", "train,two", "val,three", "val,four", "test,ana", "test,ana")
    rows = [f"disc{k},{patient}" for k, patient in enumerate(patients)]
    (folder / "cases.csv").write_text("\n".join(["case,split,patient", *rows]))
    tiny = {"n_epochs": 1, "n_members": 1, "n_passes": 2, "widths": (4, 8)}
    own = open_experiment(
        tmp_path / "run", folder, crop_size=(32, 32), device="cpu", report=lines.append, **tiny
    )
    scores = own.scores(("ce",), report=lines.append)
    assert set(zip(scores.case, scores.patient, strict=True)) == {
        ("disc4", "ana"),
        ("disc5", "ana"),
    }
    said = own.verdicts(scores)["test cases of source, a domain of the training cases"]
    assert said == "no conclusion: 1 patient, at least 10 needed"
    alike = replace(own, cases=[replace(case, patient=case.split) for case in own.cases])
    assert "1 validation case, at least 5" in str(alike.verdicts(scores))


def test_cases_left_out_are_part_of_the_run(discs, tmp_path):
    folder, lines = shutil.copytree(discs, tmp_path / "discs"), []
    (folder / "labelsTr" / "disc1.nii.gz").write_bytes(b"broken")
    tiny = {"crop_size": (32, 32), "device": "cpu", "report": lines.append}
    with pytest.raises(ValueError, match="disc1.nii.gz: found"):
        open_experiment(tmp_path / "run", folder, **tiny)
    own = open_experiment(tmp_path / "run", folder, leave_out=["disc1"], **tiny)
    assert [case.name for case in own.cases] == ["disc0", "disc2", "disc3", "disc4", "disc5"]
    assert "left out by name: disc1" in lines
    with pytest.raises(ValueError, match=r"run.json: .*leave_out = \['disc1'\] \(now \['disc1', "):
        open_experiment(tmp_path / "run", folder, leave_out=["disc2", "disc1"], **tiny)


def test_a_refused_dataset_leaves_the_survey_of_the_run(discs, tmp_path):
    tiny = {"crop_size": (32, 32), "device": "cpu", "report": silent}
    open_experiment(tmp_path / "run", discs, **tiny)
    before = (tmp_path / "run" / "survey.json").read_text()
    other = shutil.copytree(discs, tmp_path / "other")
    for options in ({"data": other}, {"data": discs, "leave_out": ["disc1"]}):
        with pytest.raises(ValueError, match="run.json: found other settings"):
            open_experiment(tmp_path / "run", **options, **tiny)
        assert (tmp_path / "run" / "survey.json").read_text() == before


def test_regions_and_ignored_voxels_reach_the_task_and_the_prepared_cases(discs, tmp_path):
    folder = shutil.copytree(discs, tmp_path / "discs")
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"] = {"background": 0, "disc": [1, 2], "core": 2, "ignore": 3}
    (folder / "dataset.json").write_text(json.dumps(description | {"regions_class_order": [1, 2]}))
    path = folder / "labelsTr" / "disc5.nii.gz"
    label = np.asarray(nib.load(path).dataobj).copy()
    label[:5] = 3
    nib.save(nib.Nifti1Image(label, nib.load(path).affine), path)
    run = open_experiment(tmp_path / "run", folder, crop_size=(32, 32), device="cpu", report=silent)
    assert (run.task.segments, run.task.regions) == (("disc", "core"), ((1, 2), (2,)))
    assert run.task.region_order == (1, 2)
    assert np.unique(run.split("test")[0].labels).tolist() == [-1, 0, 1, 2]


def test_an_unknown_task_and_loss_are_refused(tmp_path, experiment):
    with pytest.raises(ValueError, match="task: found 'liver', expected one of 'brain'"):
        open_experiment(tmp_path, experiment.out / "phantoms", "liver", report=silent)
    with pytest.raises(ValueError, match="loss: found 'focal'"):
        experiment.members("focal")


def test_signatures_are_those_of_the_unpadded_feature_map(experiment, scores):
    from segcal_lite.inference import predict_logits, recorded_features
    from segcal_lite.training.models import load_model

    model, settings = load_model(experiment.members("dice")[0].folder, "cpu")
    case = experiment.split("test")[0]
    with recorded_features(model.last_features) as blocks:
        predict_logits(model, case.image, settings.loss)
    feature_map = np.moveaxis(np.concatenate(blocks), 1, 0)
    expected = spectral_signature(feature_map)
    found = case_signatures(model, [case, case], settings.loss)
    assert found.shape == (2, len(feature_map))
    assert np.allclose(found, expected)
    assert case_spectrum(model, case, settings.loss).n_voxels == feature_map[0].size
    probs, spectrum = predict_with_spectrum(model, case, settings.loss)
    assert np.array_equal(probs, predict_case(model, case.image, settings.loss))
    assert np.array_equal(spectrum.signature(), found[0])


def test_padding_does_not_feed_a_signature(discs, tmp_path):
    import torch

    from segcal_lite.data.prepared import read_prepared

    tiny = {"n_epochs": 1, "n_members": 1, "widths": (4, 8), "crop_size": (32, 32)}
    own = open_experiment(tmp_path, discs, device="cpu", report=silent, **tiny)
    case = read_prepared(own.prepared_folder)[0]

    class Echo(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last_features = torch.nn.Conv2d(1, 2, kernel_size=1)

        def forward(self, image):
            return self.last_features(image)

    assert case_spectrum(Echo(), case, "ce").n_voxels == 24 * 24 * 3


def made_up_scores(dice, n_source=10):
    """Dice of single models, (member, segment) in one source domain, and of their ensemble."""
    rows = [
        ("ce", domain, f"{domain}{number}", "baseline", member, segment, "dice", value)
        for domain, n_cases in (("source", n_source), ("shifted", 9))
        for number in range(n_cases)
        for (member, segment), value in dice.items()
    ]
    columns = ["loss", "domain", "case", "method", "member", "segment", "metric", "value"]
    table = pd.DataFrame(rows, columns=columns)
    ensemble = table[table.member == 0].assign(method="ensemble")
    return pd.concat([table, ensemble], ignore_index=True)


def test_what_the_scores_allow_is_said_in_words(experiment):
    dice = {(member, segment): 0.8 for member in range(3) for segment in ("LV", "MYO")}
    assert experiment.verdicts(made_up_scores(dice)) == {
        "scalings and best epochs, by validation cases": (
            "no conclusion: 2 validation cases, at least 5 needed"
        ),
        "test cases of source, a domain of the training cases": "10 cases",
        "test cases of shifted, an unseen domain": (
            "no conclusion: 9 test cases, at least 10 needed"
        ),
        "ce ensemble where training cases come from": "mean Dice 0.80 (LV), 0.80 (MYO)",
    }


def test_a_member_that_lost_one_segment_has_collapsed(experiment):
    dice = {(member, segment): 0.8 for member in range(3) for segment in ("LV", "MYO")}
    dice[2, "MYO"] = 0.03
    found = experiment.verdicts(made_up_scores(dice))
    assert found["ce members in MYO, by test cases"] == (
        "collapsed: member 2: Dice 0.03, median of the pool 0.80"
    )
    assert "ce members in LV, by test cases" not in found


def test_poor_networks_allow_no_conclusion(experiment):
    dice = {(0, "LV"): 0.9, (0, "MYO"): 0.31}  # 0.6 on average, but one segment is not learned
    found = experiment.verdicts(made_up_scores(dice))["ce ensemble where training cases come from"]
    assert found == "no conclusion: mean Dice 0.31 (MYO), at least 0.5 needed"


def test_a_run_names_collapsed_members_and_few_cases(experiment, scores):
    member = experiment.members("ce")[1]
    path = member.folder / "history.csv"
    kept = path.read_text()
    other = read_history(experiment.members("ce")[0].folder)
    first = other.loc[other.validation_dice.idxmax()].validation_dice_present
    lines = []
    try:  # silent, and right about what is not there
        present = {"validation_dice_present": 0.03}
        history = read_history(member.folder).assign(validation_dice=0.9, **present)
        write_table(path, history, sealed=True)
        experiment.scores(report=lines.append)
        before = history.drop(columns=present).assign(validation_dice=0.02)
        write_table(path, before, sealed=True)  # of an earlier version
        assert "ce, seed 1: Dice 0.02" in experiment.collapsed("ce")[0]
    finally:
        path.write_text(kept)
    median = (first + 0.03) / 2
    named = f"ce, seed 1: Dice 0.03, median of the pool {median:.2f}"
    assert f"collapsed, and in the ensemble all the same: {named}" in lines
    few = "no conclusion: 2 test cases, at least 10 needed"
    assert f"test cases of source, a domain of the training cases: {few}" in lines
    assert f"test cases of shifted, an unseen domain: {few}" in lines
    assert any(line.startswith("scalings and best epochs") for line in lines)


def test_the_story_of_a_few_poor_cases_allows_no_conclusion(experiment, scores):
    row = story_row(experiment, report=silent)
    assert row["verdict"].startswith("no conclusion: 2 test cases, at least 10 needed; mean Dice")
    for segment in experiment.task.segments:  # one epoch on two cases learns none of them
        assert f"({segment}), at least 0.5 needed" in row["verdict"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"seed": seed}, "seed: found") for seed in ("x", 1.5, -1, True, 1e30, 10**30, None)),
        ({"device": "cuda:99"}, "device: found 'cuda:99'"),
        ({"profile": "tiny"}, "profile: found 'tiny'"),
        ({"learning_rate": "x"}, "learning_rate: found 'x'"),
        ({"crop_size": 32}, "crop_size: found 32"),
        ({"n_members": 0}, "n_members: found 0"),
        ({"epochs": 3}, "profile setting: found 'epochs'"),
        ({"cut_foreground": "no"}, "cut_foreground: found 'no'"),
        ({"leave_out": "disc1"}, "leave_out: found 'disc1'"),
        ({"scheduler": "slurm"}, "scheduler: found 'slurm'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(discs, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        open_experiment(tmp_path / "run", discs, report=silent, **({"device": "cpu"} | changes))
    assert not (tmp_path / "run").exists()
    if "n_members" not in changes:  # which paper B has not
        with pytest.raises(ValueError, match=message):
            options = {"report": silent, "device": "cpu"} | changes
            open_joint_experiment(tmp_path / "joint", discs.parent, **options)
        assert not (tmp_path / "joint").exists()


def test_scoring_says_how_far_it_is(experiment, scores):
    lines, case = [], experiment.split("test")[0].name
    ScoredCase(experiment.scoring("dice"), case).path(".csv").unlink()
    assert experiment.scores(report=lines.append).equals(scores)
    at = lines.index("scoring 1 of 8 cases and losses")
    assert lines[at + 1 : at + 4] == [
        "  scalings of 1 of 2 models are fitted",
        "  scalings of 2 of 2 models are fitted",
        "  1 of 1 are scored",
    ]
