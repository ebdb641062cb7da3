from types import SimpleNamespace

import monai
import numpy as np
import pandas as pd
import pytest
import torch

from segcal_lite import evaluation
from segcal_lite.caches import read_prepared
from segcal_lite.calibration import CalibrationSums, expected_calibration_error, nll
from segcal_lite.ensembles import mean_probability
from segcal_lite.entropy import segment_entropy
from segcal_lite.evaluation import Scoring, fit_member_scalings, fit_scalings, score_cases
from segcal_lite.inference import (
    load_model,
    mc_dropout_passes,
    predict_case,
    predict_logits,
    softmax,
)
from segcal_lite.runs import model_folder, read_json, read_table
from segcal_lite.segmentation_metrics import dice_coefficient, hausdorff95
from segcal_lite.training import train_model


@pytest.fixture(scope="module")
def scored(prepared, tmp_path_factory):
    """Scores of two Dice members and a dropout model on the test disc."""
    from dataclasses import replace

    from segcal_lite.training_settings import TrainingSettings

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
    whole = (slice(0, 30), slice(0, 24), slice(0, 1))
    case = SimpleNamespace(regions={"whole": whole}, labels=truth, spacing_mm=(0.8, 1.2, 5.0))
    rows = evaluation._segment_rows({"method": "baseline"}, case, probs, ("organ",))
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
    own = table[(table.method == "temperature") & (table.region == "whole")]
    assert set(own.metric) & {"dice", "hd95_mm", "assd_mm", "n_empty"} == set()


def test_the_sweep_of_the_whole_pool_is_the_ensemble(scored):
    table = scored[2]
    for region in ("whole", "box"):
        where = {"region": region, "metric": "nll"}
        sweep = table[(table.method == "sweep") & (table.n_members == 2)]
        sweep = sweep[(sweep.region == region) & (sweep.metric == "nll")].value
        assert np.allclose(sweep, value_of(table, method="ensemble", **where), rtol=1e-5)


def test_the_sweep_is_the_same_plane_by_plane(scored, monkeypatch):
    scoring, case, _ = scored
    models = [load_model(folder, "cpu")[0] for folder in scoring.members]
    member_probs = np.stack([predict_case(model, case.image, "dice") for model in models])
    whole = pd.DataFrame(evaluation._sweep_rows(scoring, case, member_probs))
    monkeypatch.setattr(evaluation, "SLAB_BYTES", 1)
    planes = pd.DataFrame(evaluation._sweep_rows(scoring, case, member_probs))
    pd.testing.assert_frame_equal(whole, planes)


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


def test_other_settings_have_another_folder(scored):
    from dataclasses import replace

    scoring = scored[0]
    assert replace(scoring, n_passes=4).folder != scoring.folder
    assert replace(scoring, members=scoring.members[:1]).folder != scoring.folder
