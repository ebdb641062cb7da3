"""Predictions as somebody's network would have written them: blobs with a doubt around them."""

import json

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.special import softmax

SHAPE, SPACING_MM = (20, 18, 12), (1.5, 1.5, 3.0)
AFFINE = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
LABELS = {"background": 0, "core": 1, "rim": 2}


def draw_labels(rng, shape=SHAPE):
    """A core within a rim, somewhere in the volume: classes 0 to 2."""
    centre = np.array(shape) / 2 + rng.uniform(-1.5, 1.5, 3)
    places = np.stack(np.indices(shape)) - centre.reshape(3, 1, 1, 1)
    distance = np.sqrt((places**2).sum(axis=0)) + rng.normal(0, 0.1, shape)
    return np.select([distance < 2.5, distance < 4.5], [1, 2], 0).astype(np.uint8)


def draw_probs(labels, rng, sharpness=6.0, n_classes=3):
    """Probabilities (K, X, Y, Z), float32, of a network that is surer than it is right."""
    logits = np.stack([ndimage.gaussian_filter(1.0 * (labels == k), 1.0) for k in range(n_classes)])
    logits += ndimage.gaussian_filter(rng.normal(0, 0.9, logits.shape), (0, 1, 1, 1))
    return softmax(sharpness * logits, axis=0).astype(np.float32)


def write_volume(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def write_nnunet(folder, case, probs, affine=AFFINE):
    """Write a case as nnU-Net v2 does: axes K, Z, Y, X, and the segmentation beside."""
    write_volume(folder / f"{case}.nii.gz", probs.argmax(axis=0).astype(np.uint8), affine)
    np.savez_compressed(folder / f"{case}.npz", probabilities=probs.transpose(0, 3, 2, 1))


def write_study(root, n_cases=6, n_members=2, n_new=0, seed=0, sharpness=6.0, labels=LABELS):
    """Write labels, images and members' predictions; return labels, predictions, images, new."""
    rng = np.random.default_rng(seed)
    dataset = {"labels": labels, "channel_names": {"0": "MR"}, "file_ending": ".nii.gz"}
    for case in range(n_cases + n_new):
        name, is_new = f"case_{case:03}", case >= n_cases
        classes = draw_labels(rng)
        image = (100 * classes + rng.normal(0, 20, SHAPE)).astype(np.float32)
        write_volume(root / "imagesTr" / f"{name}_0000.nii.gz", image)
        if not is_new:
            write_volume(root / "labelsTr" / f"{name}.nii.gz", classes)
        for member in range(n_members):
            folder = root / f"{'new' if is_new else 'fold'}_{member}"
            write_nnunet(folder, name, draw_probs(classes, rng, sharpness))
    (root / "dataset.json").write_text(json.dumps(dataset))
    folds = [root / f"fold_{member}" for member in range(n_members)]
    new = [root / f"new_{member}" for member in range(n_members)] if n_new else []
    return {
        "labels": root / "labelsTr",
        "predictions": folds,
        "images": [root / "imagesTr"],
        "new": new,
    }
