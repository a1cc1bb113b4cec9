"""Fixtures of all tests."""

import os
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
