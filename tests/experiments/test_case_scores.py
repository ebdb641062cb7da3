import errno
import io
import shutil
import tempfile
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import monai
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REGIONS

from segcal_lite.calibration import CalibrationSums, expected_calibration_error, nll
from segcal_lite.data.prepared import read_prepared
from segcal_lite.ensembles import mean_probability
from segcal_lite.entropy import segment_entropy
from segcal_lite.experiments import case_scores as evaluation
from segcal_lite.experiments.case_scores import (
    ScoredCase,
    Scoring,
    fit_member_scalings,
    fit_scalings,
    score_cases,
)
from segcal_lite.experiments.scores import score_probabilities
from segcal_lite.inference import mc_dropout_passes, predict_case, predict_logits, softmax
from segcal_lite.runs.folders import model_folder, read_json, write_json
from segcal_lite.runs.tables import read_table
from segcal_lite.scaling import fit_temperature
from segcal_lite.segmentation_metrics import dice_coefficient, hausdorff95, surface_metrics
from segcal_lite.training.checkpoints import trained_digest
from segcal_lite.training.models import TrainingSettings, load_model
from segcal_lite.training.on_slices import train_model


@pytest.fixture(scope="module")
def scored(prepared, tmp_path_factory):
    """Scores of two Dice members and a dropout model on the test disc."""
    task, profile, folder, data = prepared
    out = tmp_path_factory.mktemp("out")
    profile = replace(profile, widths=(4, 8), n_epochs=2)
    folders = {}
    for dropout in (False, True):
        folders[dropout] = []
        for seed in range(1 if dropout else 2):
            settings = TrainingSettings.gather(task, profile, data, "dice", seed, dropout)
            target = model_folder(out, "unet2d", "dice", seed, settings.dropout)
            train_model(target, folder, settings, "cpu")
            folders[dropout].append(target)
    scoring = Scoring(
        out=out,
        loss="dice",
        members=tuple(folders[False]),
        dropout_members=tuple(folders[True]),
        segments=task.segments,
        ensemble_sizes=(1, 2),
        n_resamples=4,
        n_passes=3,
        n_bins=10,
        seed=0,
    )
    for member in scoring.members:
        fit_member_scalings(member, folder, "cpu")
    score_cases(scoring, folder, ["disc5"], "cpu")
    case = {case.name: case for case in read_prepared(folder)}["disc5"]
    return scoring, case, read_table(scoring.folder / "disc5.csv")


def value_of(table, **conditions):
    chosen = table
    for column, value in conditions.items():
        chosen = chosen[chosen[column] == value]
    assert len(chosen) == 1
    return chosen.value.item()


def cut(case, probs, region):
    box = case.regions[region]
    return np.asarray(case.labels[box]), probs[(slice(None), *box)]


@pytest.mark.parametrize("region", ["whole", "box"])
def test_rows_are_the_plain_functions_on_the_region(scored, region):
    scoring, case, table = scored
    models = [load_model(folder, "cpu")[0] for folder in scoring.members]
    members = [predict_case(model, case.image, "dice") for model in models]
    ensemble = mean_probability(members).astype(np.float32)
    for method, index, probs in (("baseline", 1, members[1]), ("ensemble", 0, ensemble)):
        labels, chosen = cut(case, probs, region)
        where = {"method": method, "member": index, "region": region}
        assert value_of(table, metric="nll", **where) == pytest.approx(nll(labels, chosen))
        ece = expected_calibration_error(labels, chosen)
        assert value_of(table, metric="ece", **where) == pytest.approx(ece)


def test_segmentation_rows_are_on_the_whole_volume_in_mm(scored):
    scoring, case, table = scored
    probs = predict_case(load_model(scoring.members[0], "cpu")[0], case.image, "dice")
    labels, probs = cut(case, probs, "whole")
    masks = labels == 1, probs.argmax(axis=0) == 1
    where = {"method": "baseline", "member": 0, "segment": "ring"}
    assert value_of(table, metric="dice", **where) == pytest.approx(dice_coefficient(*masks))
    expected = hausdorff95(*masks, case.spacing_mm)
    assert value_of(table, metric="hd95_mm", **where) == pytest.approx(expected)


def test_distances_on_one_slice_are_those_of_its_contours():
    """As MONAI gives them in 2D; as a volume every voxel of a slice would be surface."""
    rng = np.random.default_rng(3)
    probs = rng.dirichlet((1, 1), (30, 24, 1)).transpose(3, 0, 1, 2)
    probs[1, 6:22, 5:19], probs[1, :4], probs[1, -4:] = 0.9, 0.1, 0.1
    probs[0] = 1 - probs[1]
    truth = np.zeros((30, 24, 1), np.uint8)
    truth[4:24, 4:16] = 1
    rows = score_probabilities(truth, probs, (0.8, 1.2, 5.0), ("organ",)).rows
    found = {row["metric"]: row["value"] for row in rows}
    masks = [torch.tensor(mask[None, None, ..., 0]) for mask in (truth == 1, probs.argmax(0) == 1)]
    settings = {"include_background": True, "spacing": (0.8, 1.2)}
    hd95 = monai.metrics.compute_hausdorff_distance(*masks, percentile=95, **settings)
    assd = monai.metrics.compute_average_surface_distance(*masks, symmetric=True, **settings)
    assert found["hd95_mm"] == pytest.approx(hd95.item(), rel=1e-6)
    assert found["assd_mm"] == pytest.approx(assd.item(), rel=1e-6)
    assert found["hd95_mm"] != hausdorff95(truth == 1, probs.argmax(0) == 1, (0.8, 1.2, 5.0))
    assert found["dice"] == dice_coefficient(truth == 1, probs.argmax(0) == 1)


def test_mc_dropout_is_the_mean_of_the_passes(scored):
    scoring, case, table = scored
    model, _ = load_model(scoring.dropout_members[0], "cpu")
    probs = mean_probability(mc_dropout_passes(model, case.image, "dice", 3, seed=0))
    labels, probs = cut(case, probs.astype(np.float32), "box")
    found = value_of(table, method="mc_dropout", region="box", metric="nll")
    assert found == pytest.approx(nll(labels, probs))


def test_every_method_is_there_and_the_oracle_is_not_without_a_posterior(scored):
    methods = set(scored[2].method)
    assert methods == {
        "baseline",
        "temperature",
        "vector_scaling",
        "ensemble",
        "mc_dropout",
        "sweep",
    }


def test_temperature_keeps_the_masks_and_moves_the_entropy(scored):
    scoring, case, table = scored
    model, settings = load_model(scoring.members[1], "cpu")
    scaling = read_json(scoring.members[1] / "scaling.json")
    logits = predict_logits(model, case.image, settings.loss)
    _, probs = cut(case, softmax(logits / np.float32(scaling["temperature"])), "whole")
    where = {"method": "temperature", "member": 1, "metric": "segment_entropy"}
    for k, segment in enumerate(scoring.segments, start=1):
        found = value_of(table, segment=segment, **where)
        assert found == pytest.approx(segment_entropy(probs, k), nan_ok=True)
    baseline, temperature = (of_masks(table, name) for name in ("baseline", "temperature"))
    assert len(baseline) == 2 * 2 * 5
    pd.testing.assert_frame_equal(temperature, baseline, check_exact=True)


def of_masks(table, method):
    """The rows of one method that follow from its arg max alone."""
    names = ["dice", "hd95_mm", "assd_mm", "n_empty", "n_true"]
    rows = table[(table.method == method) & table.metric.isin(names)]
    columns = ["member", "n_members", "region", "segment", "metric", "value"]
    return rows[columns].reset_index(drop=True)


def test_masks_of_a_temperature_are_the_baselines_even_where_rounding_makes_ties(
    scored, prepared, tmp_path
):
    scoring, _, table = scored
    moved = {"out": tmp_path / "out"}
    shutil.copytree(scoring.out, moved["out"], ignore=shutil.ignore_patterns("scores"))
    for key in ("members", "dropout_members"):
        folders = getattr(scoring, key)
        moved[key] = tuple(moved["out"] / path.relative_to(scoring.out) for path in folders)
    for member in moved["members"]:
        flat = read_json(member / "scaling.json") | {"temperature": 1e30}
        write_json(member / "scaling.json", flat)
    scoring = replace(scoring, **moved)
    score_cases(scoring, prepared[2], ["disc5"], "cpu")
    found = read_table(ScoredCase(scoring, "disc5").path(".csv"))
    baseline = of_masks(table, "baseline")
    assert baseline[baseline.metric == "dice"].value.max() > 0  # flat probabilities find nothing
    pd.testing.assert_frame_equal(of_masks(found, "temperature"), baseline, check_exact=True)


def test_scalings_are_fitted_again_where_a_member_was_made_anew(scored, prepared, tmp_path):
    member = tmp_path / "member"
    shutil.copytree(scored[0].members[0], member)
    fitted = read_json(member / "scaling.json")
    assert fitted["model"] == trained_digest(member)
    known, older = fitted | {"temperature": 7.0}, {"temperature": 7.0, "scale": [], "shift": []}
    for kept in (known, older):  # earlier versions did not say whose a fit is
        write_json(member / "scaling.json", kept)
        fit_member_scalings(member, prepared[2], "cpu")
        assert read_json(member / "scaling.json") == kept
    write_json(member / "scaling.json", known | {"model": "of other epochs"})
    fit_member_scalings(member, prepared[2], "cpu")
    assert read_json(member / "scaling.json") == fitted


def test_the_sweep_of_the_whole_pool_is_the_ensemble(scored):
    table = scored[2]
    for region, metric in product(("whole", "box"), ("nll", "brier")):
        where = {"region": region, "metric": metric}
        sweep = table[(table.method == "sweep") & (table.n_members == 2)]
        sweep = sweep[(sweep.region == region) & (sweep.metric == metric)].value
        assert np.allclose(sweep, value_of(table, method="ensemble", **where), rtol=1e-5)


def test_the_sweep_is_the_same_plane_by_plane(scored, monkeypatch):
    scoring, case, _ = scored
    models = [load_model(folder, "cpu")[0] for folder in scoring.members]
    member_probs = np.stack([predict_case(model, case.image, "dice") for model in models])
    whole = pd.DataFrame(evaluation._sweep_rows(scoring, case, member_probs, "cpu"))
    monkeypatch.setattr(evaluation, "SLAB_BYTES", 1)
    planes = pd.DataFrame(evaluation._sweep_rows(scoring, case, member_probs, "cpu"))
    pd.testing.assert_frame_equal(whole, planes)


def test_the_sweep_of_a_gpu_is_that_of_the_cpu(scored, monkeypatch):
    """Computed with tensors, as there, which lie on the CPU here."""
    scoring, case, _ = scored
    models = [load_model(folder, "cpu")[0] for folder in scoring.members]
    member_probs = np.stack([predict_case(model, case.image, "dice") for model in models])
    member_probs.setflags(write=False)  # as they are in the file
    on_cpu = pd.DataFrame(evaluation._sweep_rows(scoring, case, member_probs, "cpu"))
    monkeypatch.setattr(evaluation, "choose_device", lambda device: SimpleNamespace(type="cuda"))
    on_gpu = pd.DataFrame(evaluation._sweep_rows(scoring, case, member_probs, "cpu"))
    pd.testing.assert_frame_equal(on_gpu, on_cpu, rtol=1e-6)


def test_sums_pool_to_the_rows(scored):
    scoring, case, table = scored
    with np.load(scoring.folder / "disc5.npz") as arrays:
        result = CalibrationSums.from_vector(arrays["ensemble|0|box"], 3).result()
    for metric in ("nll", "brier", "ece", "mce"):
        where = {"method": "ensemble", "region": "box", "metric": metric}
        assert getattr(result, metric) == pytest.approx(value_of(table, **where))


def test_scalings_are_fitted_on_validation_and_lower_its_nll(scored, prepared):
    scoring, _, _ = scored
    validation = [case for case in read_prepared(prepared[2]) if case.split == "validation"]
    model, _ = load_model(scoring.members[0], "cpu")
    scalings = fit_scalings(model, "dice", validation)
    labels, logits = [], []
    for case in validation:
        case_labels, case_logits = cut(case, predict_logits(model, case.image, "dice"), "whole")
        labels.append(case_labels.ravel())
        logits.append(case_logits.reshape(3, -1))
    labels, logits = np.concatenate(labels), np.concatenate(logits, axis=1)

    def nll_of(scaled):
        exponentials = np.exp(scaled - scaled.max(axis=0))
        return nll(labels, exponentials / exponentials.sum(axis=0))

    at_best = nll_of(logits / scalings["temperature"])
    for factor in (0.9, 1.1):
        assert nll_of(logits / (factor * scalings["temperature"])) > at_best
    scaled = logits * np.reshape(scalings["scale"], (-1, 1)) + np.reshape(
        scalings["shift"], (-1, 1)
    )
    assert nll_of(scaled) <= at_best + 1e-9


def test_scored_cases_are_kept(scored, prepared):
    scoring, _, _ = scored
    before = (scoring.folder / "disc5.csv").stat().st_mtime_ns
    score_cases(scoring, prepared[2], ["disc5"], "cpu")
    assert (scoring.folder / "disc5.csv").stat().st_mtime_ns == before


def test_other_settings_have_another_folder(scored, monkeypatch):
    scoring = scored[0]
    before = scoring.folder
    assert replace(scoring, n_passes=4).folder != before
    assert replace(scoring, members=scoring.members[:1]).folder != before
    monkeypatch.setattr(evaluation, "LAYOUT", 1)  # scores without the temperature's masks
    assert replace(scoring).folder != before


def score_altered(folder, out, settings, **task):
    """Train two members on altered cases and score disc5: scoring, case and table."""
    members = [out / f"member{seed}" for seed in range(2)]
    for seed, member in enumerate(members):
        chosen = settings("dice", seed=seed, dropout=True, n_epochs=1)
        if task:
            chosen = replace(chosen, n_classes=2, regions=task["regions"])
        train_model(member, folder, chosen, "cpu")
        fit_member_scalings(member, folder, "cpu")
    scoring = Scoring(
        out=out,
        loss="dice",
        members=tuple(members),
        dropout_members=(members[0],),
        segments=task.get("segments", ("ring", "core")),
        ensemble_sizes=(1, 2),
        n_resamples=3,
        n_passes=2,
        n_bins=10,
        seed=0,
        region_order=task.get("region_order", ()),
    )
    score_cases(scoring, folder, ["disc5"], "cpu")
    case = {case.name: case for case in read_prepared(folder)}["disc5"]
    return scoring, case, read_table(scoring.folder / "disc5.csv", sealed=True)


def without_segment(table):
    return table[table.segment.isna()]


def test_unannotated_voxels_are_left_out_of_every_score_and_counted(altered, settings, tmp_path):
    def hide_left_half(name, labels):
        labels = labels.copy()
        labels[:16] = -1
        return labels

    scoring, case, table = score_altered(altered(hide_left_half), tmp_path, settings)
    model, _ = load_model(scoring.members[0], "cpu")
    logits = predict_logits(model, case.image, "dice")
    where = {"method": "baseline", "member": 0}
    for region in case.regions:
        labels, probs = cut(case, softmax(logits), region)
        known = labels >= 0
        labels, probs = labels[known], probs[:, known]
        assert value_of(table, region=region, metric="nll", **where) == pytest.approx(
            nll(labels, probs)
        )
        found = value_of(table, region=region, metric="ece", **where)
        assert found == pytest.approx(expected_calibration_error(labels, probs))
        assert value_of(table, region=region, metric="n_voxels", **where) == known.sum()
        assert value_of(table, region=region, metric="n_ignored", **where) == (~known).sum()
        sweep = table[(table.method == "sweep") & (table.n_members == 2)]
        sweep = sweep[(sweep.region == region) & (sweep.metric == "nll")].value
        ensemble = value_of(table, method="ensemble", region=region, metric="nll")
        assert np.allclose(sweep, ensemble, rtol=1e-5)
    assert case.regions["box"][0].start > case.regions["whole"][0].start  # -1 is no foreground
    labels, probs = cut(case, softmax(logits), "whole")
    predicted = np.where(labels < 0, 0, probs.argmax(axis=0))
    for k, segment in enumerate(scoring.segments, start=1):
        masks, here = (labels == k, predicted == k), where | {"segment": segment}
        assert value_of(table, metric="dice", **here) == dice_coefficient(*masks)
        distances = surface_metrics(*masks, case.spacing_mm)
        assert value_of(table, metric="assd_mm", **here) == pytest.approx(distances.assd_mm)
        entropy = segment_entropy(probs, k)  # of the whole prediction
        found = value_of(table, metric="segment_entropy", **here)
        assert found == pytest.approx(entropy, nan_ok=True)


def test_unannotated_voxels_are_in_no_scaling(altered, settings, tmp_path):
    hidden = altered(lambda name, labels: np.where(np.arange(32)[:, None, None] < 16, -1, labels))
    train_model(tmp_path / "model", hidden, settings("ce", n_epochs=1), "cpu")
    model, _ = load_model(tmp_path / "model", "cpu")
    validation = [case for case in read_prepared(hidden) if case.split == "validation"]
    labels, logits = [], []
    for case in validation:
        labels_here, logits_here = cut(case, predict_logits(model, case.image, "ce"), "whole")
        known = labels_here >= 0
        labels.append(labels_here[known])
        logits.append(logits_here[:, known])
    expected = fit_temperature(np.concatenate(labels), np.concatenate(logits, axis=1))
    assert fit_scalings(model, "ce", validation)["temperature"] == pytest.approx(expected)


def test_regions_are_scored_together_and_each_as_a_binary_problem(altered, settings, tmp_path):
    folder = altered(lambda name, labels: labels, regions=REGIONS["regions"])
    scoring, case, table = score_altered(folder, tmp_path, settings, **REGIONS)
    model, _ = load_model(scoring.members[0], "cpu")
    inside = predict_case(model, case.image, "dice")[1]  # (R, X, Y, Z)
    truth = np.stack([case.labels >= 1, case.labels == 2])
    assert np.array_equal(case.targets, truth)
    where = {"method": "baseline", "member": 0}
    for region, box in case.regions.items():
        y, p = truth[:, *box], inside[:, *box].astype(np.float64)
        by_hand = -np.log(np.where(y, p, 1 - p)).mean(axis=(1, 2, 3))
        together = without_segment(table)
        found = value_of(together, region=region, metric="nll", **where)
        assert found == pytest.approx(by_hand.mean(), rel=1e-4)
        assert value_of(together, region=region, metric="n_voxels", **where) == y.size
        brier = 2 * (p - y) ** 2
        assert value_of(together, region=region, metric="brier", **where) == pytest.approx(
            brier.mean(), rel=1e-4
        )
        for r, segment in enumerate(scoring.segments):
            here = where | {"segment": segment, "region": region}
            assert value_of(table, metric="nll", **here) == pytest.approx(by_hand[r], rel=1e-4)
            both = y[r].astype(int), np.stack([1 - p[r], p[r]])
            found = value_of(table, metric="ece", **here)
            assert found == pytest.approx(expected_calibration_error(*both), rel=1e-4)
    for r, segment in enumerate(scoring.segments):
        masks = (part[:, *case.regions["whole"]][r] for part in (truth, inside > 0.5))
        found = value_of(table, **where, segment=segment, metric="dice")
        assert found == pytest.approx(dice_coefficient(*masks))
    sweep = table[(table.method == "sweep") & (table.region == "whole") & (table.n_members == 2)]
    ensemble = table[(table.method == "ensemble") & (table.region == "whole")]
    of_all = without_segment(ensemble)
    for metric, rows in (("nll", of_all), ("brier", of_all), ("dice", ensemble)):
        expected = rows[rows.metric == metric].value.mean()  # Dice: over regions, not their pool
        assert np.allclose(sweep[sweep.metric == metric].value, expected, rtol=1e-5)


def test_exclusive_classes_are_scored_beside_the_regions(altered, settings, tmp_path):
    folder = altered(lambda name, labels: labels, regions=REGIONS["regions"])
    scoring, case, table = score_altered(folder, tmp_path, settings, **REGIONS)
    model, _ = load_model(scoring.members[1], "cpu")
    labels, inside = cut(case, predict_case(model, case.image, "dice")[1], "whole")
    exclusive = np.where(inside[1] > 0.5, 2, (inside[0] > 0.5).astype(int))
    for k in (1, 2):
        where = {"method": "baseline", "member": 1, "segment": f"class {k}"}
        found = value_of(table, metric="dice_exclusive", **where)
        assert found == pytest.approx(dice_coefficient(labels == k, exclusive == k))
    assert not table[table.metric == "dice"].segment.isin(["class 1", "class 2"]).any()
    assert set(table[table.metric == "dice_exclusive"].method) == {
        *("baseline", "temperature", "vector_scaling", "ensemble", "mc_dropout")
    }


def test_a_case_without_foreground_has_no_box_and_scores_by_the_empty_mask_rule(
    altered, settings, tmp_path
):
    empty = {"disc0", "disc4", "disc5"}  # of validation one: temperatures still fit
    folder = altered(lambda name, labels: labels * (name not in empty))
    scoring, case, table = score_altered(folder, tmp_path, settings)
    assert case.labels[case.regions["box"]].size == 0
    box = table[table.region == "box"]
    assert (box[box.metric == "n_voxels"].value == 0).all()
    assert box[box.metric.isin(["nll", "brier", "ece", "mce", "dice"])].value.isna().all()
    whole = table[(table.region == "whole") & table.metric.isin(["nll", "ece", "dice"])]
    assert np.isfinite(whole.value).all()
    model, _ = load_model(scoring.members[0], "cpu")
    _, probs = cut(case, predict_case(model, case.image, "dice"), "whole")
    for k, segment in enumerate(scoring.segments, start=1):
        where = {"method": "baseline", "member": 0, "metric": "dice", "segment": segment}
        assert value_of(table, **where) == float(not (probs.argmax(axis=0) == k).any())
    with np.load(scoring.folder / "disc5.npz") as arrays:
        assert not arrays["ensemble|0|box"].any()  # adds nothing to a pool


def test_a_case_of_one_slice_trains_and_is_measured_in_its_plane(altered, settings, tmp_path):
    folder = altered(lambda name, labels: labels)
    for case in folder.glob("disc*"):
        for path in case.glob("*.npy"):
            np.save(path, np.load(path)[:1])
        record = read_json(case / "record.json")
        for key in ("native_shape", "turned_shape", "resampled_shape", "prepared_shape"):
            record[key] = [*record[key][:2], 1]
        write_json(case / "record.json", record)
    scoring, case, table = score_altered(folder, tmp_path, settings)
    assert case.image.shape == (1, 32, 32, 1)
    model, _ = load_model(scoring.members[0], "cpu")
    labels, probs = cut(case, predict_case(model, case.image, "dice"), "whole")
    masks = labels[..., 0] == 1, probs.argmax(axis=0)[..., 0] == 1
    expected = surface_metrics(*masks, case.spacing_mm[:2])
    where = {"method": "baseline", "member": 0, "segment": "ring"}
    assert value_of(table, metric="hd95_mm", **where) == pytest.approx(expected.hd95_mm)
    assert value_of(table, metric="assd_mm", **where) == pytest.approx(expected.assd_mm)
    assert np.isfinite(table[table.metric == "nll"].value).all()


@pytest.fixture
def alone(scored, prepared, tmp_path):
    """The members of `scored` in another run folder, not scored yet."""
    scoring, _, _ = scored
    shutil.copytree(scoring.out / "models", tmp_path / "models")
    members = {
        name: tuple(tmp_path / path.relative_to(scoring.out) for path in getattr(scoring, name))
        for name in ("members", "dropout_members")
    }
    return replace(scoring, out=tmp_path, **members)


def test_probabilities_lie_on_the_disk_of_the_run(alone, scored, prepared, monkeypatch):
    """A small TMPDIR would not hold those of a large pool; nothing of them stays."""
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    score_cases(alone, prepared[2], ["disc5"], "cpu")
    assert sorted(p.name for p in alone.folder.iterdir()) == ["disc5.csv", "disc5.npz"]
    pd.testing.assert_frame_equal(read_table(alone.folder / "disc5.csv"), scored[2])


def test_a_disk_that_fills_up_is_an_error_that_names_the_folder(alone, prepared, monkeypatch):
    class Full(io.BytesIO):
        def __init__(self, dir):
            super().__init__()

        def write(self, probs):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(evaluation, "TemporaryFile", Full)
    with pytest.raises(OSError, match=f"No space left on device: '{alone.folder}'"):
        score_cases(alone, prepared[2], ["disc5"], "cpu")
    assert not list(alone.folder.iterdir())


def test_a_model_that_was_trained_anew_has_other_scores(prepared, settings, tmp_path):
    """Its folder and seed are the same: only its settings and history tell."""
    member = tmp_path / "models" / "0"
    options = {"segments": ("ring", "core"), "ensemble_sizes": (1,), "n_resamples": 1}
    options |= {"out": tmp_path, "loss": "dice", "members": (member,), "dropout_members": ()}
    folders = set()
    for n_epochs in (1, 2, 1):
        train_model(member, prepared[2], settings("dice", n_epochs=n_epochs), "cpu")
        folders.add(Scoring(**options, n_passes=2, n_bins=10, seed=0).folder)
        shutil.rmtree(member)
    assert len(folders) == 2
