"""Fixtures of all tests."""

import logging
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


@pytest.fixture
def small_files() -> Callable[[], AbstractContextManager[None]]:
    """Inside what it gives no file grows beyond 50 kB, as if the disk were full."""

    @contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What a program that a test called has set up for its sentences ends with the test."""
    from utilities.progress import allow_bars
    from utilities.report import ROOMS

    loggers = [logging.getLogger(name) for name in (None, "huggingface_hub", *ROOMS)]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels):
        logger.setLevel(level)
    allow_bars(True)
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
