"""Memory of the machine, or of the container that the process is in, whichever is less."""

import os
from pathlib import Path
from typing import NamedTuple

from utilities import control_groups

UNKNOWN = 4 * 2**30  # bytes that are taken to be free where the system does not tell
MACHINE = Path("/proc/meminfo")


class Files(NamedTuple):
    """Of a control group: its limit, what is used of it, and the details of that.

    `reclaimable` is what of the used memory are files, which the system gives back when asked.
    """

    limit: str
    used: str
    reclaimable: str


FILES = {
    1: Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: Files("memory.max", "memory.current", "inactive_file"),
}


def free() -> int:
    """Bytes that can be had now, with those that caches of files would give back."""
    rooms = [limit - used for limit, used in _groups()]
    available = _of_machine("MemAvailable")
    return max(min([UNKNOWN if available is None else available, *rooms]), 0)


def total() -> int:
    """Bytes of the machine or of the container's limit."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([pages, *(limit for limit, _ in _groups())])


def _of_machine(name: str) -> int | None:
    try:
        lines = MACHINE.read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(sizes[0]) * 1024 if sizes else None


def _groups() -> list[tuple[int, int]]:
    """Limit and use, in bytes, of each group around this process that has a limit."""
    groups = [
        _group(folder, FILES[version]) for version, folder in control_groups.folders("memory")
    ]
    return [group for group in groups if group]


def _group(folder: Path, files: Files) -> tuple[int, int] | None:
    try:
        limit = int((folder / files.limit).read_text())  # "max" where there is none
        used = int((folder / files.used).read_text())
        details = (folder / "memory.stat").read_text().split()
    except (OSError, ValueError):
        return None
    by_name = dict(zip(details[::2], details[1::2]))
    return limit, used - int(by_name.get(files.reclaimable, 0))
