"""How far long work is: a line now and then where there is no terminal."""

import io
import logging
import os
import pty
import signal
import sys

import pytest

from utilities import progress as module
from utilities import report, signals
from utilities.progress import progress


@pytest.fixture
def every_step_is_due(monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.0)


def test_short_work_says_nothing(caplog, capsys):
    with caplog.at_level(logging.INFO):
        assert list(progress([1, 2, 3], "Work")) == [1, 2, 3]
        with progress(None, "Work", total=2) as bar:
            bar.update()
            bar.update()
    assert caplog.text == "" and capsys.readouterr() == ("", "")


def test_a_signal_while_a_bar_is_made(monkeypatch):
    """Of a bar without its place tqdm's `__del__` would say that it has none."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    place = module.tqdm._get_free_pos

    def told_to_stop(cls, instance):
        os.kill(os.getpid(), signal.SIGINT)
        return place(instance)

    monkeypatch.setattr(module.tqdm, "_get_free_pos", classmethod(told_to_stop))
    with signals.answered(), pytest.raises(KeyboardInterrupt):
        progress([1], "Work")
    assert not unraisable


def test_long_work_says_lines(caplog, capsys, every_step_is_due):
    with caplog.at_level(logging.INFO):
        shown = progress(iter("abc"), "Epoch 2", total=5, initial=2)
        for _ in shown:
            shown.set_postfix({"loss": "0.5"}, refresh=False)
    lines = [record.getMessage() for record in caplog.records]
    assert [line[: len("Epoch 2: 3 of 5")] for line in lines[-3:]] == [
        "Epoch 2: 3 of 5",
        "Epoch 2: 4 of 5",
        "Epoch 2: 5 of 5",
    ]
    assert all("after 00:00" in line for line in lines) and "loss=0.5" in lines[-1]
    assert capsys.readouterr() == ("", "") and not any("\r" in line for line in lines)


def test_a_terminal_that_says_no_size_gets_a_bar(monkeypatch):
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    assert tuple(os.get_terminal_size(theirs)) == (0, 0)
    with os.fdopen(theirs, "w") as terminal, open(ours, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        report.configure_logging()
        assert list(progress(range(2), "Work", mininterval=0)) == [0, 1]
        shown = screen.read().decode()
    assert "Work:  50%" in shown and len(shown.split("\r")[1]) <= module.COLUMNS


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    report.configure_logging()
    assert list(progress(range(3), "Work", mininterval=0)) == [0, 1, 2]
    shown = sys.stderr.getvalue()
    assert "Work: 100%" in shown and shown.endswith("\r")
    report.configure_logging(quiet=True)
    assert list(progress(range(3), "Work", mininterval=0)) == [0, 1, 2]
    assert sys.stderr.getvalue() == shown
    report.configure_logging()
