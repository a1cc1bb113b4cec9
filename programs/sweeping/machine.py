"""What this machine has for the runs of a sweep: its GPUs, or shares of its cores."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from utilities import cores

VISIBLE = "CUDA_VISIBLE_DEVICES"
ONE_GPU = re.compile(r"\d+|(GPU|MIG)-[\w/-]+", re.ASCII)  # as CUDA names it
# glibc must not return memory at every step, and idle threads must not take the cores of others.
# Whoever sets these otherwise, or the number of threads, knows better.
USUAL = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
}


class Slot(NamedTuple):
    """Where one run after another computes.

    Attributes:
        gpu: as CUDA names it, None for whatever there is. threads: of the CPU.
    """

    gpu: str | None
    threads: int

    def environment(self) -> dict[str, str]:
        """Of a process there."""
        threads = {"OMP_NUM_THREADS": str(self.threads)}
        visible = {} if self.gpu is None else {VISIBLE: self.gpu}
        return {**USUAL, **threads, **os.environ, **visible}


def slots(jobs: int | None, gpus: Sequence[str]) -> list[Slot]:
    """As many as there are jobs, one for each GPU if nobody says how many.

    The threads of a run do not depend on how many are left, because sums in floating point do on
    them.
    """
    count = jobs or len(gpus) or 1
    threads = max(cores.usable() // count, 1)
    return [Slot(gpus[i % len(gpus)] if gpus else None, threads) for i in range(count)]


def names_one_gpu(name: str) -> bool:
    """Whether it is the number or the identity of one GPU, and of no more: a run sees one."""
    return ONE_GPU.fullmatch(name) is not None


def gpus() -> list[str]:
    """Those that CUDA may see, as the environment or the driver's own program tells."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        told = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = [line for line in told.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(found))]
