"""A real nnU-Net's predictions and network, judged by this kit and by what others wrote."""

import os
from pathlib import Path

import numpy as np
import pytest
import real_model
import torch
from monai.metrics import CalibrationErrorMetric

from data_scripts.phantoms.folders import write_patients
from segcal_lite.calibration import CalibrationSums
from segcal_lite.data import read_label
from segcal_lite.detectors import SpectralDetector
from segcal_lite.ensembles import mean_probability
from segcal_lite.experiments.scores import score_probabilities
from segcal_lite.sliding_window import named_layer, stream_features
from segcal_lite.spectral import SpectrumSums

pytestmark = pytest.mark.nnunet
MEMBERS = ("fold_0", "fold_1")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Hippocampi, or where there are none phantoms, as nnU-Net wants them."""
    folder = tmp_path_factory.mktemp("nnunet")
    if "SEGCAL_REAL_DATA" in os.environ:
        source = Path(os.environ["SEGCAL_REAL_DATA"]) / "Task04_Hippocampus"
    else:
        n_training = sum(real_model.PARTS.values()) - 2
        n_patients = (n_training, 1, 1, 0)
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
    by_fold = [(model, [fold], folder / f"fold_{fold}") for fold in (0, 1)]
    real_model.predict(raw / "imagesTs", *by_fold)
    by_fold = [(model, [fold], folder / f"new_fold_{fold}") for fold in (0, 1)]
    real_model.predict(raw / "imagesNew", *by_fold)
    return folder


def cases(folder):
    """Names of the predicted cases."""
    return sorted(path.stem for path in folder.glob("*.npz"))


def probabilities(folder, case):
    """What nnU-Net saved, (K, X, Y, Z): its arrays are Z, Y, X."""
    with np.load(folder / f"{case}.npz", allow_pickle=False) as saved:
        return saved["probabilities"].transpose(0, 3, 2, 1)


def truth(raw, case):
    """The label of a case to judge by."""
    return read_label(raw / "labelsTs" / f"{case}.nii.gz")


def test_it_saves_probabilities_whose_arg_max_is_its_segmentation(predicted, raw):
    for member in MEMBERS:
        assert len(cases(predicted / member)) == real_model.PARTS["Ts"]
        for case in cases(predicted / member):
            probs = probabilities(predicted / member, case)
            assert probs.dtype == np.float32
            np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)
            segmentation = read_label(predicted / member / f"{case}.nii.gz")
            np.testing.assert_array_equal(probs.argmax(axis=0), segmentation.data)
            np.testing.assert_allclose(segmentation.affine, truth(raw, case).affine, atol=1e-4)


def test_dice_is_what_nnunet_says_itself(predicted, raw):
    for member in MEMBERS:
        theirs = real_model.dice_of_nnunet(predicted / member, raw / "labelsTs")
        ours = {}
        for case in cases(predicted / member):
            label = truth(raw, case)
            probs = probabilities(predicted / member, case)
            segments = [str(k) for k in range(1, len(probs))]
            scores = score_probabilities(label.data, probs, label.spacing_mm, segments)
            for row in scores.rows:
                if row["metric"] == "dice":
                    ours[case, int(row["segment"])] = row["value"]
        assert ours == pytest.approx(theirs, abs=1e-6)
        assert np.mean(list(ours.values())) > 0.5  # it has learned


def test_ece_is_what_monai_says(predicted, raw):
    """Class by class, and of the predicted class as the one channel; both have bins (a, b]."""
    for case in cases(predicted / "fold_0"):
        labels = truth(raw, case).data
        probs = probabilities(predicted / "fold_0", case)
        ours = CalibrationSums(len(probs)).update(labels, probs).result()
        one_hot = np.stack([labels == k for k in range(len(probs))])
        assert monai_ece(probs, one_hot) == pytest.approx(ours.classwise_ece, abs=1e-5)
        correct = (probs.argmax(axis=0) == labels)[np.newaxis]
        top_label = monai_ece(probs.max(axis=0, keepdims=True), correct)
        assert top_label == pytest.approx([ours.ece], abs=1e-5)


def monai_ece(probs, is_class):
    """MONAI's ECE of each channel, (C,)."""
    metric = CalibrationErrorMetric(num_bins=10, metric_reduction="none")
    return metric(*(torch.from_numpy(array.copy())[None] for array in (probs, is_class)))[0].numpy()


def test_the_ensemble_is_nnunets_of_probabilities_or_of_logits(predicted, raw, model):
    """Its ensemble command averages probabilities; one call with both folds averages logits."""
    members = [predicted / member for member in MEMBERS]
    averaged = predicted / "averaged"
    real_model.run(
        predicted, ("nnUNetv2_ensemble", "-i", *members, "-o", averaged, "--save_npz", "-np", 1)
    )
    real_model.predict(raw / "imagesTs", (model, [0, 1], predicted / "together"))
    for case in cases(averaged):
        probs = [probabilities(member, case) for member in members]
        np.testing.assert_allclose(
            mean_probability(probs), probabilities(averaged, case), atol=1e-6
        )
        geometric = np.exp(np.mean([np.log(np.maximum(p, 1e-38)) for p in probs], axis=0))
        geometric /= geometric.sum(axis=0)
        np.testing.assert_allclose(
            geometric, probabilities(predicted / "together", case), atol=1e-3
        )


def test_its_reorienting_reader_saves_the_order_of_ras(predicted, raw, model):
    """Half of the cases are stored from right to left; segmentations are written back as these."""
    turned = real_model.with_reader(model, "NibabelIOWithReorient", predicted / "turned_model")
    real_model.predict(raw / "imagesTs", (turned, [0], predicted / "turned"))
    n_turned = 0
    for case in cases(predicted / "turned"):
        found = probabilities(predicted / "turned", case).argmax(axis=0)
        segmentation = read_label(predicted / "turned" / f"{case}.nii.gz")
        is_turned = np.linalg.det(segmentation.affine) < 0
        np.testing.assert_array_equal(found[::-1] if is_turned else found, segmentation.data)
        n_turned += is_turned
    assert n_turned == real_model.PARTS["Ts"] // 2


def test_its_network_gives_signatures_by_the_name_of_a_layer(raw, model, monkeypatch):
    """Noise of the same size is told from the images that it was trained on."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    monkeypatch.setenv("nnUNet_extTrainer", str(Path(__file__).with_name("trainers")))
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(model), [0])
    configuration = predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    settings = predictor.plans_manager, configuration, predictor.dataset_json
    network = predictor.network.eval()
    layer = named_layer(network, f"decoder.stages.{len(network.decoder.stages) - 1}")

    def signature(image):
        sums = SpectrumSums(8)
        window = tuple(configuration.patch_size)
        for _, features in stream_features(network, layer, image, window, overlap=8):
            sums.update(features)
        return sums.signature()

    images = {
        part: [
            preprocessor.run_case([str(path)], None, *settings)[0]
            for path in sorted((raw / f"images{part}").iterdir())
        ]
        for part in ("Tr", "Ts")
    }
    detector = SpectralDetector().fit([signature(image) for image in images["Tr"]])
    noise = signature(np.random.default_rng(0).normal(size=images["Ts"][0].shape))
    assert detector.is_ood(noise)
    assert all(detector.score(signature(image)) < detector.score(noise) for image in images["Ts"])
