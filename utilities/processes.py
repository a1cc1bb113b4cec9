"""The processes that share a run, as torchrun starts them: who they are and what they exchange.

The only file that knows torch.distributed. What the processes say to each other goes through gloo,
tensors on GPUs through NCCL; each function says what it does where there is one process only.
Nothing heavy is loaded before a group is joined.
"""

import ctypes
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from utilities import cores, signals
from utilities.errors import UserError, reason

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup, Store

LOG = logging.getLogger(__name__)
VARIABLES = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# For which one process waits for another that computes alone: texts of a large vocabulary, figures.
PATIENCE = timedelta(hours=12)
LOOKS = 0.02  # seconds between two looks at what others have said
MET_WITHIN = 1800.0  # seconds that machines may take to start, one after the other
SILENT_FOR = 20.0  # seconds after which a process says that it waits for the others to start
MAIN_SPEAKS_WITHIN = 1.0  # seconds that others leave to the first process to say what ended the run
MAIN_STOPS_WITHIN = 5.0  # the same where it has been told to stop too, and may write a checkpoint
KEPT_WITHIN = 60.0  # seconds that others leave to the first process for the last checkpoint
STARTED_WITH = "/proc/{}/environ"  # the environment that a process, torchrun, was started with
SIGNAL_OF_PARENT = 1  # of Linux's prctl: what this process gets where its parent ends
NUMBERS_AT_ONCE = 2**24  # of gradients that are summed in one message
# In what torch raises where a process has lost another.
LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Connection was likely closed",
    "Broken pipe",
    "remote process exit",
)
Value = TypeVar("Value")


class Place(NamedTuple):
    """A process among all of a run, and among those of its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


class Part(NamedTuple):
    """The share of one process in what `of` of them divide."""

    number: int = 0
    of: int = 1

    def rows(self, total: int) -> slice:
        """Those of this part, behind those of the parts before it; sizes differ by at most 1."""
        return slice(total * self.number // self.of, total * (self.number + 1) // self.of)

    def size(self, total: int) -> int:
        rows = self.rows(total)
        return rows.stop - rows.start


WHOLE = Part()


class _Group:
    """What this process has joined, if anything."""

    place = Place()
    store: "Store | None" = None
    on_gpus: "ProcessGroup | None" = None
    alone = 0  # how many `_alone` are around the current line
    is_stopped = False  # whether all have agreed to stop at this step


def place() -> Place:
    """That of this process, by the variables of torchrun.

    Raises UserError where only some of them are there: each process would train the same run.
    """
    if not are_meant():
        return Place()
    if what := _wrong_in_environment():
        raise UserError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} is in the environment {what}; start several "
            "processes with torchrun --nproc_per_node N main.py, or unset WORLD_SIZE for one."
        )
    return Place(*(int(os.environ[name]) for name in NUMBERS))


def _wrong_in_environment() -> str:
    """What keeps the variables from naming a place among several; nothing where they do."""
    if missing := [name for name in VARIABLES if name not in os.environ]:
        return f"without {', '.join(missing)}"
    if not all(os.environ[name].isdecimal() for name in (*NUMBERS, "MASTER_PORT")):
        return "beside ranks or a port that are no numbers"
    rank, world_size, local_rank, local_world_size = (int(os.environ[name]) for name in NUMBERS)
    for name, number, of in (
        ("RANK", rank, world_size),
        ("LOCAL_RANK", local_rank, local_world_size),
        ("MASTER_PORT", int(os.environ["MASTER_PORT"]), 2**16),
    ):
        if number >= of:
            return f"beside {name}={number}, which is not among {of}"
    return ""


def are_meant() -> bool:
    """Whether the environment says that there are several processes."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_other() -> bool:
    """Whether the environment says that another process than this one speaks for the run."""
    return are_meant() and os.environ.get("RANK", "0") != "0"


def speaks_for_machine() -> bool:
    """Whether this process speaks while nothing is joined: the first of each machine."""
    return not are_meant() or os.environ.get("LOCAL_RANK", "0") == "0"


def starter() -> list[str]:
    """What the program was started by: `python`, or torchrun with its number of processes."""
    if not are_meant():
        return ["python"]
    on_machine = os.environ.get("LOCAL_WORLD_SIZE", "1")
    machines = os.environ.get("GROUP_WORLD_SIZE", "1")
    nodes = [] if machines == "1" else ["--nnodes", machines]
    return ["torchrun", *nodes, "--nproc_per_node", on_machine]


def leave_out_traces_of_torch() -> None:
    """Of several processes none shows twenty lines of C++ where another, or torchrun, has gone.

    A sentence of ours says it. torch reads the variable as it is loaded.
    """
    if are_meant():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def require_alone(program: str) -> None:
    """Raises UserError under torchrun, for a program that is of one process."""
    if are_meant():
        raise UserError(
            f"{program} is of one process (WORLD_SIZE={os.environ['WORLD_SIZE']} is in the "
            "environment, as torchrun sets it); start it without torchrun."
        )


def together(work: Callable[..., None]) -> Callable[..., None]:
    """The same work as one of the processes that torchrun has started, if it has started any."""

    @wraps(work)
    def joined(*arguments: Any) -> None:
        join(place())
        work(*arguments)
        leave()

    return joined


def join(where: Place) -> None:
    """Meet the other processes; nothing where there are none.

    Raises UserError where they do not come.
    """
    if where.world_size == 1:
        return
    import torch.distributed as dist

    stop_where_launcher_ends()
    store = _meeting_place(where)
    _Group.place, _Group.store = where, dist.PrefixStore("run", store)
    cores.share(where.local_world_size)
    _Group.store.add("here", 1)
    _await(_all_are_here, f"all {where.world_size} processes")
    groups = dist.PrefixStore("groups", store)
    dist.init_process_group(
        "gloo", store=groups, rank=where.rank, world_size=where.world_size, timeout=PATIENCE
    )


def stop_where_launcher_ends() -> None:
    """SIGTERM comes to this process where torchrun ends before it, on Linux.

    torchrun hands on some signals alone: another, as the SIGUSR1 of schedulers, ends it and would
    leave the processes to themselves.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    request = getattr(ctypes.CDLL(None), "prctl", None)
    if request:
        request(SIGNAL_OF_PARENT, signal.SIGTERM)


def _meeting_place(where: Place) -> "Store":
    """Where the processes find each other: a store of torchrun's, or else of the first of them."""
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_host = where.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not is_host:
        _await(lambda: _listens(address, port), f"the first process at {address}:{port}")
    try:
        return dist.TCPStore(
            address, port, is_master=is_host, wait_for_workers=False, timeout=PATIENCE
        )
    except RuntimeError as error:  # a port that is taken, of a machine that is not this one
        raise UserError(
            f"MASTER_ADDR={address} MASTER_PORT={port}: the processes cannot meet there "
            f"({reason(error)})."
        ) from error


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _all_are_here() -> bool:
    return _Group.store is None or _Group.store.add("here", 0) >= _Group.place.world_size


def _await(is_so: Callable[[], bool], whom: str) -> None:
    """In Python, because torch's own waiting does not hear a signal.

    Raises UserError where it takes too long.
    """
    started, is_told = time.monotonic(), False
    while not is_so():
        waited = time.monotonic() - started
        if waited > MET_WITHIN:
            raise UserError(f"{whom} did not start within {MET_WITHIN / 60:.0f} minutes.")
        if waited > SILENT_FOR and not is_told:
            LOG.info("Waiting for %s.", whom)
            is_told = True
        time.sleep(LOOKS)


def join_on_gpus(device: "torch.device") -> None:
    """Tensors on a GPU, that of this process, are exchanged from there; nothing for the CPU."""
    if _Group.store is None or device.type != "cuda":
        return
    import torch.distributed as dist

    group = dist.new_group(backend="nccl", timeout=PATIENCE, device_id=device)
    assert isinstance(group, dist.ProcessGroup)  # torch gives a number to those who are not in it
    _Group.on_gpus = group


def group_of_gpus() -> "ProcessGroup | None":
    """What torch's own layers exchange by."""
    return _Group.on_gpus


def leave() -> None:
    """Take leave of the others, at the end of the work."""
    if _Group.store is None:
        return
    import torch.distributed as dist

    dist.destroy_process_group()
    _Group.place, _Group.store, _Group.on_gpus = Place(), None, None
    _Group.is_stopped = False
    cores.share(1)


def joined() -> Place:
    """The place of this process among those that it has met."""
    return _Group.place


def part() -> Part:
    """The share of this process in what all divide; the whole where it computes alone."""
    return Part(_Group.place.rank, _Group.place.world_size) if _are_several() else WHOLE


def on_machine() -> int:
    """How many processes of the run compute on this machine now, and have its memory together."""
    return _Group.place.local_world_size if _are_several() else 1


def is_main() -> bool:
    """Whether this process writes files, logs and prints."""
    return _Group.place.rank == 0


def _are_several() -> bool:
    return _Group.place.world_size > 1 and not _Group.alone


# What the first process does for all


def from_main(compute: Callable[..., Value], *arguments: Any) -> Value:
    """What the first process computes, handed to all; it has the cores of its machine meanwhile.

    The value is plain, or tensors of the CPU. What is raised ends the first process, and so all.
    """
    if not _are_several():
        return compute(*arguments)
    import torch.distributed as dist

    box: list[Any] = [None]
    if is_main():
        with _alone():
            box = [compute(*arguments)]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def on_main(work: Callable[..., object], *arguments: Any) -> None:
    """Done by the first process alone, for which the others wait."""
    from_main(lambda: work(*arguments) and None)


@contextmanager
def _alone() -> Iterator[None]:
    """Inside, this process has the cores of those that wait for it, and exchanges nothing."""
    import torch

    threads = torch.get_num_threads()
    _Group.alone += 1
    cores.share(1)
    if not _has_chosen_threads():
        torch.set_num_threads(cores.usable())
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cores.share(_Group.place.local_world_size)
        _Group.alone -= 1


def use_own_cores() -> None:
    """The threads of torch are as many as this process has cores, unless somebody chose them."""
    import torch

    threads = torch.get_num_threads()
    if _Group.place.local_world_size > 1 and not _has_chosen_threads():
        threads = cores.usable()
    torch.set_num_threads(min(threads, cores.usable()))


def _has_chosen_threads() -> bool:
    """Whether OMP_NUM_THREADS is a person's: torchrun sets it to 1 where nobody else does."""
    if os.environ.get("OMP_NUM_THREADS") != "1" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return "OMP_NUM_THREADS" in os.environ
    try:
        with open(STARTED_WITH.format(os.getppid()), "rb") as file:
            return b"OMP_NUM_THREADS=" in file.read()
    except OSError:
        return False


# Tensors


def gathered(rows: "torch.Tensor", total: int) -> "torch.Tensor":
    """The rows [b, ...] of each process as one [total, ...], in the order of `Part.rows`.

    The process's own rows keep their graph, and those of others are constants: where each process
    goes back through the same loss of all rows, the gradients of its rows are whole, and those of
    weights behind the rows are to be summed over the processes.
    """
    if not _are_several():
        return rows
    import torch
    import torch.distributed as dist

    parts = [Part(rank, _Group.place.world_size) for rank in range(_Group.place.world_size)]
    sizes = [part.size(total) for part in parts]
    sent = rows.new_zeros(max(sizes), *rows.shape[1:])  # of one size, which all backends ask for
    sent[: len(rows)] = rows.detach()
    received = [torch.empty_like(sent) for _ in parts]
    dist.all_gather(received, sent, group=_group_of(sent))
    chunks = [chunk[:size] for chunk, size in zip(received, sizes)]
    chunks[_Group.place.rank] = rows
    return torch.cat(chunks)


def add_up(summed: Sequence["torch.Tensor"], of_main: Sequence["torch.Tensor"] = ()) -> None:
    """Put the sums over all processes in the place of tensors.

    Args:
        of_main: in whose place come those of the first process. They are the same everywhere but
            for the order in which a GPU adds, and stay the same so.
    """
    if not _are_several():
        return
    import torch.distributed as dist

    if not is_main():
        for tensor in of_main:
            tensor.zero_()
    sent = [(parts, _flat(parts)) for parts in _in_messages([*summed, *of_main])]
    works = [dist.all_reduce(flat, group=_group_of(flat), async_op=True) for _, flat in sent]
    for (parts, flat), work in zip(sent, works):
        work.wait()
        _spread(flat, parts)


def largest(numbers: Sequence[int]) -> list[int]:
    """Of each of some numbers the largest of all processes."""
    if not _are_several():
        return list(numbers)
    import torch
    import torch.distributed as dist

    values = torch.tensor(numbers)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return values.tolist()


def require_same(things: dict[str, object], advice: str) -> None:
    """Raises UserError, naming those of some things that are not the same for all processes."""
    if not _are_several():
        return
    of_main = from_main(lambda: {name: repr(thing) for name, thing in things.items()})
    differing = [name for name, thing in things.items() if of_main[name] != repr(thing)]
    if differing:
        raise UserError(
            f"process {_Group.place.rank} has not the same {' and '.join(differing)} as the first; "
            f"{advice}."
        )


def _group_of(tensor: "torch.Tensor") -> "ProcessGroup | None":
    """What exchanges a tensor; None is the group of the CPU."""
    return _Group.on_gpus if tensor.is_cuda else None


def _in_messages(tensors: Sequence["torch.Tensor"]) -> list[list["torch.Tensor"]]:
    """Tensors of one type and device that follow each other, as many as one message carries."""
    messages: list[list[torch.Tensor]] = []
    room = 0
    for tensor in tensors:
        last = messages[-1][0] if messages else None
        fits = last is not None and (last.dtype, last.device) == (tensor.dtype, tensor.device)
        if not fits or tensor.numel() > room:
            messages.append([])
            room = NUMBERS_AT_ONCE
        messages[-1].append(tensor)
        room -= tensor.numel()
    return messages


def _flat(tensors: list["torch.Tensor"]) -> "torch.Tensor":
    import torch

    return tensors[0].view(-1) if _is_one(tensors) else torch.cat([t.reshape(-1) for t in tensors])


def _spread(flat: "torch.Tensor", tensors: list["torch.Tensor"]) -> None:
    """Put what `_flat` gave back into the tensors."""
    if _is_one(tensors):
        return
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(values.view_as(tensor))


def _is_one(tensors: list["torch.Tensor"]) -> bool:
    """Whether they are a single tensor that can be sent as it lies."""
    return len(tensors) == 1 and tensors[0].is_contiguous()


# How processes end


@contextmanager
def stopping_together() -> Iterator[Callable[[], None]]:
    """Inside, signals are answered where all processes are at the same step.

    Gives what each calls between two steps: it raises on all of them what a signal to any of them
    asks for. The answer comes a step later, so that nobody waits for the slowest. In one process
    signals are answered at once, as everywhere else.
    """
    if not _are_several():
        yield _nothing
        return
    stops = _Stops()
    with signals.postponed():
        yield stops.agree
        stops.agree()  # on what was asked before the last step
        stops.agree()


def _nothing() -> None:
    pass


class _Stops:
    """What the processes have been asked for, as of the last step."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, torch.Tensor]] = []

    def agree(self) -> None:
        import torch
        import torch.distributed as dist

        for work, number in self.asked:
            work.wait()
            if number:
                _Group.is_stopped = True
                signals.answer(int(number))
        number = torch.tensor(signals.arrived())
        self.asked = [(dist.all_reduce(number, dist.ReduceOp.MAX, async_op=True), number)]


def after_main(work: Callable[[], None]) -> None:
    """Where all processes stop, the first does what is left to do, and the others wait for it.

    They do not wait long, nor for ever: it may be gone. Nobody waits who stops alone, between two
    agreements: the first process may be waiting for this one, in torch, where it hears no signal.
    """
    if is_main():
        try:
            work()
        finally:
            _say("kept")
    elif _Group.is_stopped:
        _await_said("kept", KEPT_WITHIN)


def _say(word: str) -> None:
    if _Group.store is not None:
        with suppress(RuntimeError):  # torch's, where the store has ended
            _Group.store.set(word, "1")


def _await_said(word: str, seconds: float) -> None:
    """In Python, where a second Ctrl-C is heard."""
    until = time.monotonic() + seconds
    with suppress(RuntimeError):  # torch's, where the store has ended
        while _Group.store is not None and time.monotonic() < until:
            if _Group.store.check([word]):
                return
            time.sleep(LOOKS)


def is_first_to_tell(sentence: str, *, of_signal: bool = False) -> bool:
    """Whether this process is the one that says what ended the run.

    The others leave that to the first process, if it says anything.

    Args:
        of_signal: that ended it, which the first process has got as well as a rule.
    """
    if _Group.store is None:
        return speaks_for_machine()
    try:
        if not is_main():
            _await_said("told", MAIN_STOPS_WITHIN if of_signal else MAIN_SPEAKS_WITHIN)
        if _Group.store.add("telling", 1) > 1:
            return False
        _Group.store.set("told", sentence)
    except RuntimeError:  # torch's, where the store has ended
        return is_main()
    return True


def what_was_told() -> str:
    """What another process said when it ended the run; nothing where that is not known."""
    try:
        if _Group.store is None or not _Group.store.check(["told"]):
            return ""
        return _Group.store.get("told").decode()
    except RuntimeError:
        return ""


def of_others(error: BaseException) -> str | None:
    """The beginning of a sentence where another process of the run has ended; None otherwise."""
    if _Group.store is None or not any(word in str(error) for word in LOST):
        return None
    return "another process of this run has ended, killed perhaps because memory ran out"
