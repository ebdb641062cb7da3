"""Downloads from a server on loopback, and archives that are damaged or hostile."""

import gzip
import hashlib
import io
import re
import socket
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import official_layouts as official
import pandas as pd
import pytest
from local_server import served

from data_scripts import msd
from data_scripts.convert import archives
from data_scripts.convert.archives import unpack
from data_scripts.convert.downloads import BLOCK_BYTES, Archive, fetch
from data_scripts.convert.face import run_script


def tar_of(members):
    """Bytes of a tar with files, or whole `tarfile.TarInfo`; a dict, or pairs in turn."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if info is content else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


CONTENT = tar_of({"Task/a.txt": b"alpha" * 50000, "Task/sub/b.txt": b"beta", "Task/._a.txt": b"x"})


def archive_at(server, content=CONTENT):
    return Archive(server.url, f"md5:{hashlib.md5(content).hexdigest()}", "Task")


def test_a_download_is_checked_and_unpacked(tmp_path):
    lines = []
    with served(CONTENT) as server:
        folder = fetch(archive_at(server), tmp_path / "in", report=lines.append)
        assert folder == tmp_path / "in" / "Task"
        assert (folder / "a.txt").read_bytes() == b"alpha" * 50000
        assert not (folder / "._a.txt").exists()
        assert sorted(p.name for p in (tmp_path / "in").glob("[!.]*")) == ["Task", "Task.tar"]
        assert lines[-1].startswith("Task.tar: 100 %")
        fetch(archive_at(server), tmp_path / "in")
        assert len(server.ranges) == 1  # what is there is not fetched again


def test_an_interrupted_download_goes_on(tmp_path):
    with served(CONTENT, breaks_off_at=100_000) as server:
        with pytest.raises(ValueError, match="the same command goes on"):
            fetch(archive_at(server), tmp_path)
        n_have = (tmp_path / "Task.tar.part").stat().st_size
        assert 100_000 - BLOCK_BYTES < n_have <= 100_000
        assert not (tmp_path / "Task.tar").exists()
        server.breaks_off_at = None
        assert (fetch(archive_at(server), tmp_path) / "sub/b.txt").read_bytes() == b"beta"
        assert server.ranges == [None, f"bytes={n_have}-"]
    assert not (tmp_path / "Task.tar.part").exists()


def test_a_whole_part_is_not_lost_when_the_server_cannot_go_on(tmp_path):
    (tmp_path / "Task.tar.part").write_bytes(CONTENT)
    with served(CONTENT, goes_on=False) as server:
        assert (fetch(archive_at(server), tmp_path) / "sub/b.txt").exists()


def test_a_continuation_from_another_place_is_refused(tmp_path):
    (tmp_path / "Task.tar.part").write_bytes(CONTENT[:1000])
    with served(CONTENT, misplaced_by=5) as server:
        with pytest.raises(ValueError, match="another file than the part"):
            fetch(archive_at(server), tmp_path)
        assert (fetch(archive_at(server), tmp_path) / "sub/b.txt").exists()


def test_a_server_that_cannot_go_on_is_asked_for_all(tmp_path):
    (tmp_path / "Task.tar.part").write_bytes(b"old" * 10)
    with served(CONTENT, goes_on=False) as server:
        assert (fetch(archive_at(server), tmp_path) / "sub/b.txt").exists()
        assert server.ranges == ["bytes=30-"]


def test_all_bytes_had_come_before(tmp_path):
    (tmp_path / "Task.tar.part").write_bytes(CONTENT)
    with served(CONTENT) as server:
        assert (fetch(archive_at(server), tmp_path) / "a.txt").exists()


def test_a_part_of_another_file_is_dropped(tmp_path):
    (tmp_path / "Task.tar.part").write_bytes(CONTENT + b"more")
    with served(CONTENT) as server:
        with pytest.raises(ValueError, match="another file than the part"):
            fetch(archive_at(server), tmp_path)
        assert (fetch(archive_at(server), tmp_path) / "a.txt").exists()


def test_a_wrong_checksum_leaves_nothing(tmp_path):
    with served(CONTENT[:-1] + b"!") as server:
        message = f"{server.url}: found a file of another checksum, expected md5:"
        with pytest.raises(ValueError, match=message):
            fetch(archive_at(server), tmp_path)
    assert list(tmp_path.glob("[!.]*")) == []


def test_a_page_that_is_not_there(tmp_path):
    with served(b"", status=404) as server, pytest.raises(ValueError, match="status 404 Not Found"):
        fetch(archive_at(server), tmp_path)


def test_no_server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/Task.tar"
    with pytest.raises(ValueError, match="no whole answer"):
        fetch(Archive(url, "md5:0", "Task"), tmp_path)


def test_an_archive_with_another_folder_or_more_than_one(tmp_path):
    content = tar_of({"Other/a.txt": b"a"})
    with served(content) as server, pytest.raises(ValueError, match="an archive with Other"):
        fetch(archive_at(server, content), tmp_path)
    (tmp_path / "Task.tar").unlink()
    content = tar_of({"Other/a.txt": b"a", "README": b"r", "Task/b.txt": b"b"})
    with served(content) as server:
        assert (fetch(archive_at(server, content), tmp_path) / "b.txt").exists()
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["Task", "Task.tar"]


def test_an_archive_that_was_unpacked_is_not_unpacked_again_unless_it_changed(tmp_path):
    path = write(tmp_path / "a.tar", tar_of({"x.txt": b"old"}))
    out = unpack(path, tmp_path / "out")
    (out / "mine.txt").write_bytes(b"added")
    assert (unpack(path, tmp_path / "out") / "mine.txt").exists()
    write(path, tar_of({"x.txt": b"new and longer", "y.txt": bytes(20_000)}))
    assert (unpack(path, tmp_path / "out") / "x.txt").read_bytes() == b"new and longer"
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="a folder that is not from a.tar"):
        unpack(path, tmp_path / "mine")


def test_several_who_unpack_one_archive_at_once_get_it_whole(tmp_path):
    members = {f"{k}.bin": bytes(2000) for k in range(200)}
    path = write(tmp_path / "a.tar", tar_of(members))
    with ThreadPoolExecutor(4) as executor:
        folders = list(executor.map(lambda _: unpack(path, tmp_path / "out"), range(4)))
    assert set(folders) == {tmp_path / "out"}
    assert {p.name for p in (tmp_path / "out").glob("[!.]*")} == set(members)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "out"]


def test_a_script_downloads_from_a_mirror_and_converts(tmp_path, capsys):
    source = official.msd(tmp_path / "official", 4)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(source / "Task04_Hippocampus", "Task04_Hippocampus")
    content = stream.getvalue()
    with served(content) as server:
        arguments = [tmp_path / "in", tmp_path / "out", "--task", 4, "--download"]
        arguments += ["--mirror", server.url.replace("Task.tar", "Task04_Hippocampus.tar")]
        assert run_script("msd", list(map(str, arguments))) == 1
        published = msd.ARCHIVES[4][1]
        assert f"expected md5:{published}" in capsys.readouterr().err
        arguments += ["--checksum", f"md5:{hashlib.md5(content).hexdigest()}"]
        assert run_script("msd", list(map(str, arguments))) == 0
    assert len(pd.read_csv(tmp_path / "out/cases.csv")) == 5


def test_a_source_may_be_the_archive_itself(tmp_path, capsys):
    source = official.msd(tmp_path / "official", 4)
    path = tmp_path / "Task04_Hippocampus.tar"
    with tarfile.open(path, mode="w") as tar:
        tar.add(source / "Task04_Hippocampus", "Task04_Hippocampus")
    arguments = [str(path), str(tmp_path / "out"), "--task", "4"]
    assert run_script("msd", [*arguments, "--dry-run"]) == 1
    assert "a dry run writes nothing" in capsys.readouterr().err
    assert run_script("msd", arguments) == 0
    assert len(pd.read_csv(tmp_path / "out/cases.csv")) == 5
    assert run_script("msd", [*arguments, "--dry-run"]) == 0
    path.rename(path.with_suffix(".TAR"))
    arguments = [str(path.with_suffix(".TAR")), str(tmp_path / "capitals"), "--task", "4"]
    assert run_script("msd", arguments) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--download", "--dry-run"], "cannot download"),
        (["--mirror", "http://127.0.0.1/x"], "belong to --download"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        run_script("msd", [str(tmp_path), str(tmp_path / "out"), "--task", "4", *options])
    assert message in capsys.readouterr().err


def test_nothing_is_fetched_without_being_asked(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    source = official.msd(tmp_path / "official", 4)
    assert run_script("msd", [str(source), str(tmp_path / "out"), "--task", "4"]) == 0


def test_published_addresses_and_checksums():
    for number, (name, md5) in msd.ARCHIVES.items():
        assert name.startswith(f"Task{number:02d}_")
        assert len(md5) == 32
        archive = msd.archive(number)
        assert archive.name == f"{name}.tar"
        assert archive.url.startswith("https://")


def test_the_checksums_are_those_of_monai():
    datasets = pytest.importorskip("monai.apps.datasets")
    for name, md5 in msd.ARCHIVES.values():
        assert datasets.DecathlonDataset.md5[name] == md5
        assert datasets.DecathlonDataset.resource[name] == f"{msd.ADDRESS}/{name}.tar"


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write(path, content):
    path.write_bytes(content)
    return path


HOSTILE = {
    "leads out": ({"Task/../../evil": b"x"}, "names that stay in the folder"),
    "absolute": ({"/tmp/evil": b"x"}, "names that stay in the folder"),
    "of Windows": ({"C:\\evil": b"x"}, "names that stay in the folder"),
    "symbolic link": ({"l": link("l", "/etc/passwd", tarfile.SYMTYPE)}, "no links"),
    "hard link": ({"l": link("l", "Task/a", tarfile.LNKTYPE)}, "no links"),
    "device": ({"d": link("d", "", tarfile.CHRTYPE)}, "no links"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_tars_are_refused_whole(tmp_path, kind):
    members, message = HOSTILE[kind]
    path = write(tmp_path / "a.tar", tar_of({"Task/good.txt": b"good"} | members))
    with pytest.raises(ValueError, match=message):
        unpack(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar"]


def zip_of(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_hostile_zips_are_refused_whole(tmp_path):
    symbolic = zipfile.ZipInfo("link")
    symbolic.external_attr = 0o120777 << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(symbolic, "/etc/passwd")
    contents = (zip_of({"a": b"a", "../evil": b"x"}), zip_of({"/evil": b"x"}), stream.getvalue())
    for number, content in enumerate(contents):
        path = write(tmp_path / f"{number}.zip", content)
        with pytest.raises(ValueError, match="stay in the folder|no links"):
            unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path.parent / "evil").exists()


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 10_000)
    bomb = write(tmp_path / "bomb.zip", zip_of({"zeros": bytes(5_000_000)}))
    with pytest.raises(ValueError, match="5000000 bytes or more in 1 members, expected at most"):
        unpack(bomb, tmp_path / "out")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 5_000_000
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(ValueError, match="5000000 bytes or more"):
        unpack(write(tmp_path / "bomb.tar.gz", packed.getvalue()), tmp_path / "out")
    monkeypatch.setattr(archives, "LARGEST_COUNT", 2)
    many = write(tmp_path / "many.zip", zip_of({str(n): b"" for n in range(3)}))
    with pytest.raises(ValueError, match="in 3 members"):
        unpack(many, tmp_path / "out")


TWICE = {
    "same name": (("Task/a.nii", b"one"), ("Task/b", b""), ("Task/a.nii", b"two")),
    "same place": (("Task/a.nii", b"one"), ("Task/./a.nii", b"two")),
    "below a file": (("Task/a.nii", b"one"), ("Task/a.nii/b", b"two")),
    "a file in place of a folder": (("Task/a.nii/b", b"one"), ("Task/a.nii", b"two")),
}


@pytest.mark.parametrize("kind", TWICE)
def test_a_name_that_comes_twice_is_refused_and_not_overwritten(tmp_path, kind):
    path = write(tmp_path / "a.tar", tar_of(TWICE[kind]))
    name = re.escape(repr(TWICE[kind][-1][0]))
    with pytest.raises(ValueError, match=f"a.tar: found {name} a second time, expected each file"):
        unpack(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar"]


def test_a_zip_that_understates_its_size_is_refused(tmp_path):
    content = bytearray(zip_of({"zeros": bytes(100_000)}))
    true_size = (100_000).to_bytes(4, "little")
    content = bytes(content).replace(true_size, (10).to_bytes(4, "little"))
    with pytest.raises(ValueError, match="damaged archive|another length"):
        unpack(write(tmp_path / "a.zip", content), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_archives_are_named(tmp_path):
    for name, content in (
        ("cut.tar", CONTENT[:100_000]),
        ("text.tar", b"no archive"),
        ("empty.tar", b""),
        ("nameless.tar", tar_of({".": b"a file"})),
        ("cut.zip", zip_of({"a": bytes(range(256)) * 100})[:300]),
    ):
        path = write(tmp_path / name, content)
        with pytest.raises(ValueError, match=f"{name}: found (a damaged archive|the file)"):
            unpack(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_good_archive_of_any_kind(tmp_path):
    files = {"Task/a.txt": b"a", "Task/sub/b.txt": b"b", "__MACOSX/Task/a.txt": b"x"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    for name, content in (("a.zip", zip_of(files)), ("b.tgz", packed.getvalue())):
        out = unpack(write(tmp_path / name, content), tmp_path / f"{name}-out")
        found = {p.relative_to(out).as_posix() for p in out.rglob("[!.]*") if p.is_file()}
        assert found == {"Task/a.txt", "Task/sub/b.txt"}


def header(name, kind, size=0):
    info = link(name, "", kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


GOOD = header("Task/a", tarfile.REGTYPE, 1) + b"a".ljust(512, b"\0")
END = bytes(1024)


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]
)
@pytest.mark.parametrize("before", [b"", GOOD])
def test_a_header_of_gigabytes_is_not_read(tmp_path, kind, before):
    path = write(tmp_path / "a.tar.gz", gzip.compress(before + header("x", kind, 2**32) + END))
    with pytest.raises(ValueError, match="found a damaged archive .*a header of 4294967296 bytes"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_many_long_headers_are_counted_together(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HEADER_BYTES", 1000)
    long = header("x", tarfile.GNUTYPE_LONGNAME, 400)
    members = [long + name.ljust(512, b"\0") + GOOD for name in (b"Task/a", b"Task/b", b"Task/c")]
    unpack(write(tmp_path / "a.tar", b"".join(members[:2]) + END), tmp_path / "out")
    path = write(tmp_path / "b.tar", b"".join(members) + END)
    with pytest.raises(ValueError, match="a header of 400 bytes, 1200 with those before it"):
        unpack(path, tmp_path / "more")


def test_sparse_members_and_numbers_that_are_none_are_refused(tmp_path):
    path = write(tmp_path / "a.tar", GOOD + header("x", tarfile.GNUTYPE_SPARSE) + END)
    with pytest.raises(ValueError, match="found the member 'x', expected .* sparse"):
        unpack(path, tmp_path / "out")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"GNU.sparse.size": "9", "GNU.sparse.map": "a,b"}
        tar.addfile(info)
    with pytest.raises(ValueError, match="a damaged archive .*a header that makes no sense"):
        unpack(write(tmp_path / "b.tar", packed.getvalue()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_header_that_is_damaged_does_not_end_an_archive(tmp_path):
    content = bytearray(GOOD + GOOD + GOOD + END)
    content[1024] ^= 0xFF
    with pytest.raises(ValueError, match="a damaged archive .a member without a whole header"):
        unpack(write(tmp_path / "a.tar", bytes(content)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_no_folder_takes_are_refused(tmp_path):
    content = zip_of({"a" * 260: b"x"})
    with pytest.raises(ValueError, match="found the member 'aaa.* of 260 letters, expected names"):
        unpack(write(tmp_path / "a.zip", content), tmp_path / "out")
    content = zip_of({"Task/a": b"x"}).replace(b"Task/a", b"\0ask/a")  # a name that ends at once
    with pytest.raises(ValueError, match="b.zip: found the file '', expected files with names"):
        unpack(write(tmp_path / "b.zip", content), tmp_path / "out")
    assert not (tmp_path / "out").exists()
