"""The cores that this process may use: of the machine, of its affinity, of its container."""

import math
import os
from pathlib import Path

from utilities import control_groups


class _Sharing:
    processes = 1  # of this machine, which have the cores together


def share(processes: int) -> None:
    """Other processes of the run have the same cores: each gets its part of them."""
    _Sharing.processes = processes


def usable() -> int:
    """At least 1. A container's share of 1.5 cores counts as 2."""
    counts = [_of_affinity(), *(_of_group(*group) for group in control_groups.folders("cpu"))]
    return max(min(count for count in counts if count) // _Sharing.processes, 1)


def _of_affinity() -> int:
    """Cores that the process may run on, where the system tells; else those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _of_group(version: int, folder: Path) -> int | None:
    """Cores' worth of time that a control group grants, or None without a limit."""
    names = ["cpu.max"] if version == 2 else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
    try:
        words = [word for name in names for word in (folder / name).read_text().split()]
        quota, period = map(int, words)  # "max" where there is no limit, -1 in version 1
    except (OSError, ValueError):
        return None
    return math.ceil(quota / period) if quota > 0 and period > 0 else None
