"""Signals to stop: where they are answered, where they wait, and that none is lost."""

import contextlib
import os
import signal
import threading

import pytest

from utilities import report, signals
from utilities.signals import Stopped, answered, held, postponed

pytestmark = pytest.mark.usefixtures("terminal")


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_is_answered_at_once(number):
    with pytest.raises(Stopped) as stopped, answered():
        send(number)
        pytest.fail("not stopped")
    assert stopped.value.number == number and str(stopped.value) == signal.Signals(number).name


def test_ctrl_c_stays_an_interrupt():
    with pytest.raises(KeyboardInterrupt), answered():
        send(signal.SIGINT)
        pytest.fail("not stopped")


def test_ctrl_c_at_a_terminal_is_heard_at_once(monkeypatch):
    """Who waits in silence presses it again, and loses what was being kept."""
    reader, terminal = os.openpty()
    monkeypatch.setattr(signals, "STDERR", terminal)
    with pytest.raises(KeyboardInterrupt), answered(), held():
        send(signal.SIGINT)
        assert b"Stopping; a second Ctrl-C loses what is being written." in os.read(reader, 1000)
    os.close(reader)
    os.close(terminal)


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_what_is_held_together_is_ended_first(number):
    done = []
    with pytest.raises((Stopped, KeyboardInterrupt)), answered():
        with held():
            with held():
                send(number)
                done.append("inner")
            done.append("outer")
        done.append("after")
    assert done == ["inner", "outer"]


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), answered(), held():
        send(signal.SIGINT)
        send(signal.SIGINT)
        pytest.fail("not stopped")


def test_a_signal_that_a_finaliser_swallowed_is_not_lost():
    with pytest.raises(Stopped), answered():
        with contextlib.suppress(Stopped):
            send()
        with held():
            pytest.fail("not stopped")


def test_what_came_too_late_for_an_agreement_is_answered_behind_it():
    with pytest.raises(Stopped), answered():
        with postponed():
            send()
        pytest.fail("not stopped")


def test_an_ending_program_is_left_alone():
    with answered():
        signals.end()
        send()
        with held():
            pass


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with answered():
        assert [signal.getsignal(number) for number in signals.SIGNALS] != before
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_parent_ignores_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with answered():
            send(number)
    finally:
        signal.signal(number, before)


def test_other_threads_leave_signals_alone():
    seen = []

    def run() -> None:
        with answered():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(
    "number, status, said",
    [
        (signal.SIGTERM, 143, "embed: stopped by SIGTERM\n"),
        (signal.SIGUSR1, 143, "embed: stopped by SIGUSR1\n"),
        (signal.SIGHUP, 129, "embed: stopped by SIGHUP\n"),
        (signal.SIGINT, 130, "embed: interrupted\n"),
    ],
)
def test_a_program_says_what_ended_it(capsys, number, status, said):
    assert report.exit_status(send, number, program="embed") == status
    assert capsys.readouterr().err == said


def test_signals_in_a_row_mean_one_thing():
    """A second one must not be raised where the first is being answered."""
    answers = []
    with answered():
        try:
            send()
        except Stopped:
            send(signal.SIGUSR1)
            answers.append("one")
    assert answers == ["one"]
