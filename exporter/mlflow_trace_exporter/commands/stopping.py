"""Stops a command between two of its steps, so that no library is interrupted in the middle of one."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """A function to call between two steps: it ends the command if SIGINT (Ctrl-C) or SIGTERM has arrived. The second
    signal of a kind does not wait for the end of a step."""
    arrived: list[signal.Signals] = []

    def note(number: int, _: FrameType | None) -> None:
        arrived.append(signal.Signals(number))
        signal.signal(number, before[arrived[-1]])

    def stop_if_told() -> None:
        if signal.SIGINT in arrived:
            raise KeyboardInterrupt
        if arrived:
            sys.exit(128 + arrived[0])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_if_told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
