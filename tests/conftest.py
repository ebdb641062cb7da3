"""Small datasets that several test modules share."""

import json
import os
import shutil
import signal
import socket
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import hypothesis
import nibabel as nib
import numpy as np
import pytest

from data_scripts.phantoms.write import write_organ_phantoms
from segcal_lite.data.datasets import read_dataset, task_of
from segcal_lite.data.prepared import prepare_dataset
from segcal_lite.data.tasks import ORGAN_SETS
from segcal_lite.experiments.many_sets import open_joint_experiment
from segcal_lite.experiments.profiles import get_profile
from segcal_lite.training.models import TrainingSettings

collect_ignore = ["nnunet/short_training.py"]  # read where there is an nnU-Net
AFFINE = np.diag([2.0, 2.0, 8.0, 1.0])

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

# A shell's background job ignores Ctrl-C, and so would the processes whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _connect(self, address, connect=socket.socket.connect):
    """Connect to this machine; any other is refused, since no test needs a network."""
    is_local = self.family not in (socket.AF_INET, socket.AF_INET6) or (
        address[0] == "localhost" or ip_address(address[0]).is_loopback
    )
    assert is_local, f"a test connects to {address}"
    return connect(self, address)


socket.socket.connect = _connect


def write_discs(folder, n_cases=6, shape=(24, 24, 3), seed=0):
    """Noisy discs with a core: two segments in the common layout, split 3 / 2 / rest."""
    rng = np.random.default_rng(seed)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rows, distance = ["case,domain,split"], np.hypot(*np.mgrid[-12:12, -12:12])[..., np.newaxis]
    for number in range(n_cases):
        radius = rng.uniform(6, 9)
        labels = np.where(distance < radius / 2, 2, (distance < radius).astype(int))
        labels = np.broadcast_to(labels, shape).astype(np.uint8)
        image = (labels * 0.4 + 0.1 * rng.normal(size=shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f"imagesTr/disc{number}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, AFFINE), folder / f"labelsTr/disc{number}.nii.gz")
        split = ("train", "train", "train", "validation", "validation")[number : number + 1]
        rows.append(f"disc{number},source,{split[0] if split else 'test'}")
    labels = {"background": 0, "ring": 1, "core": 2}
    description = {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_dataset(folder, channels=("T1", "FLAIR"), n_cases=10, domains=("here", "there")):
    """Two channels, three segments, two domains."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rows = ["case,domain"]
    for number in range(n_cases):
        labels = np.zeros((6, 5, 4), dtype=np.uint8)
        labels[1:4, 1:4, 1] = [[1, 2, 3]] * 3
        affine = np.diag([1.0, 1.0, 1.0 + number % 3, 1.0])
        for channel in range(len(channels)):
            image = np.full((6, 5, 4), channel + number, dtype=np.float32) + labels
            path = folder / f"imagesTr/c{number}_{channel:04d}.nii.gz"
            nib.save(nib.Nifti1Image(image, affine), path)
        nib.save(nib.Nifti1Image(labels, affine), folder / f"labelsTr/c{number}.nii.gz")
        rows.append(f"c{number},{domains[number % len(domains)]}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    description = {
        "channel_names": dict(enumerate(channels)),
        "labels": {"background": 0, "a": 1, "b": 2, "c": 3},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="session")
def discs(tmp_path_factory):
    """Folder of a dataset of noisy discs."""
    return write_discs(tmp_path_factory.mktemp("data") / "discs")


@pytest.fixture(scope="session")
def prepared(discs, tmp_path_factory):
    """Task, profile, prepared folder and fingerprint of the discs."""
    dataset = read_dataset(discs)
    task = task_of(dataset)
    profile = get_profile("smoke", task, crop_size=(32, 32), n_epochs=3, batch_size=2)
    folder = tmp_path_factory.mktemp("prepared")
    prepare_dataset(dataset, task, profile.crop_size, folder, report=lambda line: None)
    return task, profile, folder, dataset.fingerprint()


@pytest.fixture
def settings(prepared):
    """Return a maker of training settings for the discs."""
    task, profile, _, data = prepared
    profile = replace(profile, widths=(4, 8))

    def make(loss="dice", seed=0, dropout=False, augment=False, **changes):
        chosen = replace(profile, **changes)
        return TrainingSettings.gather(task, chosen, data, loss, seed, dropout, augment)

    return make


@pytest.fixture
def altered(prepared, tmp_path):
    """Return a maker of copies of the prepared discs whose labels another function gives."""

    def make(change, **task):
        folder = tmp_path / "altered"
        shutil.copytree(prepared[2], folder)
        for path in folder.glob("disc*/labels.npy"):
            labels = np.moveaxis(np.load(path), 0, -1)
            np.save(path, np.moveaxis(change(path.parent.name, labels), -1, 0))
        settings = json.loads((folder / "settings.json").read_text())
        settings["task"] |= task
        (folder / "settings.json").write_text(json.dumps(settings))
        return folder

    return make


REGIONS = {  # ring and core are classes 1 and 2
    "segments": ("disc", "core"),
    "regions": ((1, 2), (2,)),
    "region_order": (1, 2),
    "dice_weights": (1.0, 3.0),
}


TINY_VOLUMES = {
    "block_side": 16,
    "overlap": 4,
    "n_features": 2,
    "batch_size": 2,
    "evaluate_every": 3,
    "n_evaluations": 2,
    "n_validation_blocks": 2,
    "n_passes": 2,
}
TINY_SETS = ("liver_ct", "atrium", "cp_younger")


def write_tiny_sets(folder, names):
    """Write some of paper B's sets, eight coarse phantoms each."""
    for name in names:
        task = ORGAN_SETS[name].task(name, (6.0, 6.0, 6.0))
        write_organ_phantoms(folder / name, task, n_images=8, side=18, spacing_mm=6.0)
    return folder


@pytest.fixture(scope="session")
def volumes(tmp_path_factory):
    """Three sets of coarse phantoms in one run folder; models are trained when asked for."""
    out = tmp_path_factory.mktemp("volumes")
    sets = write_tiny_sets(out / "phantoms", TINY_SETS)
    silent = {"report": lambda line: None, "device": "cpu"}
    return open_joint_experiment(out, sets, TINY_SETS, **silent, **TINY_VOLUMES)


def pytest_collection_modifyitems(items):
    """Mark what needs real volumes, so that ``-m real`` finds it."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("real")


@pytest.fixture(scope="session")
def real_data():
    """Folder of the real volumes; tests that need it are skipped without it."""
    folder = os.environ.get("SEGCAL_REAL_DATA")
    if not folder:
        pytest.skip("SEGCAL_REAL_DATA is not set: no real volumes")
    return Path(folder)
