"""Files with something wrong in them, made by chance from a seed; and what reads them.

Run in a process of its own: python tests/hostile/mutations.py KIND FOLDER N SEED. It prints JSON:
the mutations that ended in anything but success or one clear sentence, the longest seconds and
the peak of memory.
"""

import gzip
import io
import json
import pickle
import random
import resource
import shutil
import signal
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from own_predictions import write_study  # noqa: E402  (the folder above is known by now)

LONGEST_SECONDS, LONGEST_WAIT = 10, 120
ODD_VALUES = (
    *(None, True, -1, 0, 1.5, 1e308, -1e308, float("nan"), float("inf"), 2**63, 10**400),
    *("", " ", "x" * 300, "\x00", "../../etc/passwd", "/", "\ud800", "é", "1e9", "nan", "-"),
    *([], {}, [[]], [None], {"": ""}, {"0": {"0": {}}}, ["a"] * 50, list(range(50))),
)


def mutate_bytes(content, rng):
    """Flip, drop, double, cut or overwrite some bytes."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        start = rng.randrange(max(1, len(content)))
        n = rng.choice((1, 2, 4, 8, 64))
        way = rng.randrange(6)
        if way == 0 and content:
            content[start % len(content)] ^= 1 << rng.randrange(8)
        elif way == 1:
            del content[start : start + n]
        elif way == 2:
            content[start:start] = content[start : start + n]
        elif way == 3:
            del content[start:]
        else:
            value = rng.choice((0x00, 0xFF, 0x7F, 0x80))
            content[start : start + n] = bytes([value]) * len(content[start : start + n])
    return bytes(content)


def mutate_header(content, rng):
    """Overwrite fields of a NIfTI header with numbers at the ends of their range."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(0, 348, 2)
        odd = rng.choice(
            (
                *(np.float32(v).tobytes() for v in (np.nan, np.inf, -1, 0, 1e30)),
                *(np.int16(v).tobytes() for v in (-1, 0, 32767, -32768, 8, 300)),
                *(np.int32(v).tobytes() for v in (-1, 0, 2**31 - 1)),
            )
        )
        content[at : at + len(odd)] = odd
    return bytes(content)


def mutate_json(content, rng):
    """Put an odd value in the place of a node, or take one away."""
    tree = {"": json.loads(content)}
    places, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                waiting.append(node[key])
    node, key = rng.choice(places)
    if rng.random() < 0.2 and (node, key) != (tree, ""):
        del node[key]
    else:
        node[key] = rng.choice(ODD_VALUES)
    return json.dumps(tree[""]).encode("utf-8", "surrogatepass")


def mutate_text(content, rng):
    """Change cells and lines of a table, or of YAML; now and then single bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    lines = content.decode().split("\n")
    number = rng.randrange(len(lines))
    way = rng.randrange(5)
    if way == 0:
        lines.insert(number, lines[rng.randrange(len(lines))])
    elif way == 1:
        del lines[number]
    else:
        separator = rng.choice(",:[ ")
        cells = lines[number].split(separator)
        odd = rng.choice(ODD_VALUES)
        odd = odd if isinstance(odd, str) else json.dumps(odd)
        cells[rng.randrange(len(cells))] = odd
        lines[number] = separator.join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def gzipped(mutate):
    """Mutate what is inside a gzip file."""

    def inside(content, rng):
        return gzip.compress(mutate(gzip.decompress(content), rng), compresslevel=1)

    return inside


def zipped(mutate):
    """Mutate what is inside an archive of NumPy, one of its arrays."""

    def inside(content, rng):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(sorted(members))
        members[name] = mutate(members[name], rng)
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member)
        return written.getvalue()

    return inside


def mutate_json_or_bytes(content, rng):
    """One or the other."""
    return (mutate_bytes if rng.random() < 0.3 else mutate_json)(content, rng)


def use_dataset(folder):
    """Read a dataset and prepare all of it."""
    from segcal_lite.data.datasets import read_dataset, task_of
    from segcal_lite.data.prepared import prepare_dataset

    dataset = read_dataset(folder / "run" / "discs")
    dataset.fingerprint()
    shutil.rmtree(folder / "prepared", ignore_errors=True)
    prepare_dataset(dataset, task_of(dataset), (32, 32), folder / "prepared", lambda line: None)


def use_sets(folder):
    """Read the sets that a YAML file names."""
    from segcal_lite.data.sets import read_sets

    read_sets(folder / "sets.yaml")


def use_run(folder):
    """Open a finished run, score it, and load its model."""
    from segcal_lite.experiments.one_dataset import open_experiment
    from segcal_lite.training.models import load_model

    tiny = {"n_epochs": 1, "n_members": 1, "n_passes": 2, "n_resamples": 2}
    tiny |= {"widths": (4, 8), "crop_size": (32, 32), "device": "cpu"}
    run = open_experiment(
        folder / "run", folder / "run" / "discs", report=lambda line: None, **tiny
    )
    run.scores(("dice",), lambda line: None)
    load_model(run.members("dice")[0].folder, "cpu")


def use_checkpoint(folder):
    """Go on with an interrupted training."""
    from segcal_lite.training.models import TrainingSettings, load_model
    from segcal_lite.training.on_slices import train_model

    started = folder / "started"
    kept = folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(started, kept)
    _, settings = load_model(folder / "run" / "models" / "unet2d-dice" / "0", "cpu")
    assert isinstance(settings, TrainingSettings)
    train_model(kept, folder / "run" / "prepared", settings, "cpu")


def use_evaluation(folder):
    """Evaluate somebody's predictions, or what is left to do of it, and write the page."""
    from segcal_lite.experiments.own_model import evaluate
    from segcal_lite.kit.own_page import write_page

    study = folder / "study"
    members, new = ([study / f"{kind}_{m}" for m in (0, 1)] for kind in ("fold", "new"))
    given = {"new": new, "images": [study / "imagesTr"], "n_workers": 1}
    write_page(
        evaluate(*(study / "labelsTr", members, folder / "mine"), **given, report=lambda line: None)
    )


def write_predictions(folder):
    """What two networks said: nnU-Net's form, and plain arrays; one case is new."""
    given = write_study(folder / "study", n_cases=4, n_members=2, n_new=1)
    for member in (given["predictions"][1], given["new"][1]):
        for path in list(member.glob("*.npz")):
            probs = np.load(path)["probabilities"].transpose(0, 3, 2, 1)
            np.save(path.with_suffix(".npy"), probs)
            path.unlink()


def use_archive(folder):
    """Unpack an archive."""
    from data_scripts.convert.archives import unpack

    shutil.rmtree(folder / "unpacked", ignore_errors=True)
    path = next(folder.glob("archive.*"))
    unpack(path, folder / "unpacked")


def write_archives(folder):
    """A tar, a compressed tar and a zip of two small files."""
    for name, mode in (("tar", "w"), ("tar.gz", "w:gz")):
        (folder / name).mkdir()
        with tarfile.open(
            folder / name / f"archive.{name}", mode, format=tarfile.PAX_FORMAT
        ) as tar:
            for member in ("Task/a.txt", "Task/" + "b" * 120 + ".txt"):
                info = tarfile.TarInfo(member)
                info.size = 1000
                tar.addfile(info, io.BytesIO(b"x" * 1000))
    (folder / "zip").mkdir()
    with zipfile.ZipFile(folder / "zip" / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Task/a.txt", b"x" * 1000)
        archive.writestr("Task/sub/b.txt", b"y" * 1000)


DISCS = "run/discs"  # inside the run, so that both can be copied together
IMAGE, LABEL = f"{DISCS}/imagesTr/disc0_0000.nii.gz", f"{DISCS}/labelsTr/disc0.nii.gz"
MODEL, SCORES = "run/models/unet2d-dice/0", "run/scores/*"
KINDS = {  # file, how it is mutated, what uses it
    "image header": (IMAGE, gzipped(mutate_header), use_dataset),
    "image body": (IMAGE, gzipped(mutate_bytes), use_dataset),
    "image file": (IMAGE, mutate_bytes, use_dataset),
    "label header": (LABEL, gzipped(mutate_header), use_dataset),
    "label body": (LABEL, gzipped(mutate_bytes), use_dataset),
    "dataset.json": (f"{DISCS}/dataset.json", mutate_json_or_bytes, use_dataset),
    "cases.csv": (f"{DISCS}/cases.csv", mutate_text, use_dataset),
    "sets.yaml": ("sets.yaml", mutate_text, use_sets),
    "run.json": ("run/run.json", mutate_json_or_bytes, use_run),
    "provenance.json": ("run/provenance.json", mutate_json_or_bytes, use_run),
    "grid.json": ("run/prepared/grid.json", mutate_json_or_bytes, use_run),
    "record.json": ("run/prepared/disc5/record.json", mutate_json_or_bytes, use_run),
    "prepared cases.csv": ("run/prepared/cases.csv", mutate_text, use_run),
    "config.json": (f"{MODEL}/config.json", mutate_json_or_bytes, use_run),
    "scaling.json": (f"{MODEL}/scaling.json", mutate_json_or_bytes, use_run),
    "history.csv": (f"{MODEL}/history.csv", mutate_text, use_run),
    "weights": (f"{MODEL}/weights.safetensors", mutate_bytes, use_run),
    "scores": (f"{SCORES}/disc5.csv", mutate_text, use_run),
    "sums": (f"{SCORES}/disc5.npz", mutate_bytes, use_run),
    "checkpoint": ("started/checkpoint.safetensors", mutate_bytes, use_checkpoint),
    "state.json": ("started/state.json", mutate_json_or_bytes, use_checkpoint),
    "tar": ("tar/archive.tar", mutate_bytes, use_archive),
    "tar.gz": ("tar.gz/archive.tar.gz", mutate_bytes, use_archive),
    "inside tar.gz": ("tar.gz/archive.tar.gz", gzipped(mutate_bytes), use_archive),
    "zip": ("zip/archive.zip", mutate_bytes, use_archive),
    "nnU-Net's npz": ("study/fold_0/case_001.npz", mutate_bytes, use_evaluation),
    "inside its npz": ("study/fold_0/case_001.npz", zipped(mutate_bytes), use_evaluation),
    "npy": ("study/fold_1/case_001.npy", mutate_bytes, use_evaluation),
    "segmentation": ("study/fold_0/case_001.nii.gz", gzipped(mutate_header), use_evaluation),
    "labels": ("study/labelsTr/case_001.nii.gz", gzipped(mutate_header), use_evaluation),
    "evaluation.json": ("mine/evaluation.json", mutate_json_or_bytes, use_evaluation),
    "its case's json": ("mine/scores/case_001.json", mutate_json_or_bytes, use_evaluation),
    "its case's npz": ("mine/corrected/case_001.npz", mutate_bytes, use_evaluation),
    "its case's csv": ("mine/corrected/case_001.csv", mutate_text, use_evaluation),
    "its voxels": ("mine/voxels/case_001.npz", zipped(mutate_bytes), use_evaluation),
    "its new case": ("mine/new/case_004.json", mutate_json_or_bytes, use_evaluation),
}


def tried(use, folder):
    """Return what is wrong about the outcome of one use, or nothing."""

    def too_long(*others):
        raise TimeoutError(f"over {LONGEST_SECONDS} s of the processor, or {LONGEST_WAIT} s")

    signal.signal(signal.SIGPROF, too_long)  # what else the machine does does not count
    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS)
    signal.alarm(LONGEST_WAIT)
    try:
        use(folder)
    except ValueError as error:
        sentence = str(error)
        if ": found " not in sentence and ", expected " not in sentence:
            return f"no clear sentence: {type(error).__name__}: {sentence[:200]}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def for_numba_alone(read):
    """Let Numba read the code that it has compiled, which lies beside ours; refuse all others."""

    def guarded(*others, **named):
        if sys._getframe(1).f_globals["__name__"].startswith("numba."):
            return read(*others, **named)
        raise AssertionError("a pickle was opened")

    return guarded


def main(kind, folder, n, seed):
    """Mutate one file again and again, and use it."""
    pattern, mutate, use = KINDS[kind]
    root = Path(folder)
    base = (root / pattern).parent if use is use_archive else root
    use(base)  # as it is, it is read; and what is imported is
    path = next(root.glob(pattern))
    original, failures, longest = path.read_bytes(), [], 0.0

    pickle.load, pickle.loads = for_numba_alone(pickle.load), for_numba_alone(pickle.loads)
    pickle.Unpickler = for_numba_alone(pickle.Unpickler)
    for number in range(n):
        rng = random.Random(f"{seed} {kind} {number}")
        path.write_bytes(mutate(original, rng))
        started = time.process_time()
        wrong = tried(use, base)
        longest = max(longest, time.process_time() - started)
        if wrong:
            failures.append({"number": number, "wrong": wrong})
        path.write_bytes(original)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"failures": failures, "seconds": longest, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
