"""Reference data beside a checkout, or where the environment says.

Golden tests take their cases from the manifest.
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(os.environ.get("SHARED_DIR", Path(__file__).resolve().parents[2] / "shared"))
GOLDEN = Path(os.environ.get("GOLDEN_DIR", SHARED / "golden" / "visible"))
# The project's CI has the reference data, so a test that skips there is a mistake.
REQUIRED = bool(os.environ.get("REQUIRE_SHARED"))


def require(path: Path, variable: str) -> Path:
    """The path; where it is missing a skip, in CI a failure, that names the variable."""
    if not path.exists():
        reason = f"reference data {path.name} is not there: set {variable}"
        pytest.fail(reason, pytrace=False) if REQUIRED else pytest.skip(reason)
    return path


def cases(kind: str, wanted=lambda entry: True) -> list:
    """A pytest parameter per manifest entry of that kind.

    A skip, in CI a failure, where the directory is missing.
    """
    if not (GOLDEN / "manifest.json").exists():
        reason = f"no golden values in {GOLDEN}: set GOLDEN_DIR"
        if REQUIRED:
            raise FileNotFoundError(reason)
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    return [
        pytest.param(entry, id=entry["id"])
        for entry in manifest["entries"]
        if entry["kind"] == kind and wanted(entry)
    ]


@cache
def arrays(file: str):
    return np.load(GOLDEN / file, allow_pickle=False)


def resolve(entry: dict, tree):
    """The tree of npz keys with the arrays in their places."""
    if isinstance(tree, dict):
        return {name: resolve(entry, branch) for name, branch in tree.items()}
    return arrays(entry["file"])[tree] if isinstance(tree, str) else tree


def assert_close(found, expected, relative: float) -> None:
    """max|a - b| <= relative * max|b|, the manifest's measure."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape
    largest = np.abs(expected).max() if expected.size else 0.0
    error = np.abs(found - expected).max() if expected.size else 0.0
    assert error <= relative * max(largest, 1e-30), (
        f"relative error {error / max(largest, 1e-30):.2e} > {relative:.0e}"
    )
