import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from segcal_lite.calibration import expected_calibration_error
from segcal_lite.data.labels import segment_masks
from segcal_lite.detectors import intensity_moments
from segcal_lite.experiments.volume_scores import (
    LAST,
    probability_metrics,
    read_scores,
    score_volume,
    score_volumes,
    shuffle_weights,
    unscored,
)
from segcal_lite.runs.folders import write_json
from segcal_lite.segmentation_metrics import dice_coefficient
from segcal_lite.sliding_window import predict_volume, stream_features
from segcal_lite.spectral import spectral_signature
from segcal_lite.training.checkpoints import trained_digest
from segcal_lite.training.models import load_model
from segcal_lite.training.plans import dedicated

PLAN = dedicated("atrium")


@pytest.fixture(scope="module")
def trained(volumes):
    volumes.train([PLAN, PLAN], [False, True], report=lambda line: None)
    return volumes


@pytest.fixture
def loaded(trained):
    return load_model(trained.folder(PLAN), "cpu")


def test_all_scores_of_a_volume_are_those_of_the_plain_functions(trained, loaded):
    model, settings = loaded
    case, scoring = trained.cases("atrium", "test")[0], trained.scoring()
    found = score_volume(model, settings, case, scoring)
    image = np.asarray(case.image)
    probs = predict_volume(model, image, "dice", (16,) * 3, 4)
    labels, metrics = np.asarray(case.labels), found["metrics"]
    assert metrics["dice"] == dice_coefficient(labels == 1, probs[1] > 0.5)
    box = case.regions["box"]
    ece = expected_calibration_error(labels[box], probs[:, *box])
    assert metrics["ece_box"] == pytest.approx(ece)
    assert metrics["ece_whole"] == pytest.approx(expected_calibration_error(labels, probs))
    assert metrics["predicted_voxels"] == (probs[1] > 0.5).sum()
    if metrics["predicted_voxels"]:
        expected = 1 - probs[1][probs[1] > 0.5].mean()
        assert metrics["one_minus_max_softmax"] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(found["moments"], intensity_moments(image))
    json.dumps(found)


def test_the_signature_is_that_of_the_stitched_map_and_pooling_its_mean(trained, loaded):
    model, settings = loaded
    case = trained.cases("atrium", "test")[0]
    found = score_volume(model, settings, case, trained.scoring((LAST,)))
    stitched = np.full((2, *case.labels.shape), np.nan)
    blocks = stream_features(model, model.last_features, np.asarray(case.image), (16,) * 3, 4)
    for place, features in blocks:
        stitched[:, *place] = features
    s = np.array(found["spectra"][LAST])
    expected = np.linalg.svd(stitched.reshape(2, -1), compute_uv=False)
    np.testing.assert_allclose(s, expected, rtol=1e-6)
    signature = np.log(s) / np.linalg.norm(np.log(s))
    np.testing.assert_allclose(signature, spectral_signature(stitched), atol=1e-6)
    np.testing.assert_allclose(found["pooled"][LAST], stitched.mean(axis=(1, 2, 3)), rtol=1e-5)
    assert found["n_voxels"][LAST] == case.labels.size


def test_other_layers_are_asked_for_by_name(trained, loaded):
    model, settings = loaded
    case = trained.cases("atrium", "test")[0]
    layers = ("encoder.0", "decoder.0", LAST)
    found = score_volume(model, settings, case, trained.scoring(layers))
    assert {layer: len(s) for layer, s in found["spectra"].items()} == {
        "encoder.0": 2,
        "decoder.0": 8,
        LAST: 2,
    }
    with pytest.raises(ValueError, match="layer: found 'decoder.7', expected one of"):
        score_volume(model, settings, case, trained.scoring(("decoder.7",)))


def test_dropout_gives_the_mean_of_passes_that_a_seed_repeats(trained):
    model, settings = load_model(trained.folder(PLAN, dropout=True), "cpu")
    case = trained.cases("atrium", "test")[0]
    found = [score_volume(model, settings, case, trained.scoring()) for _ in range(2)]
    assert json.dumps(found[0]) == json.dumps(found[1])  # NaN is NaN there
    assert set(found[0]) == {"metrics"}
    still = predict_volume(model, np.asarray(case.image), "dice", (16,) * 3, 4)
    box = case.regions["whole"]
    plain = expected_calibration_error(np.asarray(case.labels)[box], still[:, *box])
    assert found[0]["metrics"]["ece_whole"] != plain  # the masks acted


def test_no_predicted_foreground_leaves_the_uncertainty_undefined(trained, loaded):
    model, settings = loaded
    with torch.no_grad():
        model.output.bias.fill_(-100.0)
    metrics = score_volume(model, settings, trained.cases("atrium", "test")[0], trained.scoring())[
        "metrics"
    ]
    assert metrics["predicted_voxels"] == 0 == metrics["dice"]
    for name in ("uncertainty", "segment_entropy", "one_minus_max_softmax"):
        assert np.isnan(metrics[name])


def test_padding_is_not_scored(trained, loaded):
    """A case whose crop is larger than the volume gives the scores of the volume alone."""
    model, settings = loaded
    case = trained.cases("atrium", "test")[0]

    class Padded:
        def __init__(self):
            inner = tuple(slice(3, 3 + n) for n in case.labels.shape)
            self.image = np.pad(case.image, [(0, 0), *[(3, 2)] * 3])
            self.targets = np.pad(case.labels, [(3, 2)] * 3)
            box = tuple(slice(p.start + 3, p.stop + 3) for p in case.regions["box"])
            self.regions = {"whole": inner, "box": box}
            self.spacing_mm = case.spacing_mm
            self.patient_targets, self.on_patient = case.patient_targets, case.on_patient

    scoring = trained.scoring((LAST,))
    alone, padded = (score_volume(model, settings, c, scoring) for c in (case, Padded()))
    assert padded["metrics"] == pytest.approx(alone["metrics"], rel=1e-9, nan_ok=True)
    assert padded["n_voxels"] == alone["n_voxels"]
    np.testing.assert_allclose(padded["spectra"][LAST], alone["spectra"][LAST], rtol=1e-9)
    np.testing.assert_allclose(padded["moments"], alone["moments"], rtol=1e-9)


def relabelled(case, labels, box):
    return SimpleNamespace(
        targets=labels,
        regions={"whole": tuple(slice(0, n) for n in labels.shape), "box": box},
        spacing_mm=case.spacing_mm,
        patient_targets=labels,
        on_patient=case.on_patient,
    )


def test_unannotated_voxels_are_left_out_and_counted(trained, loaded):
    model, _ = loaded
    case = trained.cases("atrium", "test")[0]
    probs = predict_volume(model, np.asarray(case.image), "dice", (16,) * 3, 4)
    labels = np.array(case.labels)
    labels[:4] = -1
    box = (slice(2, 9), slice(0, 9), slice(0, 9))
    found = probability_metrics(relabelled(case, labels, box), probs, trained.scoring())
    masks = segment_masks(labels, probs.argmax(axis=0), 1)
    assert not masks[1][:4].any()
    assert found["dice"] == dice_coefficient(*masks)
    assert found["n_ignored_whole"] == labels[:4].size
    assert found["n_ignored_box"] == 2 * 81
    ece = expected_calibration_error(labels[4:], probs[:, 4:])
    assert found["ece_whole"] == pytest.approx(ece)


def test_a_volume_without_foreground_has_no_box_scores(trained, loaded):
    model, _ = loaded
    case = trained.cases("atrium", "test")[0]
    probs = predict_volume(model, np.asarray(case.image), "dice", (16,) * 3, 4)
    labels = np.zeros_like(case.labels)
    empty = relabelled(case, labels, (slice(0, 0),) * 3)
    found = probability_metrics(empty, probs, trained.scoring())
    missing = ("dice", "hd95_mm", "assd_mm", "nll_box")
    assert np.isnan([found[name] for name in missing]).all()
    assert np.isfinite(found["nll_whole"])


def test_scored_volumes_are_kept(trained, tmp_path):
    names = [case.name for case in trained.cases("atrium", "test")]
    prepared = trained.out / "sets" / "atrium" / "prepared"
    arguments = trained.folder(PLAN), prepared, names, tmp_path, trained.scoring()
    score_volumes(*arguments)
    kept = {"metrics": {"kept": 1}, "model": trained_digest(trained.folder(PLAN))}
    write_json(tmp_path / f"{names[0]}.json", kept, sealed=True)
    score_volumes(*arguments)
    assert read_scores(tmp_path, names)[0] == kept


def test_volumes_are_scored_again_by_a_model_that_was_made_anew(trained, tmp_path):
    names = [case.name for case in trained.cases("atrium", "test")]
    write_json(tmp_path / f"{names[0]}.json", {"metrics": {}, "model": "another"}, sealed=True)
    folder = trained.folder(PLAN)
    assert unscored(tmp_path, names, folder) == names
    write_json(tmp_path / f"{names[0]}.json", {"metrics": {}}, sealed=True)
    assert names[0] not in unscored(tmp_path, names, folder)  # of an earlier version
    write_json(tmp_path / f"{names[0]}.json", {"metrics": {}, "model": "another"}, sealed=True)
    prepared = trained.out / "sets" / "atrium" / "prepared"
    score_volumes(folder, prepared, names, tmp_path, trained.scoring())
    assert unscored(tmp_path, names, folder) == []
    assert "dice" in read_scores(tmp_path, names)[0]["metrics"]


def test_shuffling_keeps_the_numbers_of_each_parameter_and_loses_their_order(loaded):
    model, _ = loaded
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    shuffle_weights(model, 1)
    moved = 0
    for name, parameter in model.named_parameters():
        both = parameter.flatten().sort()[0], before[name].flatten().sort()[0]
        assert torch.equal(*both)
        moved += not torch.equal(parameter, before[name])
    assert moved > len(before) / 2
    once = [p.clone() for p in model.parameters()]
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(before[name])
    shuffle_weights(model, 1)
    assert all(torch.equal(a, b) for a, b in zip(once, model.parameters(), strict=True))
