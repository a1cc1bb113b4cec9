"""Every program answers to --help and to wrong flags before anything heavy is loaded."""

import argparse
import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from programs import command_line
from utilities import report, signals

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = [
    path.stem
    for path in sorted((ROOT / "programs").glob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
]
HEAVY = "torch numpy PIL timm matplotlib onnxruntime scipy pyarrow"


def test_there_are_programs():
    assert set(PROGRAMS) >= {"embed", "search", "export", "prepare", "language"}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("flags, status", [(["--help"], 0), (["--no_such_flag"], 2)])
def test_flags_are_read_before_anything_heavy_is_loaded(program, flags, status):
    code = (
        f"import sys; from programs import {program} as program\n"
        f"try: program.main({flags})\n"
        f"finally: assert not set('{HEAVY}'.split()) & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == status and "Traceback" not in ended.stderr
    if status:
        assert ended.stderr.startswith(f"python -m programs.{program}: error: ")
        assert ended.stderr.count("\n") == 1 and not ended.stdout
    else:
        assert f"usage: python -m programs.{program} " in ended.stdout


def test_what_is_wrong_stays_on_one_line(capsys):
    with pytest.raises(SystemExit):
        command_line.build_parser("embed", "").parse_args(["--a\nb\x1b[31m"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --a\\nb\\x1b[31m\n")


def test_a_signal_while_the_sentence_is_printed_is_no_traceback(monkeypatch):
    def late(*arguments: object) -> int:
        raise signals.Stopped(signal.SIGTERM)

    monkeypatch.setattr(report, "_exit_status", late)
    assert report.exit_status(print) == 143


def test_a_disk_that_fails_is_a_sentence(capsys):
    def work(flags: argparse.Namespace) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert command_line.run("embed", work, argparse.Namespace()) == 2
    assert "error: No space left on device." in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, rule",
    [
        *((text, "a whole number of at least 1") for text in ("0", "-1", "1.5", "", "--", "x")),
        *((text, "at most 999999999") for text in ("9" * 10, "9" * 5000)),
        ("-" + "9" * 5000, "a whole number of at least 1"),
    ],
)
def test_what_is_no_number_that_anything_counts_to_is_a_sentence(text, rule):
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be {rule}, not .{{1,99}}$"):
        command_line.at_least(1)(text)


def test_whole_numbers_from_the_least_on():
    assert [command_line.at_least(1)(text) for text in ("1", "007", "9" * 9)] == [1, 7, 999_999_999]


def test_a_link_to_itself_is_no_place_to_write(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(argparse.ArgumentTypeError, match="link: it is a link that leads nowhere"):
        command_line.output(str(tmp_path / "link"))
