"""SIGTERM, by which a machine announces that it will be taken away."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from jaxticket.errors import StoppedError


class _Notice:
    """A handler that sets a flag where a step checkpoint asks for it, and otherwise ends the program.

    A handler belongs to the process, and so does this object.
    """

    def __init__(self) -> None:
        self.ready = self.asked = self.came = False

    def __call__(self, *_: object) -> None:
        if not self.asked:
            raise StoppedError("stopped by SIGTERM, before anything was trained")
        self.came = True

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self)


_notice = _Notice()


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Raise StoppedError at SIGTERM, or note it where `ask` was called."""
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    _notice.ready, _notice.asked, _notice.came = True, False, False
    _notice.listen()
    try:
        yield
    finally:
        _notice.ready = False
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def ask() -> None:
    """Note SIGTERM from now on, for `came` to report: a training saves its state before it stops."""
    if _notice.ready:
        _notice.asked = True
        _notice.listen()  # again: jax.distributed has put a handler of its own in between


def came() -> bool:
    """Whether SIGTERM has come since."""
    return _notice.came
