"""How processes are started: fresh interpreters that Ctrl-C cannot reach while they begin."""

import signal
from multiprocessing.context import SpawnContext, SpawnProcess


class _HeldProcess(SpawnProcess):
    """A process that is born with Ctrl-C held back.

    It could not yet ignore it: an interrupt in the seconds of its imports would print a traceback.
    """

    def start(self):
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            super().start()
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _HeldContext(SpawnContext):
    Process = _HeldProcess


def spawn_context():
    """Return a context of `multiprocessing` whose processes leave Ctrl-C to their parent.

    Examples
    --------
    >>> spawn_context().get_start_method()
    'spawn'
    """
    return _HeldContext()
