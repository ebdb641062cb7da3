import errno
import gzip
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from segcal_lite.runs import folders as runs
from segcal_lite.runs import tables
from segcal_lite.runs.claims import claimed, machine


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), runs.written_aside(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with runs.written_aside(tmp_path / "volume.nii.gz") as partial:
        assert partial.name.endswith(".nii.gz")
        assert partial.parent == tmp_path
        partial.touch()


def test_other_settings_are_named_field_by_field(tmp_path):
    path = tmp_path / "run.json"
    runs.write_json(path, {"seed": 0, "profile": "smoke", "crop_size": (64, 64), "old": 1})
    runs.check_same_settings(path, {"seed": 0, "profile": "smoke", "crop_size": (64, 64), "old": 1})
    with pytest.raises(ValueError) as error:
        runs.check_same_settings(path, {"seed": 1, "profile": "smoke", "crop_size": (64, 64)})
    message = str(error.value)
    assert message.startswith(f"{path}: found other settings")
    assert "seed = 0 (now 1)" in message
    assert "old = 1 (now 'nothing')" in message
    assert "profile =" not in message
    assert "crop_size" not in message


def test_a_broken_json_file_is_named(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=f"{path}: found text that is no JSON"):
        runs.read_json(path)


def test_tables_come_back_as_they_went(tmp_path):
    table = pd.DataFrame({"case": ["a", "b"], "value": [0.1, 1 / 3], "holds": [True, False]})
    tables.write_table(tmp_path / "tables" / "scores.csv", table)
    pd.testing.assert_frame_equal(tables.read_table(tmp_path / "tables" / "scores.csv"), table)


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@given(st.lists(st.tuples(NAMES, NAMES, st.none() | NAMES), min_size=1), st.booleans())
@example([("002", "1.5", "1"), ("005", "3", None)], True)
@example([("1", "NA", "nan"), ("01", "null", "None"), ("", "inf", "-inf")][:2], True)
@example([(" a", "a ", 'b"c'), ("a,b", "True", "é"), ("1e5", "#", "'")], False)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_names_stay_what_they_are(tmp_path, rows, sealed):
    table = pd.DataFrame(rows, columns=["case", "domain", "segment"]).assign(value=np.nan)
    tables.write_table(tmp_path / "scores.csv", table, sealed)
    found = tables.read_table(tmp_path / "scores.csv", sealed)
    assert list(zip(found.case, found.domain, strict=True)) == [row[:2] for row in rows]
    segments = [
        None if missing else text
        for text, missing in zip(found.segment, found.segment.isna(), strict=True)
    ]
    assert segments == [row[2] for row in rows]
    assert found.value.dtype == float


def test_an_empty_cell_is_missing_and_nothing_else_is(tmp_path):
    (tmp_path / "a.csv").write_text("segment,value\n,\nnan,1\nNA,inf\n", encoding="utf-8")
    found = tables.read_table(tmp_path / "a.csv")
    assert found.segment.isna().tolist() == [True, False, False]
    assert found.value.isna().tolist() == [True, False, False]
    assert found.value[2] == np.inf


def test_every_column_of_names_in_the_published_tables_is_declared():
    """An undeclared one would be numbers in the run whose names look like some."""
    folder, texts = runs.project_root() / "results", set()
    for path in (*folder.rglob("*.csv"), *folder.rglob("*.csv.gz")):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        for name, cells in table.items():
            filled = cells[cells != ""]
            is_number = pd.to_numeric(filled, errors="coerce").notna() | filled.isin(
                ["True", "False"]
            )
            if not is_number.all() and not filled.str.contains(r" \(.* to .*\)").any():
                texts.add(name)
    assert texts - set(tables.TEXT_COLUMNS) == set()
    assert len(texts) > 20


def test_no_table_is_read_in_another_way():
    """The data scripts read tables of other people in one place, `convert.tables`: all text."""
    root = runs.project_root()
    sources = {path: path.read_text(encoding="utf-8") for path in root.glob("segcal_lite/**/*.py")}
    for path in root.glob("notebooks/*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        sources[path] = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    calls = {
        path.name: len(re.findall(r"read_csv|read_table\(.*sep=|pd\.read_", s))
        for path, s in sources.items()
    }
    assert {name: count for name, count in calls.items() if count} == {"tables.py": 1}
    for path in root.glob("data_scripts/**/*.py"):
        assert not re.search(r"read_csv|csv\.reader", path.read_text(encoding="utf-8")), path


TABLE = pd.DataFrame({"case": ["a", "b", "c"], "domain": ["x", "y", "x"], "value": [0.5, 2, 3]})


def test_a_sealed_table_shows_every_cut(tmp_path):
    path = tmp_path / "scores.csv"
    tables.write_table(path, TABLE, sealed=True)
    whole = path.read_bytes()
    pd.testing.assert_frame_equal(tables.read_table(path, sealed=True), TABLE)
    pd.testing.assert_frame_equal(pd.read_csv(path), TABLE)  # others do not see the seal
    for n_bytes in range(len(whole)):
        path.write_bytes(whole[:n_bytes])
        assert not tables.is_sealed(path)
        with pytest.raises(
            ValueError, match=f"^{path}: found a table that was cut short, .*remove"
        ):
            tables.read_table(path, sealed=True)


def test_what_to_remove_is_said(tmp_path):
    (tmp_path / "history.csv").write_text("epoch\n0\n")
    with pytest.raises(ValueError, match=f"remove {tmp_path} and run again"):
        tables.read_table(tmp_path / "history.csv", sealed=True, remove=tmp_path)
    assert not tables.is_sealed(tmp_path / "absent.csv")
    with pytest.raises(FileNotFoundError, match="absent.csv"):
        tables.read_table(tmp_path / "absent.csv", sealed=True)


def test_rows_that_are_longer_than_the_names_shift_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("case,value\na,1,\nb,2,\n")
    with pytest.raises(ValueError, match="a.csv: found rows with more cells than columns"):
        tables.read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("content", [b"", b"a\n1\n1,2\n", b"\xff\xfe\x00"])
def test_a_file_that_is_no_table_is_named(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path / 'a.csv'}: found no table"):
        tables.read_table(tmp_path / "a.csv")


def test_a_compressed_table_that_is_cut_or_damaged_is_named(tmp_path):
    path = tmp_path / "scores.csv.gz"
    whole = gzip.compress(TABLE.to_csv(index=False).encode(), mtime=0)
    for content in (*(whole[:n] for n in range(len(whole))), b"text", whole[:-8] + b"8 others"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path}: found no table"):
            tables.read_table(path)
    path.write_bytes(whole[:12] + b"\xff" * 20 + whole[32:])
    with pytest.raises(ValueError, match=f"^{path}: found no table"):
        tables.read_table(path)
    path.write_bytes(whole)
    pd.testing.assert_frame_equal(tables.read_table(path), TABLE)


@pytest.fixture
def calls(monkeypatch):
    """Names of what is flushed and renamed, in order."""
    made = []

    def fsync(handle):
        made.append(("flush", Path(f"/proc/self/fd/{handle}").readlink().name))

    def replace(path, target, move=Path.replace):
        made.append(("rename", target.name))
        return move(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    return made


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_what_has_its_name_is_on_the_disk(tmp_path, calls):
    runs.write_json(tmp_path / "a.json", {})
    partial = runs.partial_path(tmp_path / "a.json").name
    assert calls == [("flush", partial), ("rename", "a.json"), ("flush", tmp_path.name)]
    del calls[:]
    with runs.written_aside(tmp_path / "case") as folder:
        (folder / "below").mkdir(parents=True)
        (folder / "below" / "image.npy").touch()
        runs.write_json(folder / "record.json", {})  # flushed once, with the folder
    assert calls.pop(0) == ("rename", "record.json")
    partial = runs.partial_path(tmp_path / "case").name
    inside = {("flush", name) for name in ("below", "image.npy", "record.json", partial)}
    assert set(calls[:4]) == inside
    assert calls[4:] == [("rename", "case"), ("flush", tmp_path.name)]


def test_a_system_that_flushes_no_folder_is_no_obstacle(tmp_path, monkeypatch):
    def refuse(path, flags, open_file=os.open):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))  # as Windows says
        return open_file(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    runs.write_json(tmp_path / "a.json", {"a": 1})
    assert runs.read_json(tmp_path / "a.json") == {"a": 1}


def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    runs.write_json(tmp_path / "a.json", "old")

    def fail(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        runs.write_json(tmp_path / "a.json", "new")
    assert runs.read_json(tmp_path / "a.json") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_the_disk_does_not_take_is_named(tmp_path, monkeypatch, number):
    def fail(handle):
        raise OSError(number, os.strerror(number))  # as of a write, without a name

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        runs.write_json(tmp_path / "a.json", {})
    assert (raised.value.errno, raised.value.filename) == (number, str(tmp_path / "a.json"))
    assert list(tmp_path.iterdir()) == []


def test_of_a_folder_that_the_disk_does_not_take_the_final_name_is_told(tmp_path):
    case = tmp_path / "case"
    with pytest.raises(OSError) as raised, runs.written_aside(case) as folder:
        (folder / "image.npy").touch()
    assert raised.value.filename == str(case / "image.npy")
    told = f"^{case}: 9 requested and 3 written"
    with pytest.raises(OSError, match=told), runs.written_aside(case):
        raise OSError("9 requested and 3 written")  # as NumPy tells it


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), runs.written_aside(tmp_path / "case") as folder:
        folder.mkdir()
        (folder / "image.npy").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    left = runs.partial_path(tmp_path / "case")
    left.mkdir()
    (left / "old.npy").touch()  # of a killed process that had this number
    with runs.written_aside(tmp_path / "case") as folder:
        folder.mkdir()
        (folder / "image.npy").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["case", "image.npy"]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np, pandas as pd
from segcal_lite.data import volumes
from segcal_lite.runs import folders as runs
from segcal_lite.runs import tables
Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
out, rows = Path(sys.argv[1]), pd.DataFrame({"case": ["a"], "value": [1.0]})
def folder(path):
    with runs.written_aside(path) as partial:
        partial.mkdir()
        np.save(partial / "image.npy", np.zeros(3))
write = {
    "a.csv": lambda path: tables.write_table(path, rows, sealed=True),
    "a.json": lambda path: runs.write_json(path, {}),
    "a.nii.gz": lambda path: volumes.write_volume(path, np.zeros((2, 2, 2), np.uint8), np.eye(4)),
    "case": folder,
}
write[sys.argv[2]](out / sys.argv[2])
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.nii.gz", "case"])
def test_killed_before_the_rename_nothing_counts(tmp_path, name):
    command = [sys.executable, "-c", KILLED, str(tmp_path), name]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert all(path.name.startswith(".partial-") for path in tmp_path.iterdir())
    assert any(tmp_path.iterdir())  # it was written, but not renamed
    runs.enter_run(tmp_path, "run.json", {}, "cpu")  # the next opening sweeps it
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "provenance.json"}


def test_what_another_process_is_writing_stays(tmp_path):
    names = {
        "mine": runs.partial_path(tmp_path / "below" / "a.json").name,
        "of another": f".partial-{machine()}-{os.getppid()}-a.json",
        "of another machine": ".partial-0abc-1-a.json",
        "of an earlier version": ".partial-999999999-a.json",
        "of nobody": f".partial-{machine()}-999999999-a.json",
    }
    for name in names.values():
        (tmp_path / "below" / name).mkdir(parents=True)
        (tmp_path / "below" / name / "image.npy").touch()

    def left():
        return {kind for kind, name in names.items() if (tmp_path / "below" / name).exists()}

    runs.remove_left_over(tmp_path)
    assert left() == names.keys() - {"of nobody"}
    for name in names.values():
        if (tmp_path / "below" / name).exists():
            os.utime(tmp_path / "below" / name, (0, 0))  # nobody has touched it for an hour
    runs.remove_left_over(tmp_path)
    assert left() == {"mine", "of another"}


@pytest.fixture
def of_another(tmp_path, monkeypatch):
    """A folder that this user may read and not write, also where that is root."""
    runs.enter_run(tmp_path, "run.json", {"seed": 0}, "cpu")

    def refuse(path, *arguments, **options):
        if not path.is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(Path, "write_text", refuse)
    return tmp_path


def test_a_run_of_another_user_can_be_entered(of_another, monkeypatch):
    made = runs.provenance()
    monkeypatch.setattr(runs, "provenance", lambda device: made | {"commit": "another"})
    runs.enter_run(of_another, "run.json", {"seed": 0}, "cpu")
    with pytest.raises(ValueError, match=r"seed = 0 \(now 1\)"):
        runs.enter_run(of_another, "run.json", {"seed": 1}, "cpu")


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    told = (
        "found no folder, and none can be made \\(Read-only file system\\), expected a place where"
    )
    for use in (claimed, lambda out: runs.written_aside(out / "a.csv")):
        with pytest.raises(ValueError, match=f"^{tmp_path / 'out'}: {told}"), use(tmp_path / "out"):
            pass


@pytest.mark.parametrize("name", ["file", "file/below", "n" * 300])
def test_what_is_or_can_be_no_folder_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    told = f"^{tmp_path / name}: found no folder, and none can be made \\(.*\\), expected a place"
    with pytest.raises(ValueError, match=told):
        runs.enter_run(tmp_path / name, "run.json", {}, "cpu")
    with pytest.raises(ValueError, match=told):
        runs.write_text(tmp_path / name / "claims.csv", "")


def test_a_new_run_in_a_folder_of_another_user_is_refused(of_another):
    told = f"^{of_another}: found a folder that you may not write in, expected a place where you"
    with pytest.raises(ValueError, match=told):
        runs.enter_run(of_another, "evaluation.json", {"seed": 0}, "cpu")


@pytest.mark.parametrize(
    ("content", "shape", "found"),
    [
        ("[]", dict, "JSON of type list, expected one of type dict"),
        ("3", {"commit": str}, "JSON of type int, expected a table"),
        ('{"commit": 5}', {"commit": str}, "no commit, or of another type"),
        ("{}", {"history": list}, "no history, or of another type"),
        ("7" * 5000, dict, "text that is no JSON"),
        ("[" * 100_000, list, "text that is no JSON"),
        ('"\\ud800"', list, "JSON of type str, expected one of type list"),
    ],
)
def test_json_of_another_shape_is_named(tmp_path, content, shape, found):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"^{path}: found {found}.*remove it and run again"):
        runs.read_json(path, shape=shape)


def test_settings_of_another_shape_are_named(tmp_path):
    (tmp_path / "run.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="run.json: found JSON of type list"):
        runs.check_same_settings(tmp_path / "run.json", {})
    (tmp_path / "provenance.json").write_text("{}")
    with pytest.raises(ValueError, match="provenance.json: found no commit"):
        runs.record_provenance(tmp_path / "provenance.json", "cpu")


def test_relative_paths_start_at_the_project_root_wherever_the_kernel_does(tmp_path, monkeypatch):
    before = runs.resolve_path("runs/demo")
    monkeypatch.chdir(tmp_path)
    assert runs.resolve_path("runs/demo") == before
    assert runs.resolve_path(tmp_path / "x") == tmp_path / "x"


def test_a_path_without_dots_keeps_its_links(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there", target_is_directory=True)
    assert runs.resolve_path(tmp_path / "link") == tmp_path / "link"
    assert runs.resolve_path(tmp_path / "link" / ".." / "x") == (tmp_path / "x").resolve()
    with pytest.raises(ValueError, match=r"^~nobody-here/x: found a user without a home"):
        runs.resolve_path("~nobody-here/x")


def test_a_run_whose_data_were_named_with_dots_goes_on(tmp_path):
    """Earlier versions left them in, also below the run folder or the project."""
    place, out, root = tmp_path / "DS", tmp_path / "run", runs.project_root()
    place.mkdir()
    for stored, data in (
        (str(out / ".." / "DS"), out / ".." / "DS"),
        ("../DS", place),
        ("notebooks/../results", root / "results"),
    ):
        runs.write_json(out / "run.json", {"data": stored, "of": [stored], "leave_out": ["a"]})
        name = runs.name_in_run(data, out)
        assert ".." not in name
        identity = {"data": name, "of": [name], "leave_out": ["a"]}
        runs.check_same_settings(out / "run.json", identity)
        with pytest.raises(ValueError, match="other settings: data = "):
            runs.check_same_settings(out / "run.json", identity | {"data": "elsewhere"})


def test_model_folders_differ_by_network_loss_dropout_and_seed(tmp_path):
    folders = {
        runs.model_folder(tmp_path, network, loss, seed, dropout)
        for network in ("unet2d", "unet3d")
        for loss in ("ce", "dice")
        for seed in (0, 1)
        for dropout in (0.0, 0.5)
    }
    assert len(folders) == 16


def test_a_run_that_goes_on_at_another_commit_records_both(tmp_path, monkeypatch):
    path, made = tmp_path / "provenance.json", runs.provenance()
    for commit in ("one", "one", "two", "one", "two", "three"):
        monkeypatch.setattr(runs, "provenance", lambda device, c=commit: made | {"commit": c})
        runs.record_provenance(path, "cpu")
    assert runs.read_json(path) == made | {"commit": "one", "later_commits": ["two", "three"]}


def test_a_run_that_goes_on_with_another_processor_records_both(tmp_path, monkeypatch):
    path, made = tmp_path / "provenance.json", runs.provenance()
    for device, processor in (("cpu", "laptop"), ("H200", "cluster"), ("cpu", "laptop")):
        now = made | {"device": device, "processor": processor}
        monkeypatch.setattr(runs, "provenance", lambda device, now=now: now)
        runs.record_provenance(path, "cpu")
    assert runs.read_json(path) == made | {"processor": "laptop", "later_devices": ["H200"]}


def test_settings_that_models_were_made_with_replace_those_of_an_opening(tmp_path):
    runs.enter_run(tmp_path, "run.json", {"seed": 0}, "cpu", {"n_epochs": 40})
    runs.record_settings(tmp_path, "run", {"n_epochs": 300, "crop_size": (64, 64)})
    runs.enter_run(tmp_path, "run.json", {"seed": 0}, "cpu", {"n_epochs": 40})
    recorded = runs.read_json(tmp_path / "provenance.json")["settings"]
    assert recorded == {"run": {"n_epochs": 300, "crop_size": [64, 64]}}


def test_the_first_settings_of_each_kind_of_run_are_recorded(tmp_path):
    for name, n_epochs in (("run.json", 3), ("joint.json", 5), ("run.json", 7)):
        runs.enter_run(tmp_path, name, {"seed": 0}, "cpu", {"n_epochs": n_epochs, "sides": (1, 2)})
    runs.enter_run(tmp_path, "evaluation.json", {}, "cpu")
    recorded = runs.read_json(tmp_path / "provenance.json")["settings"]
    assert recorded == {
        name: {"n_epochs": n, "sides": [1, 2]} for name, n in (("run", 3), ("joint", 5))
    }
    assert "settings" not in runs.read_json(_entered(tmp_path / "other"))


def _entered(folder):
    """The provenance of a run that has no settings."""
    runs.enter_run(folder, "evaluation.json", {}, "cpu")
    return folder / "provenance.json"


def test_a_changed_digit_in_sealed_json_is_noticed(tmp_path):
    path = tmp_path / "scores.json"
    runs.write_json(
        path, {"metrics": {"dice": 0.875, "nll": float("nan")}, "n": (1, 2)}, sealed=True
    )
    found = runs.read_json(path)
    assert (
        found["n"] == [1, 2] and found["metrics"]["dice"] == 0.875 and [*found] == ["metrics", "n"]
    )
    path.write_text(path.read_text().replace("0.875", "0.975"))
    with pytest.raises(ValueError, match="found other values than were written, expected the same"):
        runs.read_json(path)


def test_what_lies_below_a_folder_is_found_while_others_remove_there(tmp_path, monkeypatch):
    for name in ("a/.partial-1/x", "a/b/.partial-2", "a/models/m/0/weights.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = {path.relative_to(tmp_path).as_posix() for path in runs.below(tmp_path, ".partial-*")}
    assert found == {"a/.partial-1", "a/b/.partial-2"}
    assert len(runs.below(tmp_path, "models/*/*/weights.safetensors")) == 1
    scandir = os.scandir

    def gone_meanwhile(path):
        if str(path).endswith(".partial-1"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", gone_meanwhile)
    assert len(runs.below(tmp_path, "*.safetensors")) == 1
