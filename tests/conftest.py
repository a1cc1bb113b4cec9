"""Fixtures of all tests."""
from pathlib import Path

import pytest
import reference


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real images and weights."""
    return reference.require(reference.SHARED / "assets", "SHARED_DIR")
