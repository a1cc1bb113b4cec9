"""Several processes of this machine, as torchrun starts them, without its seconds for each.

A server that has loaded the program once forks them all. They meet at a store of the test's own, as
they do at torchrun's.
"""

import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from forked import CONTEXT, speak_into
from torch.distributed import TCPStore


class Group:
    """Processes that do `work(*arguments)`; what each says is in `<folder>/<rank>.out`, `.err`."""

    def __init__(self, size: int, folder: Path, work: Callable[..., int | None], *arguments: Any):
        self.folder = folder
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        folder.mkdir(parents=True, exist_ok=True)
        self.members: list[BaseProcess] = []
        for rank in range(size):
            task = (rank, size, self.store.port, folder, work, arguments)
            self.members.append(CONTEXT.Process(target=_member, args=task))
            self.members[-1].start()

    def statuses(self, seconds: float = 400) -> list[int | None]:
        """Exit statuses, once all have ended."""
        for member in self.members:
            member.join(seconds)
        statuses = [member.exitcode for member in self.members]
        for member in self.members:
            member.kill()
        return statuses

    def said(self, rank: int = 0) -> str:
        return (self.folder / f"{rank}.out").read_text()

    def errors(self) -> list[str]:
        """The lines on standard error, of all processes."""
        files = [self.folder / f"{rank}.err" for rank in range(len(self.members))]
        return [line for file in files for line in file.read_text().splitlines()]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


def _member(
    rank: int,
    size: int,
    port: int,
    folder: Path,
    work: Callable[..., int | None],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.update(environment(rank, size, port))
    speak_into(folder / f"{rank}.out", folder / f"{rank}.err")
    sys.exit(work(*arguments))
