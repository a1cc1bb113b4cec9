"""Linux's control groups, by which containers and schedulers limit a process."""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def folders(controller: str) -> list[tuple[int, Path]]:
    """Version, 1 or 2, and folder of each group around this process that may limit `controller`."""
    around = []
    for version, root, path in _own(controller):
        folder = root / path.lstrip("/")
        # In a container the path may be that of the host, of which only the root is to be seen.
        inside = [place for place in (folder, *folder.parents) if root in place.parents]
        around += [(version, place) for place in (root, *inside)]
    return around


def _own(controller: str) -> list[tuple[int, Path, str]]:
    """Version, root and path below it of the groups that this process is in."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError:
        return []
    own = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if not controllers:
            own.append((2, ROOT, path))
        elif controller in controllers.split(","):
            own.append((1, ROOT / controllers, path))
    return own
