"""How long `evaluate` takes a case and core, and how much memory: five members of a brain.

Cases of 240 x 240 x 155 voxels, 4 classes, 5 members, as nnU-Net writes them. Time of surface
distances is told apart. One row goes to ``results/benchmarks.csv``.
"""

import argparse
import cProfile
import json
import pstats
import resource
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.special import softmax

from segcal_lite.experiments.own_model import evaluate

SHAPE, N_CLASSES, N_MEMBERS = (240, 240, 155), 4, 5


def write_case(root, case, rng):
    """A tumour of three shells in a head, and members that are unsure at its borders."""
    places = np.stack(np.indices(SHAPE, dtype=np.float32))
    centre = np.array(SHAPE) / 2 + rng.uniform(-20, 20, 3)
    distance = np.sqrt(((places - centre.reshape(3, 1, 1, 1).astype(np.float32)) ** 2).sum(axis=0))
    distance += 6 * ndimage.zoom(rng.normal(0, 1, (9, 9, 7)), np.array(SHAPE) / (9, 9, 7), order=1)
    labels = np.select([distance < 10, distance < 18, distance < 28], [3, 1, 2], 0).astype(np.uint8)
    (root / "labelsTr").mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), root / "labelsTr" / f"{case}.nii.gz")
    smooth = [ndimage.gaussian_filter((labels == k).astype(np.float32), 1.5) for k in range(4)]
    for member in range(N_MEMBERS):
        folder = root / f"fold_{member}"
        folder.mkdir(exist_ok=True)
        noise = ndimage.zoom(
            rng.normal(0, 0.2, (40, 40, 26)), np.array(SHAPE) / (40, 40, 26), order=1
        )
        logits = 12 * np.stack([smooth[0], smooth[1] + noise, smooth[2] - noise, smooth[3]])
        probs = softmax(logits.astype(np.float32), axis=0)
        segmentation = probs.argmax(axis=0).astype(np.uint8)
        nib.save(nib.Nifti1Image(segmentation, np.eye(4)), folder / f"{case}.nii.gz")
        np.savez_compressed(folder / f"{case}.npz", probabilities=probs.transpose(0, 3, 2, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--root", type=Path, help="keep the cases there for another run")
    chosen = parser.parse_args()
    root = chosen.root or Path(tempfile.mkdtemp())
    names = {"background": 0, "core": 1, "oedema": 2, "enhancing": 3}
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps({"labels": names}))
    for case in range(chosen.cases):
        if not (root / "labelsTr" / f"c{case}.nii.gz").exists():
            write_case(root, f"c{case}", rng)
    folders = [root / f"fold_{member}" for member in range(N_MEMBERS)]
    profile = cProfile.Profile()
    started = time.process_time()
    profile.enable()
    evaluate(root / "labelsTr", folders, tempfile.mkdtemp(dir=root), n_workers=1)
    profile.disable()
    seconds = time.process_time() - started
    stats = pstats.Stats(profile)
    surfaces = [s[3] for (_, _, name), s in stats.stats.items() if name == "surface_metrics"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    each = (seconds - sum(surfaces)) / chosen.cases
    print(
        f"{each:.1f} s a case besides surface distances ({sum(surfaces) / chosen.cases:.1f} s), ",
        end="",
    )
    print(f"peak {peak:.2f} GB")
    stats.sort_stats("cumulative").print_stats(30)


if __name__ == "__main__":
    main()
