"""What a script knows about its dataset, and what it has found in a source folder."""

from dataclasses import dataclass, field
from pathlib import Path

from segcal_lite._checks import wrong_input
from segcal_lite.data.other_formats import companion_files
from segcal_lite.data.tasks import TASKS


@dataclass(frozen=True)
class Facts:
    """One row of the table of datasets.

    Attributes
    ----------
    script, title, organ, modality : str
        `script` is what stands behind ``python -m data_scripts.``.
    cases, size : str
        Of the official download, as published.
    licence, obtain, reference : str
        `obtain` says where to get it and whether to register.
    papers : str
        Which of the two papers uses it: A, B, both or none.
    task : str
        Name in `segcal_lite.data.tasks.TASKS` that fits the result.
    layout, unconfirmed : str
        Where the official layout is described; what of it nobody could look up.
    download : bool
        Whether ``--download`` may fetch it.
    """

    script: str
    title: str
    organ: str
    modality: str
    cases: str
    size: str
    licence: str
    obtain: str
    reference: str
    papers: str
    task: str
    layout: str = ""
    unconfirmed: str = ""
    download: bool = False


@dataclass(frozen=True)
class SourceCase:
    """One case to convert.

    Attributes
    ----------
    name, patient, domain, group : str
        As in ``cases.csv``; a group is what a split is balanced over, or nothing.
    images : tuple
        One entry a channel, each a path or a tuple of paths (the slices of a series); for a script
        that chooses among several series, all of them.
    labels : tuple of Path
        One volume, or the slices of one.
    beside : tuple of Path
        Further files that decide the result, such as ``dataset.json``.
    channels : tuple of int
        Which channels of a file with several are taken; empty takes all.
    spacing_mm : tuple of three float or None
        Voxel size along X, Y, Z that the caller knows, for files that state none.
    problem : str
        Why the case cannot be converted, in one sentence; usually nothing.
    stated : dict
        What the source says of it beside its files; `conversion.convert` fills it in.
    """

    name: str
    images: tuple = ()
    labels: tuple = ()
    patient: str = ""
    domain: str = "source"
    group: str = ""
    beside: tuple = ()
    channels: tuple = ()
    spacing_mm: tuple | None = None
    problem: str = ""
    stated: dict = field(default_factory=dict, hash=False)

    @property
    def files(self):
        """Every file that the case is made of, in one tuple; what lies beside them included."""
        files = one_by_one((*self.images, *self.labels, *self.beside))
        return tuple(path for file in files for path in (file, *companion_files(Path(file))))


@dataclass(frozen=True)
class Found:
    """What one call is to convert.

    Attributes
    ----------
    facts : Facts
    channels, segments : tuple of str
    classes : dict
        Class (0 is background) of each value that the source's labels may hold.
    cases : tuple of SourceCase
    split_of : dict of str
        Split of each patient that was found, converted or not, so that a repaired case does not
        move the others.
    settings : dict
        What the caller chose; a rerun with other settings is refused.
    notes : tuple of str
        What people should know about the labels, such as which were merged.
    is_drawn : bool
        False if the splits are those of the caller's own table: nobody is moved.
    """

    facts: Facts
    channels: tuple
    segments: tuple
    classes: dict
    cases: tuple
    split_of: dict
    settings: dict
    notes: tuple = ()
    is_drawn: bool = True

    @property
    def task(self):
        """The dataset's task, if it has the same channels and segments; else an empty text."""
        task = TASKS.get(self.facts.task)
        fits = task and (task.channels, task.segments) == (self.channels, self.segments)
        return task.name if fits else ""


def one_by_one(entries):
    """Return paths, each a path or a tuple of them (a series), in one list.

    Examples
    --------
    >>> one_by_one(("t1.nii", ("1.dcm", "2.dcm")))
    ['t1.nii', '1.dcm', '2.dcm']
    """
    return [path for entry in entries for path in (entry if isinstance(entry, tuple) else (entry,))]


def folder_of(source, *below):
    """Return the first of `below` that is a folder in `source`, else `source` itself.

    Examples
    --------
    >>> folder_of(Path(__file__).parent.parent, "no such", "data_scripts").name
    'data_scripts'
    """
    source = Path(source)
    if not source.is_dir():
        raise wrong_input(source, "no such folder", "the folder of the official download")
    return next((source / name for name in below if (source / name).is_dir()), source)


def missing_files(paths):
    """Return a sentence that names the files that are not there, or an empty text."""
    absent = [path for path in paths if not Path(path).is_file()]
    return f"no such file: {', '.join(map(str, absent))}" if absent else ""


def visible(paths, ending=""):
    """Return `paths` of an ending, in small or capital letters, sorted by name, no hidden ones.

    macOS leaves ``._`` files in archives.
    """
    shown = (path for path in paths if not path.name.startswith("."))
    return sorted(path for path in shown if path.name.lower().endswith(ending))


def outside_test_folders(paths, folder):
    """Return the paths in no folder called test: challenges use the same names there."""
    return [
        path
        for path in paths
        if not any("test" in part.lower() for part in path.relative_to(folder).parts[:-1])
    ]


def keyed(paths, key):
    """Return `paths` by their key; two of one key are refused, both named."""
    table = {}
    for path in paths:
        name = key(path)
        if name in table:
            raise wrong_input(path, f"a second {name} beside {table[name]}", "one of each name")
        table[name] = path
    return table
