"""Convert one case: read, check, renumber the labels, write, remember what it was made from.

A case is complete when its record lies in ``.conversion``; that is written last.
"""

import gzip
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np

from segcal_lite._checks import check_finite, wrong_input
from segcal_lite.data.nifti import GZIP
from segcal_lite.data.volumes import LABEL_SHIFT, check_same_grid, write_volume
from segcal_lite.runs.folders import file_digest, read_json, write_json, written_aside

RECORDS = ".conversion"
THUMBNAIL_PIXELS = 160  # along the longer side of a contact sheet's picture


def convert_case(read, case, found, dest):
    """Write one case to `dest`; its record comes last and makes it complete.

    The record holds the source files with size, time and SHA-256, the written ones with their
    sizes, and what the report says of the case.

    Parameters
    ----------
    read : callable
        `reading.read_case` or a script's own.
    case : cases.SourceCase
    found : cases.Found
    dest : Path

    Raises
    ------
    ValueError, OSError
        Naming the file; nothing of the case is left behind.
    """
    sources = [describe_source(path) for path in case.files]
    with warnings.catch_warnings(record=True, action="always") as doubts:  # of headers
        images, label = read(case)
        check_same_grid(images[0], label, LABEL_SHIFT)
    for volume in images[1:]:
        check_same_grid(images[0], volume)
    image = np.concatenate([v.data.reshape(-1, *v.grid_shape) for v in images])
    if image.dtype.kind not in "iu":
        with np.errstate(over="ignore"):  # found in the next lines
            image = image.astype(np.float32)
    if len(image) != len(found.channels):
        expected = f"{len(found.channels)}: {', '.join(found.channels)}"
        raise wrong_input(images[0].path, f"{len(image)} channels", expected)
    check_finite(images[0].path, image)
    hint = "; name others in --classes, with a new DEST" if "classes" in found.settings else ""
    labels = renumber(label, found.classes, hint)
    record = {
        "case": case.name,
        "domain": case.domain,
        "split": found.split_of[case.patient],
        "patient": case.patient,
        "group": case.group,
        "sources": sources,
        "stated": case.stated,
        "doubts": [str(doubt.message) for doubt in doubts],
    }
    record |= describe_case(image, labels, len(found.segments), images[0])
    (dest / RECORDS / f"{case.name}.json").write_bytes(b"")  # begun, and not complete
    try:
        record["written"] = write_case(case.name, image, labels, images[0].affine, dest)
        write_json(dest / RECORDS / f"{case.name}.json", record)
    except BaseException:
        remove_case(case.name, dest)
        raise


def renumber(label, classes, hint=""):
    """Return the labels as classes, in as few bytes as fit; unpublished values are refused."""
    values = np.unique(label.data)
    unknown = sorted(set(values.tolist()) - set(classes))
    if unknown:
        raise wrong_input(label.path, f"label values {unknown}", f"only {sorted(classes)}{hint}")
    labels = np.zeros(label.data.shape, dtype=np.min_scalar_type(max(classes.values())))
    for value in values.tolist():
        labels[label.data == value] = classes[value]
    if not labels.any():
        raise wrong_input(label.path, "no voxel of any segment", "at least one")
    return labels


def write_case(name, image, labels, affine, dest):
    """Write channels, labels and thumbnail; return the sizes of the files by name."""
    volumes = {f"imagesTr/{name}_{c:04d}.nii.gz": channel for c, channel in enumerate(image)}
    volumes[f"labelsTr/{name}.nii.gz"] = labels
    for path, array in volumes.items():
        write_volume(dest / path, array, affine)
    thumbnail = f"{RECORDS}/{name}.npz"
    save_thumbnail(dest / thumbnail, image[0], labels, affine)
    return {path: (dest / path).stat().st_size for path in (*volumes, thumbnail)}


def remove_case(name, dest):
    """Remove all that was written of a case, last its record: it says whose the files are."""
    records = [dest / RECORDS / f"{name}{ending}" for ending in (".npz", ".json")]
    for path in (*case_files(name, dest), *records):
        path.unlink(missing_ok=True)


def case_files(name, dest):
    """Return the volumes of a case that lie in `dest`."""
    images = (dest / "imagesTr").glob(f"{glob_literal(name)}_[0-9][0-9][0-9][0-9].nii.gz")
    return [*images, dest / "labelsTr" / f"{name}.nii.gz"]


def glob_literal(name):
    """Return `name` so that a pattern takes it literally."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def describe_source(path):
    """Return size, time and SHA-256 of a source file."""
    path = Path(path)
    if not path.is_file():
        raise wrong_input(path, "no such file", "a file of the case")
    digest, state = file_digest(path), path.stat()
    return {"file": str(path), "size": state.st_size, "time": state.st_mtime_ns, "sha256": digest}


def is_unchanged(path, source):
    """Whether a source file is what it was; only one that looks different is read."""
    path = Path(path)
    state = path.stat() if path.is_file() else None
    as_before = str(path), source["size"], source["time"]  # another file may be as large and old
    if state and (source["file"], state.st_size, state.st_mtime_ns) == as_before:
        return True
    return bool(state) and describe_source(path)["sha256"] == source["sha256"]


def read_record(name, dest):
    """Return the record of a case that is complete, or nothing."""
    path = dest / RECORDS / f"{name}.json"
    try:
        record = read_json(path)
        whole = all(_is_whole(dest / path, size) for path, size in record["written"].items())
    except (OSError, ValueError, KeyError, TypeError):  # absent, damaged, or a volume is
        return None
    return record if whole else None


def work_of_others(name, dest):
    """Return the first volume of a case that is not as it was written, or was never written here.

    What was cut short is nobody's work. A record that cannot be read is of a case that was begun:
    all its volumes are this program's.
    """
    record = dest / RECORDS / f"{name}.json"
    there = [path for path in case_files(name, dest) if path.exists()]
    if not record.exists():
        return next(iter(there), None)
    try:
        written = read_json(record, shape={"written": dict})["written"]
    except ValueError:
        return None
    sizes = {path: written.get(path.relative_to(dest).as_posix()) for path in there}
    edited = (p for p, size in sizes.items() if p.stat().st_size != size and _is_whole(p, size))
    return next(edited, None)


def _is_whole(path, size):
    """Whether a file is as long as it was written, or a volume that somebody has worked on.

    What was cut short, or damaged, is neither, as gzip's checksum tells.
    """
    if path.stat().st_size == size:
        return True
    with suppress(EOFError, OSError, zlib.error), path.open("rb") as file:
        if file.read(len(GZIP)) == GZIP:
            file.seek(0)
            with gzip.open(file) as packed:
                while packed.read(2**20):
                    pass
        return path.name.endswith(".nii.gz") and file.tell() > 0
    return False


def describe_case(image, labels, n_segments, volume):
    """Return spacing, shape, range of each channel and millilitres of each segment."""
    voxel_ml = abs(np.linalg.det(volume.affine[:3, :3])) / 1000
    counts = np.bincount(labels.ravel(), minlength=n_segments + 1)[1:]
    return {
        "shape": volume.grid_shape,
        "spacing_mm": [round(size, 4) for size in volume.spacing_mm],
        "orientation": "".join(nib.aff2axcodes(volume.affine)),
        "intensity_min": [float(channel.min()) for channel in image],
        "intensity_max": [float(channel.max()) for channel in image],
        "volumes_ml": [round(float(n) * voxel_ml, 3) for n in counts],
    }


def save_thumbnail(path, image, labels, affine):
    """Save the slice that shows most segments; among those, the one with most foreground."""
    orientation = nib.io_orientation(affine)
    turned = nib.apply_orientation(labels, orientation)
    spacing_mm = nib.affines.voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    spans_mm = np.where(np.equal(turned.shape, 1), np.inf, spacing_mm)
    axis = int(np.argmax(spans_mm)) if np.ptp(spacing_mm) > 0.01 else 2
    slices = np.moveaxis(turned, axis, 0)
    shown_segments = [len(np.unique(labels_of_slice)) for labels_of_slice in slices]
    k = int(np.lexsort(((slices > 0).sum(axis=(1, 2)), shown_segments))[-1])
    shown = np.take(nib.apply_orientation(image, orientation), k, axis).astype(np.float32)
    step = max(1, int(np.ceil(max(shown.shape) / THUMBNAIL_PIXELS)))
    in_plane_mm = np.delete(spacing_mm, axis) * step
    with written_aside(path) as partial:
        contours = np.take(turned, k, axis)[::step, ::step]
        np.savez_compressed(
            partial,
            image=shown[::step, ::step],
            labels=contours,
            spacing_mm=in_plane_mm,
            shows_right=axis != 0,
        )
