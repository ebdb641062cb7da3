"""Downloads that go on where they broke off, and count only when the checksum agrees."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from segcal_lite._checks import wrong_input
from segcal_lite.runs.claims import claimed

from .archives import unpack

SECONDS_TO_WAIT = 60
BLOCK_BYTES = 2**16  # what is lost at most when a connection breaks off
REPORT_EVERY_PERCENT = 10
ALL_HAS_COME = 416  # HTTP: nothing lies behind the byte that was asked for
RANGE = re.compile(r"(?:bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+))?")  # of Content-Range


@dataclass(frozen=True)
class Archive:
    """A published archive: address, checksum such as ``md5:9d24...``, and the folder it holds."""

    url: str
    checksum: str
    folder: str

    @property
    def name(self):
        """File name, as in the address."""
        return self.url.rsplit("/", 1)[-1].split("?")[0]


def fetch(archive, folder, mirror=None, checksum=None, report=print):
    """Download an archive into `folder`, check it and unpack it there.

    Parameters
    ----------
    archive : Archive
    folder : path
    mirror : str, optional
        Another address of the same file.
    checksum : str, optional
        Of the file at `mirror`, if it was packed anew; by default the published one.
    report : callable
        Receives lines of text.

    Returns
    -------
    Path
        The unpacked folder; if it is there already, nothing is fetched.

    Raises
    ------
    ValueError
        Naming the address or file: no answer, a status other than success, fewer bytes than
        announced (the same call goes on), a checksum that differs (the file is removed).
    """
    folder = Path(folder)
    unpacked, inside = folder / archive.folder, folder / f"{archive.name}.unpacked"
    with claimed(folder):
        if unpacked.is_dir():
            return unpacked
        path = _retrieve(
            mirror or archive.url, checksum or archive.checksum, folder, archive, report
        )
        unpack(path, inside)
        if not (inside / archive.folder).is_dir():
            found = ", ".join(sorted(entry.name for entry in inside.glob("[!.]*")))
            raise wrong_input(path, f"an archive with {found}", f"one with {archive.folder}")
        (inside / archive.folder).rename(unpacked)
        shutil.rmtree(inside)
    return unpacked


def _retrieve(url, checksum, folder, archive, report):
    """Return the path of the checked archive in `folder`."""
    pooch, _ = download_packages()
    pooch.utils.LOGGER.setLevel("WARNING")
    downloader = ResumingDownloader(folder / f"{archive.name}.part", report)
    try:
        return pooch.retrieve(url, checksum, archive.name, folder, downloader=downloader)
    except ValueError as error:
        if "does not match the known hash" not in str(error):
            raise
        raise wrong_input(url, "a file of another checksum", checksum) from error


def download_packages():
    """Import pooch and requests, or say how to get them."""
    try:
        import pooch
        import requests
    except ImportError as error:
        expected = "them in .venv: pip install -e '.[data]' in the project's folder"
        raise wrong_input("pooch and requests", "no such packages", expected) from error
    return pooch, requests


class ResumingDownloader:
    """A downloader for pooch that keeps what has come and asks for the rest.

    Parameters
    ----------
    partial : Path
        Where the bytes lie until all have come.
    report : callable
        Receives lines of text.
    """

    def __init__(self, partial, report=print):
        self.partial, self.report = partial, report

    def __call__(self, url, output_file, pooch):
        """Download `url` to `output_file`, as pooch asks its downloaders to."""
        _, requests = download_packages()
        n_have = self.partial.stat().st_size if self.partial.exists() else 0
        headers = {"Accept-Encoding": "identity"}  # else lengths are those of a packed stream
        if n_have:
            headers["Range"] = f"bytes={n_have}-"
        try:
            with requests.get(url, headers=headers, stream=True, timeout=SECONDS_TO_WAIT) as answer:
                n_all = self._check_answer(url, answer, n_have)
                if answer.status_code != ALL_HAS_COME:
                    self._receive(url, answer, n_all)
        except requests.RequestException as error:
            found = f"no whole answer ({type(error).__name__})"
            expected = "one; the same command goes on where this one stopped"
            raise wrong_input(url, found, expected) from error
        self.partial.replace(output_file)

    def _check_answer(self, url, answer, n_have):
        """Return how many bytes the whole file has, if the server says; refuse bad answers."""
        code = answer.status_code
        start, size = RANGE.match(answer.headers.get("Content-Range", "")).groups()
        if code == ALL_HAS_COME and size == str(n_have):
            return n_have
        if code == ALL_HAS_COME or (code == 206 and start != str(n_have)):
            self.partial.unlink()
            raise wrong_input(url, "another file than the part that had come", "a new start")
        if code not in (200, 206):
            raise wrong_input(url, f"status {code} {answer.reason}", "200 OK")
        if code == 200:
            self.partial.unlink(missing_ok=True)  # the server does not go on: begin anew
            n_have = 0
        n_coming = answer.headers.get("Content-Length", "")
        return n_have + int(n_coming) if n_coming.isdecimal() else None

    def _receive(self, url, answer, n_all):
        """Append what comes; say how far it is; refuse a stream that ends early."""
        n_done, reported = self.partial.stat().st_size if self.partial.exists() else 0, 0
        with self.partial.open("ab") as file:
            for block in answer.iter_content(BLOCK_BYTES):
                file.write(block)
                n_done += len(block)
                percent = 100 * n_done // n_all if n_all else 0
                if percent >= reported + REPORT_EVERY_PERCENT:
                    reported = percent
                    self.report(f"{self.partial.stem}: {percent} % of {n_all / 1e6:.1f} MB")
        if n_all is not None and n_done != n_all:
            raise wrong_input(url, f"{n_done} bytes", f"{n_all}; the same command goes on")
