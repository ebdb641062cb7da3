"""How long `evaluate` takes a case and core, and how much memory: five members of a brain.

Cases of 240 x 240 x 155 voxels, 4 classes, 5 members, as nnU-Net writes them. Time of surface
distances is told apart. With ``--growth`` 10, 20 and 40 small cases, a process each: time and
memory should grow no faster than their number.
"""

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.special import softmax

from segcal_lite.experiments.own_model import evaluate

SHAPE, SMALL, N_MEMBERS = (240, 240, 155), (80, 80, 64), 5
COUNTS = 10, 20, 40  # of small cases


def write_case(root, case, rng, shape):
    """A tumour of three shells in a head, and members that are unsure at its borders."""
    places = np.stack(np.indices(shape, dtype=np.float32))
    centre = np.array(shape) / 2 + rng.uniform(-0.1, 0.1, 3) * min(shape)
    distance = np.sqrt(((places - centre.reshape(3, 1, 1, 1).astype(np.float32)) ** 2).sum(axis=0))
    distance += 6 * ndimage.zoom(rng.normal(0, 1, (9, 9, 7)), np.array(shape) / (9, 9, 7), order=1)
    labels = np.select([distance < 10, distance < 18, distance < 28], [3, 1, 2], 0).astype(np.uint8)
    (root / "labelsTr").mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), root / "labelsTr" / f"{case}.nii.gz")
    smooth = [ndimage.gaussian_filter((labels == k).astype(np.float32), 1.5) for k in range(4)]
    for member in range(N_MEMBERS):
        folder = root / f"fold_{member}"
        folder.mkdir(exist_ok=True)
        noise = ndimage.zoom(
            rng.normal(0, 0.2, (40, 40, 26)), np.array(shape) / (40, 40, 26), order=1
        )
        logits = 12 * np.stack([smooth[0], smooth[1] + noise, smooth[2] - noise, smooth[3]])
        probs = softmax(logits.astype(np.float32), axis=0)
        segmentation = probs.argmax(axis=0).astype(np.uint8)
        nib.save(nib.Nifti1Image(segmentation, np.eye(4)), folder / f"{case}.nii.gz")
        np.savez_compressed(folder / f"{case}.npz", probabilities=probs.transpose(0, 3, 2, 1))


def growth(root):
    """Time and memory of more and more small cases, a process each, so that peaks are their own."""
    for n_cases in COUNTS:
        small = ("--cases", str(n_cases), "--root", str(root), "--shape", *map(str, SMALL))
        subprocess.run([sys.executable, __file__, *small, "--brief"], check=True)


def measure(root, n_cases, shape, brief):
    """Write cases where they lack, evaluate all that lie there, print time and memory."""
    names = {"background": 0, "core": 1, "oedema": 2, "enhancing": 3}
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps({"labels": names}))
    for number in range(n_cases):
        if not (root / "labelsTr" / f"c{number}.nii.gz").exists():
            write_case(root, f"c{number}", np.random.default_rng(number), shape)
    n_cases = len(list((root / "labelsTr").iterdir()))
    folders = [root / f"fold_{member}" for member in range(N_MEMBERS)]
    profile = cProfile.Profile()
    started = time.process_time()
    profile.enable()
    evaluate(root / "labelsTr", folders, tempfile.mkdtemp(dir=root), n_workers=1)
    profile.disable()
    seconds = time.process_time() - started
    stats = pstats.Stats(profile)
    by_name = {name: found[3] for (_, _, name), found in stats.stats.items()}
    surfaces, tables = by_name["surface_metrics"], by_name["write_results"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    each = (seconds - surfaces - tables) / n_cases
    print(
        f"{n_cases} cases of {shape}: {each:.2f} s a case besides surface distances "
        f"({surfaces / n_cases:.2f} s), tables {tables:.1f} s in all, peak {peak:.2f} GB"
    )
    if not brief:
        stats.sort_stats("cumulative").print_stats(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--root", type=Path, help="keep the cases there for another run")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--brief", action="store_true", help="no profile")
    parser.add_argument("--growth", action="store_true", help=f"{COUNTS} small cases")
    chosen = parser.parse_args()
    root = chosen.root or Path(tempfile.mkdtemp())
    if chosen.growth:
        growth(root)
    else:
        measure(root, chosen.cases, chosen.shape, chosen.brief)


if __name__ == "__main__":
    main()
