"""A real nnU-Net's predictions and network, judged by this kit and by what others wrote."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import real_model
import torch
from monai.metrics import CalibrationErrorMetric

from data_scripts.phantoms.folders import write_patients
from segcal_lite.__main__ import main
from segcal_lite.data import read_label
from segcal_lite.data.labels import read_label_names
from segcal_lite.data.predictions import open_predictions, read_prediction
from segcal_lite.detectors import SpectralDetector
from segcal_lite.experiments.own_model import evaluate, write_signatures
from segcal_lite.runs.tables import read_table
from segcal_lite.sliding_window import signature_of_volume

pytestmark = pytest.mark.nnunet
MEMBERS = ("fold_0", "fold_1")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Hippocampi, or where there are none phantoms, as nnU-Net wants them."""
    folder = tmp_path_factory.mktemp("nnunet")
    if "SEGCAL_REAL_DATA" in os.environ:
        source = Path(os.environ["SEGCAL_REAL_DATA"]) / "Task04_Hippocampus"
    else:
        n_patients = (sum(real_model.PARTS.values()) - 2, 1, 1, 0)
        source = write_patients(folder / "phantoms", "prostate_3d", n_patients=n_patients)
    return real_model.write_raw(source, folder)


@pytest.fixture(scope="module")
def model(raw):
    """Folder of two trained folds."""
    return real_model.train(raw)


@pytest.fixture(scope="module")
def predicted(raw, model):
    """Folder of predictions: one folder a fold, of labelled and of new cases."""
    folder = raw.parents[1] / "predicted"
    for images, prefix in (("imagesTs", ""), ("imagesNew", "new_")):
        asked = [(model, [fold], folder / f"{prefix}fold_{fold}") for fold in (0, 1)]
        real_model.predict(raw / images, *asked)
    return folder


@pytest.fixture(scope="module")
def evaluated(raw, predicted):
    """Folder of the whole evaluation, by the command that a user types."""
    out = predicted / "mine"
    folders = {
        "--labels": [raw / "labelsTs"],
        "--predictions": [predicted / member for member in MEMBERS],
        "--images": [raw / "imagesTs", raw / "imagesNew"],
        "--new": [predicted / f"new_{member}" for member in MEMBERS],
        "--out": [out],
    }
    options = [word for option, paths in folders.items() for word in (option, *map(str, paths))]
    assert main(["evaluate", *options]) == 0
    return out


def cases(folder):
    """Names of the cases that nnU-Net saved probabilities of."""
    return sorted(path.stem for path in folder.glob("*.npz"))


def saved(folder, case):
    """What nnU-Net saved, (K, X, Y, Z): its arrays are Z, Y, X."""
    with np.load(folder / f"{case}.npz", allow_pickle=False) as arrays:
        return arrays["probabilities"].transpose(0, 3, 2, 1)


def names_of(raw):
    """Names of the classes."""
    description = json.loads((raw / "dataset.json").read_text())
    return read_label_names(raw / "dataset.json", description["labels"])


def values(scores, metric, segments, **where):
    """The values of a metric in the whole volume, by case and class."""
    rows = scores[(scores.metric == metric) & (scores.region == "whole")]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    numbers = rows.segment.map(lambda name: 1 + segments.index(name) if name in segments else 0)
    return dict(zip(zip(rows.case, numbers, strict=True), rows.value, strict=True))


def test_it_saves_probabilities_whose_arg_max_is_its_segmentation(predicted, raw):
    for folder in (predicted / member for member in MEMBERS):
        assert len(cases(folder)) == real_model.PARTS["Ts"]
        for case in cases(folder):
            probs = saved(folder, case)
            assert probs.dtype == np.float32
            np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)
            segmentation = read_label(folder / f"{case}.nii.gz")
            np.testing.assert_array_equal(probs.argmax(axis=0), segmentation.data)


def test_the_command_leaves_out_nothing_and_ends_with_a_page(evaluated):
    page = (evaluated / "index.html").read_text()
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert read_table(evaluated / "tables" / "left_out.csv").empty
    review = read_table(evaluated / "tables" / "review.csv")
    assert len(review) == real_model.PARTS["New"]
    assert len(list((evaluated / "figures").glob("review_*.png"))) == len(review)
    scores = read_table(evaluated / "tables" / "scores.csv")
    assert {*scores.method} == {"baseline", "ensemble", "temperature", "vector_scaling"}
    assert scores.case.nunique() == real_model.PARTS["Ts"]


def test_dice_is_what_nnunet_says_itself(evaluated, predicted, raw):
    scores, segments = read_table(evaluated / "tables" / "scores.csv"), names_of(raw).segments
    for number, member in enumerate(MEMBERS):
        ours = values(scores, "dice", segments, method="baseline", member=number)
        theirs = real_model.dice_of_nnunet(predicted / member, raw / "labelsTs")
        assert ours == pytest.approx(theirs, abs=1e-6)
        assert np.mean(list(ours.values())) > 0.3  # it has learned: background alone has 0


def test_ece_is_what_monai_says(evaluated, predicted, raw):
    """Class by class, and of the predicted class as the one channel; both have bins (a, b]."""
    scores, segments = read_table(evaluated / "tables" / "scores.csv"), names_of(raw).segments
    of_fold = {"method": "baseline", "member": 0}
    of_classes = values(scores, "ece_class", segments, **of_fold)
    of_top_label = values(scores, "ece", segments, **of_fold)
    for case in cases(predicted / "fold_0"):
        labels = read_label(raw / "labelsTs" / f"{case}.nii.gz").data
        probs = saved(predicted / "fold_0", case)
        is_class = np.stack([labels == k for k in range(len(probs))])
        theirs = monai_ece(probs, is_class)
        for k in range(1, len(probs)):
            assert of_classes[case, k] == pytest.approx(theirs[k], abs=1e-5)
        correct = probs.argmax(axis=0) == labels
        (theirs,) = monai_ece(probs.max(axis=0)[np.newaxis], correct[np.newaxis])
        assert of_top_label[case, 0] == pytest.approx(theirs, abs=1e-5)


def monai_ece(probs, is_class):
    """MONAI's ECE of each channel, (C,)."""
    metric = CalibrationErrorMetric(num_bins=10, metric_reduction="none")
    return metric(*(torch.from_numpy(array.copy())[None] for array in (probs, is_class)))[0].numpy()


def test_the_ensemble_is_nnunets_of_probabilities_or_of_logits(evaluated, predicted, raw, model):
    """Its ensemble command averages probabilities; one call with both folds averages logits."""
    segments, members = names_of(raw).segments, [predicted / member for member in MEMBERS]
    together = {"probabilities": predicted / "ensemble", "logits": predicted / "one_call"}
    how = ("-o", together["probabilities"], "--save_npz", "-np", 1)
    real_model.run(predicted, ("nnUNetv2_ensemble", "-i", *members, *how))
    real_model.predict(raw / "imagesTs", (model, [0, 1], together["logits"]))
    for averaged, folder in together.items():
        given = {"labels": raw / "labelsTs", "dataset": raw / "dataset.json", "n_workers": 1}
        ours = evaluate(
            predictions=members, out=predicted / averaged, members_averaged=averaged, **given
        )
        theirs = evaluate(predictions=[folder], out=predicted / f"{averaged}_alone", **given)
        tables = [read_table(out / "tables" / "scores.csv") for out in (ours, theirs)]
        for metric, tolerance in (("brier", 1e-4), ("ece", 1e-4), ("nll", 1e-3)):
            of_ours = values(tables[0], metric, segments, method="ensemble")
            of_theirs = values(tables[1], metric, segments, method="baseline")
            assert of_ours == pytest.approx(of_theirs, abs=tolerance), (averaged, metric)


def test_its_reorienting_reader_is_seen_and_undone(predicted, raw, model):
    """Its arrays are in the order of RAS; half of the cases are stored from right to left."""
    turned = real_model.with_reader(model, "NibabelIOWithReorient", predicted / "turned_model")
    real_model.predict(raw / "imagesTs", (turned, [0], predicted / "turned"))
    names = names_of(raw)
    folder = open_predictions(predicted / "turned", names)
    n_turned = 0
    for case in folder.cases:
        label = read_label(raw / "labelsTs" / f"{case}.nii.gz")
        found = read_prediction(folder, case, label).probs
        stored = saved(predicted / "turned", case)
        is_turned = np.linalg.det(label.affine) < 0
        np.testing.assert_array_equal(found, stored[:, ::-1] if is_turned else stored)
        n_turned += is_turned
    assert n_turned == real_model.PARTS["Ts"] // 2


def test_its_network_gives_signatures_by_the_name_of_a_layer(raw, model, predicted, evaluated):
    """Noise is further from what it was trained on than any other case; the review list says so."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(model), [0])
    configuration = predictor.configuration_manager
    settings = predictor.plans_manager, configuration, predictor.dataset_json
    preprocessor = configuration.preprocessor_class(verbose=False)
    layer = f"decoder.stages.{len(predictor.network.decoder.stages) - 1}"

    def signature(image):
        return signature_of_volume(predictor.network, image, layer, configuration.patch_size)

    images = {
        part: {
            path.name.removesuffix("_0000.nii.gz"): preprocessor.run_case(
                [str(path)], None, *settings
            )[0]
            for path in sorted((raw / f"images{part}").iterdir())
        }
        for part in real_model.PARTS
    }
    signatures = {
        part: {case: signature(image) for case, image in of.items()} for part, of in images.items()
    }
    detector = SpectralDetector().fit(list(signatures["Tr"].values()))
    shape = next(iter(images["Ts"].values())).shape
    noise = signature(np.random.default_rng(0).normal(size=shape))
    assert detector.is_ood(noise)
    assert all(detector.score(one) < detector.score(noise) for one in signatures["Ts"].values())
    tables = predicted / "training.csv", predicted / "cases.csv"
    of_layer = layer, configuration.patch_size
    write_signatures(tables[0], signatures["Tr"], *of_layer)
    strange, *_ = signatures["New"]
    here = signatures["Ts"] | signatures["New"] | {strange: noise}
    write_signatures(tables[1], here, *of_layer)
    given = {name: [predicted / f"{name}{member}" for member in MEMBERS] for name in ("", "new_")}
    evaluate(raw / "labelsTs", given[""], evaluated, new=given["new_"], signatures=tables)
    review = read_table(evaluated / "tables" / "review.csv").set_index("case")
    assert review.oodm.idxmax() == strange and review.is_ood[strange]
