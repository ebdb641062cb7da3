"""Probabilities from npz and npy files, and whether numbers of any file are probabilities.

A file may be damaged, or made to harm: pickles are never read, and what a header promises is
compared with the expected shape and with the size of the file before memory is asked for.
"""

import math
import zipfile
from typing import NamedTuple

import numpy as np

from ..._checks import ROUNDING, told_if_unreadable, wrong_input
from ...runs.arrays import told_if_damaged
from ..nifti import PACKED_AT_MOST
from ..volumes import as_label, fractions, read_volume

BLOCK = 2**20  # bytes that are read at a time
BLOCK_VOXELS = 2**15  # which stay in the processor's cache while they are looked at
HALF_ROUNDING = 4e-3  # by which class sums miss 1 where 16 bits held them, also on the way
LOOKS_ROUNDED = 0.02  # class sums that miss 1 by less are hardly those of a sigmoid for each class
STEPS = 255  # between the lowest and the highest number that 8 bits hold
SCALES = {  # from 0 on: by the largest sum of classes, or by the largest number without a sum
    "per cent: divide by 100": ((99, 101), (2, 101)),
    "bytes: divide by 255": ((252, 258), (101, 256)),
}
OVERSHOOT = 0.1  # by which interpolation of higher order leaves [0, 1]
FLOAT16 = "stored as float16: where the true class has exactly 0, that is rounding"
RESCALED = "class sums that miss 1 by little, as 8 or 16 bits leave them, were scaled to 1"
ONE_CHANNEL = "one channel was taken for the probability of the one segment; outside it is 1 - p"
ONE_HOT = "only 0 and 1: hard labels, one channel a class, or a network that is certain everywhere"
ALL_ZERO = "voxels of 0 in all classes, as outside of nnU-Net's crop, became certain background"


class Survey(NamedTuple):
    """What one look at class probabilities (K, n) finds."""

    lowest: float
    highest: float
    totals: np.ndarray  # sums over the classes, (n,)
    predicted: np.ndarray  # arg max, the lowest class on a tie, int16, (n,)
    is_one_hot: bool  # only 0 and 1


def read_npz(path, key, check_shape):
    """Return one array of an npz as float32, C-ordered, and whether it is stored as float16.

    `check_shape` is called with the shape in the header and raises if that cannot be.
    """
    with told_if_unreadable(path):
        file = path.open("rb")
    with file, told_if_damaged(path, "a whole npz file"):
        archive = zipfile.ZipFile(file)
        if f"{key}.npy" not in archive.namelist():
            found = ", ".join(archive.namelist()[:5]) or "nothing"
            raise wrong_input(path, found, f"an array {key}")
        member = archive.getinfo(f"{key}.npy")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise wrong_input(path, "an unusual compression", "one of np.savez_compressed")
        with archive.open(member) as stream:
            most = member.compress_size * PACKED_AT_MOST[".gz"]
            return _read_stream(path, stream, min(member.file_size, most), check_shape)


def read_npy(path, check_shape):
    """Return the array of an npy file as `read_npz` does."""
    with told_if_unreadable(path):
        file = path.open("rb")
    with file, told_if_damaged(path, "a whole npy file"):
        return _read_stream(path, file, path.stat().st_size, check_shape)


def _read_stream(path, stream, n_bytes, check_shape):
    """Read header and numbers of NumPy's format from a stream that holds at most `n_bytes`."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # longer headers are those of tables
        raise wrong_input(path, f"version {version} of NumPy's format", "a plain array")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        expected = "numbers alone: pickles are not read, since they can run programs"
        raise wrong_input(path, "pickled objects", expected)
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise wrong_input(path, f"numbers of type {dtype}", "probabilities as floating point")
    check_shape(shape)
    if math.prod(shape) * dtype.itemsize > n_bytes:
        found = f"at most {n_bytes} bytes for shape {shape} of {dtype}"
        raise wrong_input(path, found, "a whole array")
    values = _numbers(stream, math.prod(shape), dtype)
    probs = values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)
    return np.ascontiguousarray(probs), dtype.itemsize == 2


def _numbers(stream, n, dtype):
    """Return `n` numbers as float32, block by block, and read on to the end and its checksum."""
    values, step = np.empty(n, dtype=np.float32), BLOCK // dtype.itemsize
    for start in range(0, n, step):
        block = values[start : start + step]
        raw = stream.read(block.size * dtype.itemsize)
        if len(raw) < block.size * dtype.itemsize:
            raise EOFError("it ends early")
        with np.errstate(over="ignore"):  # infinite in float32, and told as that
            block[:] = np.frombuffer(raw, dtype)
    if stream.read(1):
        raise EOFError("bytes behind the last number")
    return values


def settle_classes(path, probs, counts, notes):
    """Check class probabilities (K, n), mend what is known to be rounding; return the arg max.

    Works in place: what exceeds 1 by rounding becomes 1, voxels of 0 in all classes become certain
    background, sums that 8 or 16 bits rounded become 1. The latter two are added to `counts` and
    `notes`; any other sum is a ``ValueError`` that says what the numbers look like.
    """
    lowest, highest, totals, predicted, is_one_hot = _survey(probs)
    _check_range(path, lowest, highest, totals.max())
    if highest == 0:
        raise wrong_input(path, "0 for all classes everywhere", "probabilities")
    _cut_above_1(probs, highest)
    _tell_one_hot(is_one_hot, counts, notes)
    empty = totals == 0
    if empty.any():
        probs[0][empty] = totals[empty] = 1
        counts["n_all_zero"] += int(np.count_nonzero(empty))
        notes.append(ALL_ZERO)
    least, most = float(totals.min()), float(totals.max())
    worst = max(1 - least, most - 1)
    if worst > HALF_ROUNDING and not _are_rounded_to_8_bits(probs, worst):
        found = f"class sums from {least:.6g} to {most:.6g}"
        why = "a sigmoid for each class: name them as regions in dataset.json"
        if worst < LOOKS_ROUNDED:
            why = "if this is rounding: save the probabilities as float32"
        raise wrong_input(path, found, f"sums of 1 ({why})")
    if worst > ROUNDING:
        counts["is_rescaled"] = 1
        notes.append(RESCALED)
        np.divide(probs, totals, out=probs)
    return predicted


def _tell_one_hot(is_one_hot, counts, notes):
    """Count and note numbers that may be no more than hard labels."""
    if is_one_hot:
        counts["is_one_hot"] = 1
        notes.append(ONE_HOT)


def settle_regions(path, probs, counts, notes):
    """Check probabilities of regions (R, n); return where each is above one half, int8."""
    highest = float(probs.max())
    _check_range(path, float(probs.min()), highest)
    _cut_above_1(probs, highest)
    _tell_one_hot(_has_only_0_and_1(probs), counts, notes)
    counts["n_all_zero"] += int(np.count_nonzero(~probs.any(axis=0)))
    return (probs > 0.5).astype(np.int8)


def _cut_above_1(probs, highest):
    """Cut off in place what rounding has put above 1: no score of it would be in its range."""
    if highest > 1:
        np.minimum(probs, 1, out=probs)


def with_background(path, probs, notes):
    """Return two classes (2, ...) where a network has one channel (1, ...), of the foreground."""
    highest = float(probs.max())
    _check_range(path, float(probs.min()), highest)
    notes.append(ONE_CHANNEL)
    return np.concatenate([np.maximum(1 - probs, 0), probs])


def read_hard(path, channels):
    """Read labels; what looks like probabilities is told, and how those of `channels` are given."""
    volume = read_volume(path)
    values = volume.data
    is_float = values.dtype.kind == "f"
    if is_float and values.min() >= 0 and values.max() <= 1 + ROUNDING:
        wrong = fractions(values)
        if wrong.any():
            found = f"fractions such as {values[wrong][0]:.4g}, which look like one channel"
            each = f"one channel each for {', '.join(channels)}"
            forms = "4D, classes last, or a file a class (case_class1)"
            raise wrong_input(path, f"{found} of probabilities", f"labels, or {each}: {forms}")
    return as_label(volume)


def _survey(probs):
    """Look at each number once, block by block."""
    totals = np.empty(probs.shape[1], dtype=np.float32)
    predicted = np.zeros(probs.shape[1], dtype=np.int16)
    lowest, highest, is_one_hot = [], [], True
    for start in range(0, probs.shape[1], BLOCK_VOXELS):
        block = probs[:, start : start + BLOCK_VOXELS]
        here = slice(start, start + block.shape[1])
        block.sum(axis=0, out=totals[here])
        largest = block[0].copy()
        for k, class_probs in enumerate(block[1:], start=1):
            np.copyto(predicted[here], k, where=class_probs > largest)
            np.maximum(largest, class_probs, out=largest)
        is_one_hot = is_one_hot and (largest == (largest > 0)).all() and _has_only_0_and_1(block)
        lowest.append(block.min())
        highest.append(largest.max())
    lowest, highest = float(np.min(lowest)), float(np.max(highest))
    return Survey(lowest, highest, totals, predicted, bool(is_one_hot))


def _has_only_0_and_1(probs):
    """Whether no number lies between."""
    return not ((probs > 0) & (probs < 1)).any()


def _are_rounded_to_8_bits(probs, worst):
    """Whether 8 bits explain by how much class sums miss 1: each class has few numbers, in steps.

    A file may scale its bytes, and each class has its own file and scale, so the steps differ.
    """
    if worst > len(probs) / 2 / STEPS + ROUNDING:
        return False
    for one in probs:
        found = np.zeros(0, dtype=probs.dtype)
        for start in range(0, one.size, BLOCK_VOXELS):
            found = np.unique(np.concatenate([found, one[start : start + BLOCK_VOXELS]]))
            if found.size > STEPS + 1:
                return False
        if np.diff(found).min(initial=1) < 0.99 * np.ptp(found) / STEPS:
            return False
    return True


def _check_range(path, lowest, highest, largest_sum=None):
    """Refuse what is not finite or not in [0, 1]; say what the numbers look like.

    Regions and single channels have no sum.
    """
    if not np.isfinite([lowest, highest]).all():
        raise wrong_input(path, "NaN or infinite values", "probabilities")
    if lowest >= 0 and highest <= 1 + ROUNDING:
        return
    looks = "logits: take their softmax, or of regions the sigmoid"
    if highest <= 0:
        looks = "logarithms of probabilities"
    elif lowest >= -OVERSHOOT and highest <= 1 + OVERSHOOT:
        looks = "what cubic interpolation leaves; linear interpolation stays in that range"
    elif lowest >= 0:
        is_alone = largest_sum is None
        largest = highest if is_alone else largest_sum
        ranges = {scale: of[is_alone] for scale, of in SCALES.items()}
        looks = next((s for s, (lo, hi) in ranges.items() if lo < largest <= hi), looks)
    found = f"values from {lowest:.6g} to {highest:.6g}"
    raise wrong_input(path, found, f"probabilities from 0 to 1; these look like {looks}")
