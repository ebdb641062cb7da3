"""Claims: which process of which machine works in a folder, told by files alone.

Locks of the operating system hold between the processes of one machine; between the nodes of a
cluster many disks do not keep them. A claim is a folder with one file that is named after its
holder: to take it is to rename such a folder, made aside, to the claim's name, which a disk lets
one process do. The holder rewrites its file every few seconds. One whose file stays the same for a
minute, by the clock of the process that looks on, has gone silent, and so has one that died on the
same machine. Its file is removed by name, which can hit no later holder, and all may try again.
"""

import errno
import os
import platform
import shutil
import time
from collections import deque
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import psutil

from .._checks import wrong_input

ASIDE = ".partial-"  # begins the name of what is not whole yet
SECONDS_BETWEEN_BEATS = 5
SECONDS_OF_SILENCE = 60  # more than any computation here keeps the holder's other threads waiting
SECONDS_BETWEEN_LOOKS = 0.05
NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)  # by its name or place


@cache
def machine():
    """Short name of where numbers of processes tell them apart: a boot of a machine, a container.

    Two of one name would take each other's processes for dead.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        name = f"{boot}{Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        name = f"{platform.node()} {psutil.boot_time():.0f}"
    return sha256(name.encode()).hexdigest()[:12]


def partial_path(path):
    """Where this process writes `path` aside: the name says which process of which machine."""
    return path.with_name(f"{ASIDE}{machine()}-{os.getpid()}-{path.name}")


def is_gone(name):
    """Whether a process of this machine has ended, by a name ``<machine>-<number>-...``.

    ``None`` for those of other machines, of whom nobody here knows.
    """
    where, number = (*name.split("-"), "")[:2]
    if where != machine() or not number.isdecimal():
        return None
    try:
        return psutil.Process(int(number)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return not _is_hidden(int(number))
    except psutil.Error:
        return False


def _is_hidden(number):
    """Whether a process lives that /proc does not show: one of another user may be hidden there."""
    if os.name != "posix":
        return False
    try:
        os.kill(number, 0)  # the signal that is none
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def make_folder(path):
    """Make a folder and those above it, or find it; one that cannot be made is named."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (*NO_WRITING, *NO_FOLDER):
            raise
        expected = "a place where you may write: name another folder"
        raise wrong_input(
            path, f"no folder, and none can be made ({error.strerror})", expected
        ) from error
    return path


class Claim:
    """The right to work at something, which one process has at a time, wherever it runs.

    Parameters
    ----------
    folder : path
        Where the claim lies; it is made. Who may not write in it goes on without a claim.
    name : str
        Of the claim, where a folder holds several pieces of work.
    """

    def __init__(self, folder, name=".claim"):
        self.place = make_folder(folder) / name
        self.token = self.place / f"{machine()}-{os.getpid()}-{uuid4().hex}"
        self._ended, self._seen, self._since, self._is_mine = Event(), None, 0.0, False

    def acquire(self, seconds=float("inf")):
        """Try for so many seconds to take it; return whether that came true."""
        try:
            return self._acquire_until(time.monotonic() + seconds)
        except BaseException:  # Ctrl-C comes at any moment: it may be taken, and beat, already
            self.release()
            raise

    def _acquire_until(self, until):
        """Try until a time to take it, and let it beat; true as well where nobody may write."""
        try:
            while self._is_held() or not self._take():
                if time.monotonic() >= until:
                    return False
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except OSError as error:
            if error.errno not in NO_WRITING:
                raise
            if os.access(self.place.parent, os.W_OK):
                expected = "one that you may remove, as its folder: ask its owner"
                raise wrong_input(self.place, "the claim of another user", expected) from error
            return True
        Thread(target=self._beat, daemon=True).start()
        return True

    def release(self):
        """Let the next one take it, unless another has taken it over; without it, do nothing."""
        if self._is_mine:
            self._ended.set()
            _remove(self.token)
            with suppress(OSError):  # a folder that is not empty is held
                self.place.rmdir()

    def check(self):
        """Raise if another has taken it over, who saw this one silent: asleep, or cut off."""
        if self._is_mine and not self.token.exists():
            found = "a claim that another process took over, as this one was silent for a minute"
            raise wrong_input(self.place.parent, found, "one at a time; what is finished is kept")

    def _is_held(self):
        """Whether there is a holder who is not silent; one who is loses it."""
        try:
            holder = next(self.place.iterdir(), None)
            seen = holder and (holder.name, holder.read_bytes())
        except FileNotFoundError:  # no claim, or a holder who ends now
            return False
        if holder is None:
            return False
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        if is_gone(holder.name) or time.monotonic() - self._since > SECONDS_OF_SILENCE:
            _remove(holder)
            return False
        return True

    def _take(self):
        """Rename a folder with one's own file to the claim's name; return whether it is there."""
        made = partial_path(self.place.with_name(f"{self.token.name[-8:]}{self.place.name}"))
        try:
            made.mkdir()
            with suppress(FileNotFoundError):  # who took it a moment ago may have swept this away
                (made / self.token.name).write_bytes(b"0")
        except OSError as error:  # a full disk
            shutil.rmtree(made, ignore_errors=True)
            raise OSError(error.errno, error.strerror, str(self.place)) from error
        with suppress(OSError):  # of one who went silent; a folder that is not empty stays
            self.place.rmdir()
        self._is_mine = True  # before it is: whoever is interrupted from here on releases it
        with suppress(OSError):
            made.rename(self.place)
        if self.token.exists():
            return True
        self._is_mine = False
        shutil.rmtree(made, ignore_errors=True)
        return False

    def _beat(self):
        """Rewrite one's own file now and then; a file that was removed does not come back."""
        for number in count(1):
            if self._ended.wait(SECONDS_BETWEEN_BEATS):
                return
            with suppress(OSError), self.token.open("r+b") as file:
                file.write(b"%d" % number)


def _remove(path):
    """Remove a file, if it is there; on Windows one who looks at it has it open for a moment."""
    patience = 100 if os.name == "nt" else 1
    while patience:
        patience -= 1
        try:
            path.unlink(missing_ok=True)
            patience = 0
        except PermissionError:
            if not patience:
                raise
            time.sleep(SECONDS_BETWEEN_LOOKS)


@contextmanager
def claimed(folder, name=".claim"):
    """Hold a claim while the block runs; give the `Claim`. A second process waits for its turn."""
    claim = Claim(folder, name)
    try:
        claim.acquire()
        yield claim
    finally:
        claim.release()


def each_claimed(folder, names, is_done):
    """Yield each name that is not done, while it is claimed; those that others hold come last."""
    waiting = deque((name, Claim(folder, f".claim-{name}")) for name in names)
    while waiting:
        name, claim = waiting.popleft()
        if is_done(name):
            continue
        try:
            if not claim.acquire(SECONDS_BETWEEN_LOOKS):
                waiting.append((name, claim))
            elif not is_done(name):
                yield name
        finally:
            claim.release()
