"""The log file of a run: all that it says, whatever ends it."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from utilities import log_file, report
from utilities.errors import UserError
from utilities.log_file import LogFile, Overheard

ROOT = Path(__file__).resolve().parents[2]
SPEAKER = logging.getLogger("utilities.test")
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", re.MULTILINE)


def texts(folder: Path) -> list[str]:
    """The lines of a log, without times."""
    return TIME.sub("", (folder / log_file.NAME).read_text()).splitlines()


def begin(folder: Path, beginning: str) -> None:
    log = log_file.current()
    assert log is not None
    log.keep_in(folder, beginning)


def speak(folder: Path, ending: BaseException | None = None, beginning: str = "Started: x") -> int:
    """A run that says something before and after it has a folder."""

    def run() -> None:
        SPEAKER.info("early")
        begin(folder, beginning)
        SPEAKER.info("two\nlines")
        if ending:
            raise ending

    report.configure_logging(quiet=True)
    return report.exit_status(run)


def test_what_came_before_the_folder_is_in_the_log(tmp_path):
    assert speak(tmp_path) == 0
    assert texts(tmp_path) == ["Started: x", "early", "two", "lines"]
    assert len(TIME.findall((tmp_path / log_file.NAME).read_text())) == 3


def test_a_resumed_run_writes_behind_what_is_there(tmp_path):
    speak(tmp_path)
    speak(tmp_path, beginning="Resumed from a: x")
    first, second = ["early", "two", "lines"], ["early", "two", "lines"]
    assert texts(tmp_path) == ["Started: x", *first, "", "Resumed from a: x", *second]


@pytest.mark.parametrize(
    "ending, status, text",
    [
        (UserError("a file is missing"), 2, "main.py: error: a file is missing"),
        (KeyboardInterrupt("; go on"), 130, "main.py: interrupted; go on"),
    ],
)
def test_the_sentence_that_ends_a_run_is_in_the_log(tmp_path, ending, status, text):
    assert speak(tmp_path, ending) == status
    assert texts(tmp_path)[-1] == text


def test_a_traceback_is_in_the_log(tmp_path):
    with pytest.raises(ZeroDivisionError):
        speak(tmp_path, ZeroDivisionError("of everything"))
    lines = texts(tmp_path)
    assert "Traceback (most recent call last):" in lines
    assert lines[-1] == "ZeroDivisionError: of everything"


def test_a_run_without_a_folder_leaves_no_log(tmp_path):
    report.configure_logging()
    assert report.exit_status(lambda: SPEAKER.info("nothing to do")) == 0
    assert not list(tmp_path.iterdir())
    log = log_file.current()
    assert log is not None and not log.early


def test_nothing_is_heard_of_a_bar_but_its_end(tmp_path):
    heard = []
    with (tmp_path / "screen").open("w") as screen:
        stream = Overheard(screen, heard.append)
        for number in tqdm(range(50), file=stream, mininterval=0, leave=False):
            if number == 25:
                tqdm.write("\x1b[31ma red warning\x1b[0m", file=stream)
        stream.write("in two ")
        stream.write("parts\r\n\n")
    assert heard == ["a red warning", "in two parts"]
    shown = (tmp_path / "screen").read_text()
    assert "50/50" in shown or "49/50" in shown


def test_warnings_of_libraries_are_in_the_log(tmp_path):
    code = """
import sys, warnings
from pathlib import Path
from utilities import log_file, report
def run():
    log_file.current().keep_in(Path(sys.argv[1]), "Started")
    warnings.warn("something is old")
report.configure_logging(quiet=True)
sys.exit(report.exit_status(run))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0 and "something is old" in ended.stderr
    assert any("UserWarning: something is old" in line for line in texts(tmp_path))


def test_a_log_that_cannot_be_written_ends_no_run(tmp_path, capsys):
    (tmp_path / log_file.NAME).mkdir()
    assert speak(tmp_path) == 0
    out = capsys.readouterr().out
    assert out.count("log.txt cannot be written") == 1


def test_a_disk_that_fills_up_ends_the_log_and_not_the_run(tmp_path, monkeypatch, capsys):
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    report.configure_logging()
    log = log_file.current()
    assert isinstance(log, LogFile)
    monkeypatch.setattr(log, "file", Full())
    for _ in range(3):
        SPEAKER.info("a sentence")
    log.close()
    out = capsys.readouterr().out
    assert out.count("No space left on device") == 1 and out.count("a sentence") == 3


def test_names_that_are_no_text_are_written_in_escapes(tmp_path):
    speak(tmp_path, UserError("no file b\udcf6se"))
    assert texts(tmp_path)[-1] == "main.py: error: no file b\\udcf6se"
