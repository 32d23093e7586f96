import signal

import pytest

from mlflow_trace_exporter.commands.stopping import between_steps


@pytest.mark.parametrize(("number", "end"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_a_command_after_the_step(number: signal.Signals, end: type[BaseException]) -> None:
    with between_steps() as stop_if_told:
        stop_if_told()
        signal.raise_signal(number)
        with pytest.raises(end) as caught:
            stop_if_told()
    assert not isinstance(caught.value, SystemExit) or caught.value.code == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_does_not_wait(number: signal.Signals) -> None:
    def at_once(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(number, at_once)
    try:
        with between_steps():
            signal.raise_signal(number)
            with pytest.raises(InterruptedError):
                signal.raise_signal(number)
        assert signal.getsignal(number) is at_once
    finally:
        signal.signal(number, before)
