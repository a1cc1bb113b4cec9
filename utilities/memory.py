"""Memory of the machine, or of the container that the process is in, whichever is less."""

import os
from pathlib import Path
from typing import NamedTuple

UNKNOWN = 4 * 2**30  # bytes that are taken to be free where the system does not tell
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MACHINE = Path("/proc/meminfo")


class Files(NamedTuple):
    """Of a control group: its limit, what is used of it, and the details of that.

    `reclaimable` is what of the used memory are files, which the system gives back when asked.
    """

    limit: str
    used: str
    reclaimable: str


# The two versions of Linux's control groups: folder below GROUPS, and names of files.
VERSIONS = {
    "memory": Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    "": Files("memory.max", "memory.current", "inactive_file"),
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
    found = []
    for controllers, path in _own_paths():
        files = VERSIONS[controllers]
        root = GROUPS / controllers
        folder = root / path.lstrip("/")
        # In a container the path may be that of the host, of which only the root is to be seen.
        for place in {root, folder, *folder.parents}:
            if place == root or root in place.parents:
                found.append(_group(place, files))
    return [group for group in found if group]


def _own_paths() -> list[tuple[str, str]]:
    """Version and path of the groups of this process that may limit its memory."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return [(controllers, path) for _, controllers, path in parts if controllers in VERSIONS]


def _group(folder: Path, files: Files) -> tuple[int, int] | None:
    try:
        limit = int((folder / files.limit).read_text())  # "max" where there is none
        used = int((folder / files.used).read_text())
        details = (folder / "memory.stat").read_text().split()
    except (OSError, ValueError):
        return None
    by_name = dict(zip(details[::2], details[1::2]))
    return limit, used - int(by_name.get(files.reclaimable, 0))
