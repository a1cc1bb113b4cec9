"""What a result depends on beside its settings: revision of the program, libraries, machine."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from utilities.version import VERSION

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "faiss-cpu",
    "faiss-gpu",
    "numpy",
    "scikit-learn",
    "pillow",
    "transformers",
    "open_clip_torch",
    "wandb",
)


def environment() -> dict[str, object]:
    """Version and git revision of the program, versions and machine, for results.json."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {
        "program_version": VERSION,
        "git_revision": _git_revision(),
        "versions": versions,
        "platform": platform.platform(),
    }


def _git_revision() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
