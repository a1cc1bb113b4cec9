"""Fixtures of all tests."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import reference

# Of the test processes and of those that they start; small tensors are slower on more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
pytest_plugins = ("small_runs",)


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real images and weights."""
    return reference.require(reference.SHARED / "assets", "SHARED_DIR")


@pytest.fixture(autouse=True, scope="session")
def disks_that_need_no_waiting() -> Iterator[None]:
    """What tests write need not outlive a power cut: only that it is flushed is tested."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda opened: None)
        yield


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What a program that a test called has set up for its sentences ends with the test."""
    yield
    root = logging.getLogger()
    for handler in list(root.handlers):
        if not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)


@pytest.fixture(autouse=True)
def curves_only_where_looked_at(request, monkeypatch) -> None:
    """Curves are most of the time of a tiny run: drawn in tests that are marked with `curves`."""
    if not request.node.get_closest_marker("curves"):
        from utilities.logger import RunLog

        monkeypatch.setattr(RunLog, "_draw_family", lambda *ignored: None)
