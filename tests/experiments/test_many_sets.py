import json
import shutil
from dataclasses import replace

import pytest
from conftest import TINY_SETS, TINY_VOLUMES, write_dataset, write_tiny_sets
from numpy.testing import assert_allclose

from segcal_lite.experiments import many_sets
from segcal_lite.experiments.claims.paper_b import parts_of_b
from segcal_lite.experiments.many_sets import open_joint_experiment
from segcal_lite.experiments.volume_scores import ScoreRequest
from segcal_lite.runs.folders import read_json, record_provenance
from segcal_lite.training.plans import chain, dedicated, joint, plan_name

SILENT_REPORT = {"report": lambda line: None}
SILENT = {"report": lambda line: None, "device": "cpu"}


def test_a_chain_trains_its_stages_first_and_shares_them(volumes):
    lines = []
    plan = chain("atrium", "cp_younger")
    volumes.train([plan, dedicated("atrium")], report=lines.append)
    for each in (plan, dedicated("atrium")):
        assert (volumes.folder(each) / "weights.safetensors").exists()
    assert volumes.folder(plan).parent.name == "atrium-then-cp_younger"
    lines.clear()
    volumes.train([plan], report=lines.append)
    assert lines == ["2 of 2 models were trained before"]


def test_every_model_is_scored_on_every_set_that_is_asked_for(volumes):
    """So that forgetting shows after each stage of a chain."""
    plans = [dedicated("atrium"), chain("atrium", "cp_younger")]
    table = volumes.metrics(plans, sets=TINY_SETS, report=lambda line: None)
    scored = table.groupby(["training", "set"]).case.nunique()
    assert scored.to_dict() == {
        (name, which): len(volumes.cases(which, "test"))
        for name in ("atrium", "atrium-then-cp_younger")
        for which in TINY_SETS
    }
    assert {"dice", "hd95_mm", "assd_mm", "ece_box", "mce_box", "ece_whole"} <= set(table.metric)
    again = volumes.metrics(plans, sets=TINY_SETS, report=lambda line: None)
    assert again.equals(table)
    own = volumes.metrics([joint("atrium", "cp_younger")], report=lambda line: None)
    assert set(own.set) == {"atrium", "cp_younger"}


def test_a_chain_whose_folder_has_a_short_name_is_whole_in_tables_and_found_by_b3(
    volumes, monkeypatch
):
    names = [f"Dataset00{number}_{'Organ' * 16}" for number in range(3)]
    sets = dict(zip(names, volumes.sets.values(), strict=True))
    renamed = replace(volumes, sets=sets, fingerprints=dict.fromkeys(names, ""))

    def score(self, requests, report):
        return [
            [{"metrics": {"dice": 0.8, "ece_box": 0.1}} for _ in self.cases(request[2], "test")]
            for request in requests
        ]

    monkeypatch.setattr(many_sets.JointExperiment, "score", score)
    whole = chain(*names)
    assert renamed.folder(whole).parent.name != plan_name(whole)
    transfer = renamed.metrics([joint(*names), whole[:1], whole[:2], whole], sets=names)
    parts = parts_of_b(transfer=transfer)["B3"]
    assert [part.name for part in parts] == [
        f"{m}, {plan_name(whole)}" for m in ("dice", "ece_box")
    ]
    assert parts[0].n_cases == len(renamed.cases(names[2], "test"))


def test_controls_and_layers_have_scores_of_their_own(volumes):
    plan = dedicated("atrium")
    scorings = [
        volumes.scoring(("last_features",)),
        volumes.scoring(("last_features",), shuffle_seed=1),
        volumes.scoring(("encoder.0", "last_features")),
    ]
    requests = [ScoreRequest(plan, False, "atrium", "test", scoring) for scoring in scorings]
    found = volumes.score(requests, lambda line: None)
    spectra = [scores[0]["spectra"] for scores in found]
    assert spectra[0] != spectra[1]
    assert spectra[2]["last_features"] == spectra[0]["last_features"]
    assert set(spectra[2]) == {"encoder.0", "last_features"}


def test_scores_are_those_of_the_settings_asked_for(volumes):
    """A run that is opened again with another number of passes or another overlap scores anew."""
    plan = dedicated("atrium")
    again = replace(volumes, profile=replace(volumes.profile, overlap=0, n_bins=3))
    one, other = (
        run.metrics([plan], report=lambda line: None).set_index(["case", "metric"]).value
        for run in (volumes, again)
    )
    assert one.index.equals(other.index)
    assert not one.xs("mce_box", level=1).equals(other.xs("mce_box", level=1))
    # two blocks of 16 lie alike in 18 voxels whatever they share: the same predictions
    nll = (metrics.xs("nll_whole", level=1) for metrics in (one, other))
    assert_allclose(*nll, rtol=1e-12)  # bins decide which voxels are added first
    alike = replace(again, profile=replace(again.profile, overlap=volumes.profile.overlap))
    folders = {
        run._score_folder(plan, False, "atrium", run.scoring()) for run in (volumes, again, alike)
    }
    assert len(folders) == 3
    assert volumes.metrics([plan], report=lambda line: None).value.tolist() == one.tolist()


@pytest.mark.parametrize("n_workers", [1, 2])
def test_volumes_are_scored_behind_the_training_of_their_model(tmp_path, monkeypatch, n_workers):
    monkeypatch.setattr(many_sets, "count_places", lambda scheduler, n_jobs, device=0: n_workers)
    sets = write_tiny_sets(tmp_path / "phantoms", ("liver_ct", "atrium"))
    run = open_joint_experiment(tmp_path, sets, **SILENT, **TINY_VOLUMES)
    plan, lines = chain("liver_ct", "atrium"), []
    stages = plan[:1], plan
    requests = [ScoreRequest(stage, False, "atrium", "test", run.scoring()) for stage in stages]
    found = run.score(requests, lines.append)
    assert [len(scores) for scores in found] == 2 * [len(run.cases("atrium", "test"))]
    assert lines[:2] == ["training 2 models", f"scoring {2 * len(found[0])} volumes"]
    ends = [line[:3] for line in lines[2:] if not line.startswith("  ")]
    assert ends == ["1/2", "2/2"]  # of trainings; scorings are not announced
    lines.clear()
    assert run.score(requests, lines.append) == found
    assert lines == ["2 of 2 models were trained before"]


def test_trainings_that_begin_and_volumes_that_are_scored_are_told_meanwhile(
    volumes, tmp_path, monkeypatch
):
    def ask(jobs, before, n_workers, finished, under_way, *place):
        under_way(list(jobs))

    run, lines = replace(volumes, out=tmp_path), []
    record_provenance(tmp_path / "provenance.json", "cpu")
    monkeypatch.setattr(many_sets, "run_in_order", ask)
    monkeypatch.setattr(many_sets, "read_scores", lambda out, names: [])
    run.score(
        [ScoreRequest(dedicated("atrium"), False, "atrium", "test", run.scoring())], lines.append
    )
    n = len(run.cases("atrium", "test"))
    assert lines[2:] == ["  atrium: no evaluation yet", f"  0 of {n} volumes are scored"]


def test_a_set_without_cases_to_score_is_named_before_anything_is_trained(volumes):
    kept = {"atrium": [c for c in volumes.sets["atrium"] if c.split != "test"]}
    run, lines = replace(volumes, sets=volumes.sets | kept), []
    with pytest.raises(ValueError, match="^set atrium: found no case in split 'test'"):
        run.metrics([dedicated("atrium")], report=lines.append)
    assert not lines
    with pytest.raises(ValueError, match="^split: found 'tets', expected one of None, 'train'"):
        volumes.cases("atrium", "tets")


def test_the_settings_that_models_were_made_with_are_recorded(volumes, tmp_path, monkeypatch):
    """Not those of an opening before or after, which trained nothing."""
    volumes.train([dedicated("atrium")], **SILENT_REPORT)
    before = read_json(volumes.out / "provenance.json")
    other = replace(volumes, profile=replace(volumes.profile, n_passes=7))
    other.train([dedicated("atrium")], **SILENT_REPORT)
    assert read_json(volumes.out / "provenance.json") == before
    record_provenance(tmp_path / "provenance.json", "cpu", {"joint": {"n_passes": 2}})
    monkeypatch.setattr(many_sets, "run_in_order", lambda *arguments: None)
    replace(other, out=tmp_path).train([dedicated("atrium")], **SILENT_REPORT)
    assert read_json(tmp_path / "provenance.json")["settings"]["joint"]["n_passes"] == 7


def test_phantoms_of_a_run_share_one_grid(volumes):
    grids = {case.labels.shape for cases in volumes.sets.values() for case in cases}
    assert grids == {(18, 18, 18)}


def test_other_settings_in_one_folder_are_refused(volumes):
    sets = volumes.out / "phantoms"
    with pytest.raises(ValueError, match=r"joint.json: found other settings: .*seed = 0"):
        open_joint_experiment(volumes.out, sets, seed=1, **SILENT, **TINY_VOLUMES)
    for crop_size in (0, (32, 32)):
        with pytest.raises(ValueError, match="crop_size: found .*, expected a list of 3 or more"):
            open_joint_experiment(
                volumes.out, sets, seed=0, crop_size=crop_size, **SILENT, **TINY_VOLUMES
            )
    with pytest.raises(ValueError, match="set: found 'kidney', expected one of 'atrium'"):
        open_joint_experiment(volumes.out, sets, ("kidney",), **SILENT, **TINY_VOLUMES)
    with pytest.raises(ValueError, match="set: found 'spleen', expected one of"):
        volumes.train([dedicated("spleen")])


def test_sets_of_ones_own(tmp_path):
    write_dataset(tmp_path / "two")
    path = tmp_path / "sets.yaml"
    entry = (
        f"{{data: {tmp_path / 'two'}, channel: FLAIR, foreground: [a, b], spacing_mm: [1, 1, 1]}}"
    )
    path.write_text(f"mine: {entry}\n")
    run = open_joint_experiment(tmp_path / "out", path, **SILENT, **TINY_VOLUMES)
    case = run.cases("mine", "test")[0]
    assert case.image.shape[0] == 1 and set(case.labels.flat) == {0, 1}
    assert case.labels.sum() == 6  # of 9 voxels in three segments
    table = run.metrics([dedicated("mine")], report=lambda line: None)
    assert table[table.metric == "dice"].value.between(0, 1).all()
    path.write_text(f"mine: {entry.replace('[a, b]', '[a]')}\n")
    with pytest.raises(ValueError, match="settings.json: found other settings"):
        open_joint_experiment(tmp_path / "out", path, **SILENT, **TINY_VOLUMES)
    shutil.rmtree(tmp_path / "out" / "sets")  # the advice; the model has still learned a and b
    other = open_joint_experiment(tmp_path / "out", path, **SILENT, **TINY_VOLUMES)
    with pytest.raises(ValueError, match="config.json: found other settings: data"):
        other.train([dedicated("mine")])


def test_a_patient_is_one_in_all_sets_of_a_folder_and_another_in_other_folders(tmp_path):
    for name in ("two", "other"):
        write_dataset(tmp_path / name)
    path = tmp_path / "sets.yaml"
    entries = {
        name: {"data": str(tmp_path / folder), "channel": "T1", "spacing_mm": [1, 1, 1]}
        for name, folder in (("first", "two"), ("second", "two"), ("third", "other"))
    }
    path.write_text(json.dumps(entries))  # is YAML
    run = open_joint_experiment(tmp_path / "out", path, **SILENT, **TINY_VOLUMES)
    first, second, third = ([c.patient for c in cases] for cases in run.sets.values())
    assert first == second and first[0] == "first/c0" and third[0] == "third/c0"
    table = run.metrics([dedicated("third")], report=lambda line: None)
    assert set(table.patient) == {c.patient for c in run.cases("third", "test")}


def test_the_others_go_on_where_a_set_is_left_out(tmp_path):
    entries, lines, out = {}, [], tmp_path / "out"
    for name, channels in (("two", ("T1", "T2")), ("one", ("T1",)), ("other", ("T1",))):
        write_dataset(tmp_path / name, channels=channels)
        entries[name] = {"data": str(tmp_path / name), "spacing_mm": [1, 1, 1]}
    path = tmp_path / "sets.yaml"
    path.write_text(json.dumps(entries))  # is YAML
    silent = SILENT | {"report": lines.append}
    with pytest.raises(ValueError, match=r"set two: found channels .* or leave_out: \[two\]"):
        open_joint_experiment(out, path, **silent, **TINY_VOLUMES)
    run = open_joint_experiment(out, path, leave_out=["two", "c4"], **silent, **TINY_VOLUMES)
    assert {name: len(cases) for name, cases in run.sets.items()} == {"one": 9, "other": 9}
    assert lines[0] == "left out by name: c4, two"
    with pytest.raises(ValueError, match="joint.json: found other settings: leave_out"):
        open_joint_experiment(out, path, leave_out=["two"], **SILENT, **TINY_VOLUMES)
    with pytest.raises(ValueError, match="leave_out: found kidney, expected sets of"):
        open_joint_experiment(tmp_path, path, leave_out=["kidney"], **SILENT, **TINY_VOLUMES)


def open_with(folder, kept):
    """Open the dataset of `write_dataset` as one set, with its first channel and organ."""
    write_dataset(folder / "two")
    path = folder / "sets.yaml"
    path.write_text(f"mine: {{data: {folder / 'two'}, channel: T1, foreground: [a], {kept}}}\n")
    return open_joint_experiment(folder / "out", path, **SILENT, **TINY_VOLUMES)


def test_an_organ_that_the_grid_loses_is_an_error_that_names_the_case(tmp_path):
    with pytest.raises(ValueError, match=r"c\d.nii.gz: found no foreground left on voxels"):
        open_with(tmp_path, "spacing_mm: [5, 5, 5]")


def test_a_crop_that_cuts_the_organ_needs_a_yes(tmp_path):
    kept = "spacing_mm: [1, 1, 1], crop_size: [2, 5, 12]"
    with pytest.raises(ValueError, match=r"two, crop_size .*: found the crop cuts away"):
        open_with(tmp_path / "no", kept)
    cut = open_with(tmp_path / "yes", f"{kept}, cut_foreground: true")
    assert [case.labels.shape for case in cut.cases("mine")] == [(2, 5, 12)] * 10


def test_what_the_crop_of_a_set_cuts_is_said_at_each_opening(tmp_path):
    kept = "spacing_mm: [1, 1, 1], crop_size: [2, 5, 12], cut_foreground: true"
    open_with(tmp_path, kept)
    lines, options = [], {"device": "cpu", **TINY_VOLUMES}
    open_joint_experiment(tmp_path / "out", tmp_path / "sets.yaml", report=lines.append, **options)
    assert any(line.startswith("mine: the crop cuts away") for line in lines)


def test_phantoms_are_cropped_as_any_other_data_with_a_yes(tmp_path):
    sets = write_tiny_sets(tmp_path / "phantoms", ("liver_ct",))
    options = {"crop_size": (8, 8, 8), **SILENT, **TINY_VOLUMES}
    with pytest.raises(ValueError, match="crop_size .*: found the crop cuts away"):
        open_joint_experiment(tmp_path / "no", sets, **options)
    run = open_joint_experiment(tmp_path / "yes", sets, cut_foreground=True, **options)
    assert {case.labels.shape for case in run.cases("liver_ct")} == {(8, 8, 8)}
