"""Run folders: where things lie, whose settings they carry, and how they are written.

A file with its final name is complete: everything is written aside and renamed. Results of other
settings are refused by name; two processes on one folder take turns by `segcal_lite.runs.claims`.
"""

import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path

from .._checks import wrong_input
from .claims import ASIDE, claimed, is_gone, make_folder, partial_path
from .provenance import checkout, computed_on, provenance

SECONDS_OF_OTHERS = 3600  # after so long nobody on another machine still writes a file
SEAL = "seal of segcal_lite"  # a key of JSON that is sealed, and of no other


def project_root():
    """Folder that relative paths start from: the checkout, or the current folder without one.

    JupyterLab, nbconvert and papermill start kernels in different folders; this is the same for
    all of them.
    """
    return checkout() or Path.cwd()


def resolve_path(path, start=None):
    """Return `path` as it is if absolute, else below `start` or the project root; without ``..``.

    Examples
    --------
    >>> resolve_path("runs/demo").relative_to(project_root()).as_posix()
    'runs/demo'
    >>> resolve_path("notebooks/../runs/demo").relative_to(project_root().resolve()).as_posix()
    'runs/demo'
    """
    try:
        path = Path(path).expanduser()
    except RuntimeError as error:
        raise wrong_input(path, "a user without a home", "a path that there can be") from error
    return without_dots((start or project_root()) / path)


def without_dots(path):
    """Return `path`, where ``..`` is in it by the one name of that place; links keep theirs."""
    path = Path(path)
    return path.resolve() if ".." in path.parts else path


def model_folder(out, network, loss, seed, dropout=0.0):
    """Folder of one model: ``OUT/models/<network>-<loss>[-dropout]/<seed>``.

    Examples
    --------
    >>> model_folder("out", "unet2d", "dice", seed=3, dropout=0.5).as_posix()
    'out/models/unet2d-dice-dropout/3'
    """
    return Path(out) / "models" / f"{network}-{loss}{'-dropout' if dropout else ''}" / str(seed)


@contextmanager
def written_aside(path):
    """Give a temporary path beside `path`; rename it to `path` when the block ends well.

    The block makes a file or a folder. It is on the disk before it has its name: after a power
    failure, too, what has its name is whole. The temporary name keeps the suffix, which some
    writers read the format from. Whatever ends the block early leaves neither; what the system
    says of the disk, an ``OSError``, names `path`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with written_aside(folder / "note.txt") as partial:
    ...     _ = partial.write_text("complete")
    >>> [file.name for file in folder.iterdir()]
    ['note.txt']
    """
    path = Path(path)
    make_folder(path.parent)
    partial = partial_path(path)
    is_nested = any(folder.name.startswith(ASIDE) for folder in path.parents)
    _remove(partial)  # of a killed process of this number
    try:
        yield partial
        for part in () if is_nested else (*partial.rglob("*"), partial):  # the outer one does it
            _flush(part)
        partial.replace(path)
        if not is_nested:
            _flush(path.parent)
    except OSError as error:
        if error.errno is None:  # as NumPy says that a disk is full
            raise OSError(f"{path}: {error}") from error
        where = str(error.filename or path).replace(str(partial), str(path))
        raise OSError(error.errno, error.strerror, where) from error
    finally:
        _remove(partial)


def _flush(path):
    """Wait until a file is on the disk, or what a folder lists; some systems flush no folder."""
    is_folder = path.is_dir()
    with suppress(OSError) if is_folder else nullcontext():
        handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path):
    """Remove a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_partial(folder):
    """Remove what a killed process has left in `folder` half written; it is claimed."""
    for path in Path(folder).glob(f"{ASIDE}*"):
        _remove(path)


def below(folder, pattern):
    """Return the paths at every depth of a folder that end in a pattern of `Path.match`.

    What goes away while others work there is left out; `Path.rglob` would raise.
    """
    paths = (Path(here, name) for here, *names in os.walk(folder) for name in chain(*names))
    return [path for path in paths if path.match(pattern)]


def remove_left_over(folder):
    """Remove what killed processes have left half written in `folder`, at every depth.

    What a process of this machine is writing stays, and for an hour what another may be writing.
    """
    if os.access(folder, os.W_OK):
        for path in filter(_is_left_over, below(folder, f"{ASIDE}*")):
            _remove(path)


def _is_left_over(path):
    """Whether the process that began to write `path` is gone, as its name and its age tell."""
    gone = is_gone(path.name.removeprefix(ASIDE))
    if gone is not None:
        return gone
    try:
        return time.time() - path.stat().st_mtime > SECONDS_OF_OTHERS
    except FileNotFoundError:  # it has its final name by now
        return False


def write_text(path, text):
    """Write a text in UTF-8 with the same line ends on all systems, whole or not at all."""
    with written_aside(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path, content, sealed=False):
    """Write `content` as JSON, whole or not at all.

    A table that is `sealed` carries a digest of itself: who reads it notices a changed digit.
    """
    if sealed:
        content = as_json_values(content)
        content |= {SEAL: _seal_of(content)}
    write_text(path, json.dumps(content, indent=1, default=_plain) + "\n")


def _seal_of(content):
    """Return a digest of what JSON holds, whatever its order and layout."""
    return text_digest(json.dumps(content, sort_keys=True), 16)


def _plain(value):
    """Turn NumPy scalars and paths, which JSON does not know, into plain values."""
    return value.item() if hasattr(value, "item") else str(value)


def read_json(path, remove=None, shape=object):
    """Read a JSON file; one that is damaged is named, and what to `remove` for it.

    `shape` is the type of what it holds, or the types of the fields that it has to have, a dict.
    """
    advice = f"if a run has made it, remove {remove or 'it'} and run again"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        found = f"text that is no JSON ({error})"
        raise wrong_input(path, found, f"a whole JSON file; {advice}") from error
    if isinstance(content, dict) and content.pop(SEAL, None) not in (None, _seal_of(content)):
        raise wrong_input(path, "other values than were written", f"the same; {advice}")
    of_fields = shape if isinstance(shape, dict) else {}
    if not isinstance(content, dict if of_fields else shape):
        expected = "a table" if of_fields else f"one of type {shape.__name__}"
        raise wrong_input(path, f"JSON of type {type(content).__name__}", f"{expected}; {advice}")
    wrong = [name for name, kind in of_fields.items() if not isinstance(content.get(name), kind)]
    if wrong:
        raise wrong_input(path, f"no {wrong[0]}, or of another type", f"it; {advice}")
    return content


def write_figure(path, figure):
    """Write a figure as PNG for a page of notebook width, whole or not at all."""
    with written_aside(path) as partial:
        figure.savefig(partial, dpi=120, bbox_inches="tight")


def as_json_values(settings):
    """Return `settings` as JSON would give it back: tuples become lists."""
    return json.loads(json.dumps(settings, default=_plain))


def as_tuples(value):
    """Return lists as tuples at every depth, which JSON does not know: settings as they were."""
    return tuple(map(as_tuples, value)) if isinstance(value, (list, tuple)) else value


def check_same_settings(path, settings, later_fields=(), are_all=True):
    """Refuse to go on with a result of other settings than its JSON file, naming what differs.

    `later_fields`, a dict, says what older files, which lack some field, mean. Where these settings
    are not all, the file's others count for nothing.
    """
    stored, wanted = dict(later_fields) | read_json(path, shape=dict), as_json_values(settings)
    keys = stored.keys() if are_all else stored.keys() & wanted.keys()
    stored = {key: _named_now(stored[key], Path(path).parent) for key in keys}
    absent = "nothing"
    different = [
        f"{key} = {stored.get(key, absent)!r} (now {wanted.get(key, absent)!r})"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key, absent) != wanted.get(key, absent)
    ]
    if different:
        expected = "the settings of this run; choose another folder or remove this one"
        raise wrong_input(path, "other settings: " + ", ".join(different), expected)


def enter_run(out, name, identity, device, settings=None):
    """Enter a run folder: the first to come writes who it is, who comes later must be the same.

    The identity lies in a file called `name`, since several kinds of runs share a folder; `device`
    and the first one's `settings` go to ``provenance.json``, where `record_settings` replaces them
    once something is trained. Fields that differ are a ``ValueError`` that names them. What killed
    processes have left half written is removed.
    """
    with claimed(out):
        remove_left_over(out)
        if (out / name).exists():
            check_same_settings(out / name, identity)
        elif not os.access(out, os.W_OK):
            expected = "a place where you may write: name another folder"
            raise wrong_input(out, "a folder that you may not write in", expected)
        else:
            write_json(out / name, identity)
        record_provenance(
            out / "provenance.json", device, {Path(name).stem: settings} if settings else {}
        )


def name_in_run(data, out=None):
    """Return how a run calls its data: by their place in the run folder or project, else as given.

    A run itself is called by its place in the project.

    Examples
    --------
    >>> name_in_run("data/ACDC", "runs/acdc"), name_in_run("runs/demo/phantoms", "runs/demo")
    ('data/ACDC', 'phantoms')
    """
    path, out = resolve_path(data), out and resolve_path(out)
    known = [folder for folder in (out, checkout()) if folder and path.is_relative_to(folder)]
    if known:
        return path.relative_to(known[0]).as_posix()
    return str(path if ".." in Path(data).parts else data)


def _named_now(value, out):
    """A name of data, or several, as `name_in_run` gives it: earlier versions left ``..`` in it."""
    if isinstance(value, list):
        return [_named_now(each, out) for each in value]
    if not isinstance(value, str) or ".." not in Path(value).parts:
        return value
    places = [without_dots(folder / value) for folder in (out, project_root())]
    return next((name_in_run(place, out) for place in places if place.exists()), value)


def record_provenance(path, device, settings=None):
    """Write `provenance` and settings to `path`; in a run that goes on, add what is not there."""
    made, given = provenance(device), {"settings": settings} if settings else {}
    if not path.exists():
        write_json(path, made | given)
        return
    stored = read_json(path, shape={"commit": str, "device": str, "processor": str})
    both = (settings or {}) | stored.get("settings", {})
    told = stored | ({"settings": both} if both else {})
    for name, of in (("later_commits", itemgetter("commit")), ("later_devices", computed_on)):
        later = stored.get(name, [])
        if of(made) not in (of(stored), *later):
            told[name] = [*later, of(made)]
    if told != stored and os.access(path.parent, os.W_OK):
        write_json(path, told)


def record_settings(out, kind, settings):
    """Write what the models of a run were made with: it may have been opened otherwise before."""
    path = Path(out) / "provenance.json"
    with claimed(out):
        made = read_json(path, shape=dict)
        settings = made.get("settings", {}) | {kind: as_json_values(settings)}
        if settings != made.get("settings") and os.access(path.parent, os.W_OK):
            write_json(path, made | {"settings": settings})


def text_digest(text, n_digits):
    """Return the first digits of the SHA-256 of a text, hexadecimal: a short name of settings."""
    return hashlib.sha256(text.encode()).hexdigest()[:n_digits]


def file_digest(path):
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
