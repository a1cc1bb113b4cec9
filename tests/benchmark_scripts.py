"""The scripts of benchmarks/, run at their smallest."""

from pathlib import Path

from forked import ROOT, Program

FOLDER = ROOT / "benchmarks"


def smoke(script: str, folder: Path) -> str:
    """Standard output of `benchmarks/<script> --smoke`, called as a file from an empty folder.

    It must end well and leave nothing there.
    """
    empty = folder / "empty"
    empty.mkdir()
    program = Program(FOLDER / script, ["--smoke"], folder / "said", empty)
    status = program.wait(300)
    assert status == 0, program.err.read_text()
    assert not list(empty.iterdir())
    return program.out.read_text()
