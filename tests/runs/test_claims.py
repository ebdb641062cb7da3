"""Who works where: one at a time, also where only files tell, and nobody waits for the dead."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from segcal_lite.runs import claims
from segcal_lite.runs.claims import Claim, claimed, each_claimed, is_gone, machine

HOLD = """
import sys, time
from segcal_lite.runs import claims
if len(sys.argv) > 2:
    claims.machine = lambda: sys.argv[2]
with claims.claimed(sys.argv[1]):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 60)
"""
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture
def holder(tmp_path):
    """Return a starter of processes that hold the claim of a folder; none outlives the test."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-c", HOLD, str(tmp_path), *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def quick(monkeypatch):
    """Beats and silence of fractions of a second."""
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_BEATS", 0.05)
    monkeypatch.setattr(claims, "SECONDS_OF_SILENCE", 0.5)


def test_one_at_a_time_and_nothing_stays(tmp_path):
    first, second = Claim(tmp_path), Claim(tmp_path)
    assert first.acquire(0)
    assert not second.acquire(0)
    assert not first.acquire(0)  # nor twice
    first.release()
    assert second.acquire(0)
    first.release()  # it is no longer its own
    assert second.token.exists()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_claims_of_different_names_do_not_meet(tmp_path):
    with claimed(tmp_path, ".claim-a"), claimed(tmp_path, ".claim-b"):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".claim-a", ".claim-b"]


@pytest.mark.slow
def test_many_who_try_at_once_count_without_a_loss(tmp_path):
    number, inside = tmp_path / "number", []
    number.write_text("0")

    def add_one(_):
        with claimed(tmp_path / "here"):
            inside.append(1)
            assert len(inside) == 1
            number.write_text(str(int(number.read_text()) + 1))
            inside.pop()

    with ThreadPoolExecutor(16) as executor:
        list(executor.map(add_one, range(200)))
    assert number.read_text() == "200"


@POSIX
def test_a_holder_that_was_killed_on_this_machine_is_followed_at_once(tmp_path, holder):
    process = holder()
    claim = Claim(tmp_path)
    assert not claim.acquire(0.2)
    process.kill()  # and nobody has asked yet how it ended
    began = time.monotonic()
    assert claim.acquire(10)
    assert time.monotonic() - began < 5
    claim.check()


@POSIX
def test_a_stopped_holder_elsewhere_is_followed_when_silent_and_learns_it(tmp_path, holder, quick):
    process = holder("elsewhere", 0.1)
    process.send_signal(signal.SIGSTOP)
    claim, began = Claim(tmp_path), time.monotonic()
    assert claim.acquire(20)
    assert time.monotonic() - began >= 0.5
    process.send_signal(signal.SIGCONT)
    assert process.wait(20) == 0  # its release
    claim.check()
    assert claim.token.exists()


def test_a_beating_holder_keeps_its_claim_whatever_the_clocks_say(tmp_path, quick, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(claims, "machine", lambda: "elsewhere")
        held = Claim(tmp_path)
    assert held.acquire(0)
    other, until = Claim(tmp_path), time.monotonic() + 2
    while time.monotonic() < until:
        os.utime(held.token, (0, 0))  # as by a clock that is years behind
        assert not other.acquire(0.1)
    held.release()
    assert other.acquire(0)
    other.release()


def silent(folder, token="elsewhere-1-0"):
    """A claim of another machine, which nobody rewrites."""
    (folder / ".claim").mkdir()
    (folder / ".claim" / token).write_text("3")


def test_of_many_who_follow_a_silent_one_each_has_its_turn(tmp_path, quick):
    silent(tmp_path)
    inside, most, done = [], [], []

    def work(_):
        with claimed(tmp_path) as claim:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            claim.check()
            inside.pop()
            done.append(1)

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, range(8)))
    assert len(done) == 8
    assert max(most) == 1


def test_one_who_is_late_to_find_another_silent_hits_no_later_holder(tmp_path, monkeypatch):
    """Both see the same silent one; before the second removes it, the first has its place."""
    silent(tmp_path, f"{machine()}-999999999-0")
    late, first, remove = Claim(tmp_path), Claim(tmp_path), claims._remove

    def overtaken(path):
        monkeypatch.setattr(claims, "_remove", remove)
        assert first.acquire(0)
        remove(path)

    monkeypatch.setattr(claims, "_remove", overtaken)
    assert not late.acquire(0)
    first.check()
    first.release()
    assert late.acquire(0)
    late.release()


def test_who_lost_its_claim_is_told_and_its_beat_does_not_bring_it_back(tmp_path, quick):
    claim = Claim(tmp_path)
    assert claim.acquire(0)
    claim.token.unlink()
    time.sleep(0.2)
    told = f"^{re.escape(str(tmp_path))}: found a claim that another process took over"
    with pytest.raises(ValueError, match=told):
        claim.check()
    claim.release()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_left_empty_is_free(tmp_path):
    (tmp_path / ".claim").mkdir()
    claim = Claim(tmp_path)
    assert claim.acquire(0)
    claim.release()


def test_the_beat_ends_with_the_claim(tmp_path, quick):
    before = threading.active_count()
    with claimed(tmp_path) as claim:
        time.sleep(0.3)
        assert int(claim.token.read_bytes()) >= 2
    time.sleep(0.3)
    assert threading.active_count() <= before


def test_an_error_in_the_block_frees_it(tmp_path):
    with pytest.raises(KeyError), claimed(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_nothing_stays(tmp_path, monkeypatch):
    def fail(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left on device") as raised, claimed(tmp_path):
        pass
    assert raised.value.filename == str(tmp_path / ".claim")
    assert list(tmp_path.iterdir()) == []


def test_those_that_others_hold_come_last(tmp_path):
    elsewhere, done = Claim(tmp_path, ".claim-b"), []
    assert elsewhere.acquire(0)
    for name in each_claimed(tmp_path, ["a", "b", "c", "old"], ["old", *done].__contains__):
        assert (tmp_path / f".claim-{name}").exists()
        done.append(name)
        if name == "c":
            elsewhere.release()
    assert done == ["a", "c", "b"]


def test_what_another_has_done_meanwhile_is_not_done_again(tmp_path):
    elsewhere, answers = Claim(tmp_path, ".claim-a"), iter([False, True])
    assert elsewhere.acquire(0)
    threading.Timer(0.02, elsewhere.release).start()
    assert list(each_claimed(tmp_path, ["a"], lambda name: next(answers))) == []


def test_processes_are_told_apart_by_machine_and_number():
    assert is_gone(f"{machine()}-{os.getpid()}-x") is False
    assert is_gone(f"{machine()}-999999999-x") is True
    assert is_gone("0abc-999999999-x") is None
    assert is_gone(f"{machine()}-x") is None


@POSIX
def test_a_process_that_the_system_hides_is_not_gone(monkeypatch):
    """As /proc mounted with hidepid does with the processes of other users."""

    def hidden(number):
        raise psutil.NoSuchProcess(number)

    monkeypatch.setattr(psutil, "Process", hidden)
    assert is_gone(f"{machine()}-{os.getpid()}-x") is False
    assert is_gone(f"{machine()}-999999999-x") is True
    assert is_gone(f"{machine()}-{10**30}-x") is True

    def refuse(number, signal):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert is_gone(f"{machine()}-999999999-x") is False


def take(folder):
    with claimed(folder):
        pass


def take_each(folder):
    list(each_claimed(folder, ["a"], lambda name: False))


@pytest.mark.parametrize("work", [take, take_each])
@pytest.mark.parametrize("place", [(Path, "rename"), (threading.Thread, "start")])
def test_an_interruption_while_it_is_taken_frees_it(work, place, tmp_path, quick, monkeypatch):
    before, done = threading.active_count(), getattr(*place)

    def interrupted(*arguments):
        done(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*place, interrupted)
        work(tmp_path)
    assert list(tmp_path.iterdir()) == []
    time.sleep(0.2)
    assert threading.active_count() <= before


def test_the_silent_claim_of_another_user_is_named(tmp_path, monkeypatch):
    silent(tmp_path, f"{machine()}-999999999-0")

    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    told = f"^{re.escape(str(tmp_path / '.claim'))}: found the claim of another user, expected"
    with pytest.raises(ValueError, match=told):
        Claim(tmp_path).acquire()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert Claim(tmp_path).acquire()  # who may not write there goes on without
