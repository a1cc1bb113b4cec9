"""Files that installed packages carry, such as weights, known by their checksums."""

import hashlib
import importlib.util
from pathlib import Path

from utilities.errors import UserError


def file_in(module: str, file: str) -> Path | None:
    """The place of a file in an installed module; None where that is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / file


def require_published(file: Path, sha256: str, distribution: str, flag: str = "") -> None:
    """Raises UserError for a file that has changed.

    Args:
        distribution: as pip knows the package. flag: stands before the sentence, if given.
    """
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    if checksum != sha256:
        asked = f"{flag}: " if flag else ""
        raise UserError(
            f"{asked}{file} is not the published file (sha256 {checksum}); reinstall "
            f"{distribution}."
        )
