"""A model of MONAI's from its training to our tables; nothing of MONAI is imitated."""

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import write_tiny_sets
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.metrics import compute_dice
from monai.networks.nets import UNet

from segcal_lite.detectors import SpectralDetector
from segcal_lite.experiments.own_model import evaluate
from segcal_lite.runs.tables import read_table
from segcal_lite.sliding_window import signature_of_volume

pytestmark = pytest.mark.slow  # evaluating starts processes
WINDOW = (16, 16, 16)


def a_network():
    return UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(8, 16), strides=(2,))


def read(path):
    """Voxels (X, Y, Z) and affine, by nibabel alone."""
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def train(images, labels):
    """Train a few steps on the middle of the volumes; return the network."""
    torch.manual_seed(0)
    network, middle = a_network(), (..., *[slice(1, 17)] * 3)
    images = torch.from_numpy(np.stack(images)[:, np.newaxis][middle])
    labels = torch.from_numpy(np.stack(labels)[:, np.newaxis][middle])
    loss, optimiser = DiceCELoss(to_onehot_y=True, softmax=True), torch.optim.Adam
    optimiser = optimiser(network.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        loss(network(images), labels).backward()
        optimiser.step()
    return network


@pytest.fixture(scope="module")
def monai_run(tmp_path_factory):
    """Phantoms, a trained and reloaded network, and what it says of them in two forms."""
    folder = tmp_path_factory.mktemp("monai")
    data = write_tiny_sets(folder / "sets", ["liver_ct"]) / "liver_ct"
    names = [path.name.removesuffix(".nii.gz") for path in sorted((data / "labelsTr").iterdir())]
    images = {name: read(data / f"imagesTr/{name}_0000.nii.gz") for name in names}
    images = {n: ((v - v.mean()) / v.std()).astype(np.float32) for n, (v, _) in images.items()}
    labels = {name: read(data / f"labelsTr/{name}.nii.gz") for name in names}
    known = names[:4]
    trained = train([images[n] for n in known], [labels[n][0].astype(int) for n in known])
    torch.save(trained.state_dict(), folder / "weights.pt")
    network = a_network()
    network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    probs = {name: predict(network.eval(), images[name]) for name in names}
    for name in names[2:]:  # members are not asked about all cases
        write(folder, name, probs[name], labels[name][1])
    return folder, data, network, images, labels, probs


def predict(network, image):
    """Probabilities (K, X, Y, Z) by MONAI's sliding window."""
    with torch.no_grad():
        logits = sliding_window_inference(
            torch.from_numpy(image)[None, None], WINDOW, 4, network, overlap=0.25, mode="gaussian"
        )
    return logits.softmax(dim=1)[0].numpy()


def write(folder, name, probs, affine):
    """Write one 4D NIfTI, and what nnU-Net v2 writes."""
    for form in ("nifti", "nnunet"):
        (folder / form).mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.moveaxis(probs, 0, -1), affine), folder / f"nifti/{name}.nii.gz")
    predicted = probs.argmax(axis=0).astype(np.uint8)
    nib.save(nib.Nifti1Image(predicted, affine), folder / f"nnunet/{name}.nii.gz")
    np.savez_compressed(folder / f"nnunet/{name}.npz", probabilities=probs.transpose(0, 3, 2, 1))


@pytest.fixture(scope="module")
def scores(monai_run):
    """The long table of our command."""
    folder, data = monai_run[:2]
    members = [folder / "nifti", folder / "nnunet"]
    out = evaluate(
        data / "labelsTr", members, folder / "out", n_workers=1, report=lambda line: None
    )
    return read_table(out / "tables" / "scores.csv")


def values(scores, metric, region="whole", **chosen):
    """The value of each case."""
    rows = scores[(scores.metric == metric) & (scores.region == region)]
    for column, value in chosen.items():
        rows = rows[rows[column] == value]
    assert not rows.case.duplicated().any()
    return rows.set_index("case").value


def test_the_network_has_learned_and_windows_overlap(monai_run):
    _, _, _, images, labels, probs = monai_run
    assert images[next(iter(images))].shape[0] > WINDOW[0]
    dice = [
        2 * (p[1] > 0.5)[labels[n][0] == 1].sum() / ((p[1] > 0.5).sum() + labels[n][0].sum())
        for n, p in probs.items()
    ]
    assert np.mean(dice) > 0.5


def test_both_forms_give_the_same_scores(scores):
    of_members = [scores[(scores.method == "baseline") & (scores.member == m)] for m in (0, 1)]
    first, second = (rows.value.to_numpy() for rows in of_members)
    assert len(first) > 50
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_scores_are_those_of_the_probabilities_that_monai_gave(monai_run, scores):
    _, _, _, _, labels, probs = monai_run
    found = values(scores, "nll", method="ensemble")
    dice = values(scores, "dice", method="ensemble", segment="liver")
    assert len(found) == len(dice) == 6
    for name, value in found.items():
        truth = labels[name][0].astype(int)
        of_truth = np.take_along_axis(probs[name], truth[np.newaxis], axis=0).astype(np.float64)
        assert value == pytest.approx(-np.log(of_truth).mean(), rel=1e-5)
        masks = (torch.from_numpy(m)[None, None] for m in (probs[name].argmax(axis=0), truth))
        assert dice[name] == pytest.approx(compute_dice(*masks).item(), rel=1e-6)


def test_classwise_calibration_error_is_monais(monai_run, scores):
    """Class by class: there the definitions coincide, bins included (right=False is (lo, hi])."""
    calibration = pytest.importorskip("monai.metrics.calibration")
    _, _, _, _, labels, probs = monai_run
    metric = calibration.CalibrationErrorMetric(num_bins=10, include_background=False)
    for name, value in values(scores, "ece_class", method="ensemble", segment="liver").items():
        truth = np.stack([labels[name][0] == k for k in (0, 1)])[np.newaxis].astype(np.float32)
        found = metric(torch.from_numpy(probs[name])[None], torch.from_numpy(truth))
        assert value == pytest.approx(found.item(), abs=1e-5)


def test_its_layers_give_signatures_that_tell_another_contrast(monai_run):
    _, _, network, images, _, _ = monai_run
    images = [image[np.newaxis] for image in images.values()]
    layer = "model.1"  # in front of the output, at half resolution
    signatures = [signature_of_volume(network, image, layer, WINDOW) for image in images]
    detector = SpectralDetector().fit(signatures[:-1])
    assert not detector.is_ood(signatures[-1])
    assert detector.is_ood(signature_of_volume(network, -images[-1], layer, WINDOW))
