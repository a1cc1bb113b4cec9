"""What processes say to each other; who they are by the environment."""

import os
import signal
import sys
import time

import exchanges
import pytest
import torch
from forked import CONTEXT
from group import Group, environment, free_port

from programs import command_line
from utilities import processes
from utilities.errors import UserError
from utilities.processes import Part, Place
from utilities.runtime import Runtime

SIZE = 3


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict]:
    """Of each process."""
    folder = tmp_path_factory.mktemp("found")
    group = Group(SIZE, folder, exchanges.exchange, folder)
    assert not any(group.statuses()), group.errors()
    return [torch.load(folder / f"{rank}.pt") for rank in range(SIZE)]


def test_rows_come_in_order_and_take_their_own_gradient(found):
    whole = exchanges.ROWS.clone().requires_grad_()
    exchanges.loss(whole).backward()
    for rank, each in enumerate(found):
        assert torch.equal(each["rows"], exchanges.ROWS)
        assert torch.equal(each["half"], exchanges.ROWS.bfloat16())
        assert torch.equal(each["gradient"], whole.grad[Part(rank, SIZE).rows(7)])


def test_sums_are_of_all_and_what_is_alike_is_that_of_the_first(found):
    for each in found:
        double, strided, whole, empty = each["summed"]
        assert (double == 6).all() and (strided == 6).all() and strided.shape == (4, 2)
        assert whole == 3 and empty.numel() == 0
        single, wide = each["of_main"]
        assert torch.equal(single, torch.full((5,), 1 / 3))
        assert torch.equal(wide, torch.full((2,), 1 / 3, dtype=torch.float64))
        assert each["largest"] == [2, 1]


def test_the_first_computes_for_all(found):
    for rank, each in enumerate(found):
        number, tensor = each["computed"]
        assert number == 5 and torch.equal(tensor, torch.zeros(2))
        assert each["done"] == ([0] if rank == 0 else [])


def test_what_differs_is_named(found):
    assert [each["differs"] for each in found] == [
        "",
        "process 1 has not the same rank as the first; look at them.",
        "process 2 has not the same rank as the first; look at them.",
    ]


def test_a_network_draws_for_itself_and_a_miner_for_all(found):
    owns = [each["own"].tolist() for each in found]
    assert len({tuple(own) for own in owns}) == SIZE
    torch.manual_seed(4)
    expected = torch.rand(3)
    assert all(torch.equal(each["common"], expected) for each in found)


def test_passes_over_a_split_give_all_rows_to_all(found):
    expected = exchanges.passes(Runtime())
    for each in found:
        for name, rows in expected.items():
            assert torch.equal(each[name], rows) and rows.any()


def test_queries_are_divided_and_every_process_has_all_values(found):
    expected = exchanges.searches(Runtime())
    asked = []
    for each in found:
        assert each["memory"] == expected["memory"] // SIZE
        for name in ("of all", "of two", "of main"):
            assert each[name] == expected[name] and set(each[name]) == set(exchanges.MEASURED)
        assert 13 <= len(each["mine"]) <= 14 and each["on machine"] == (SIZE, 1)
        asked += each["mine"]
    assert asked == expected["mine"] == list(range(40)) and expected["on machine"] == (1, 1)


def test_who_has_left_is_alone(found):
    assert {each["left"] for each in found} == {tuple(Place())}


@pytest.mark.parametrize("of", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("total", [0, 1, 7, 24])
def test_parts_are_in_order_whole_and_alike(of, total):
    parts = [list(range(total))[Part(number, of).rows(total)] for number in range(of)]
    assert [row for part in parts for row in part] == list(range(total))
    sizes = [Part(number, of).size(total) for number in range(of)]
    assert sizes == [len(part) for part in parts] and max(sizes) - min(sizes) <= 1


@pytest.fixture
def second(monkeypatch) -> None:
    """The environment of the second of two processes."""
    for name, value in environment(1, 2, 1).items():
        monkeypatch.setenv(name, value)


def test_the_environment_says_who_this_is(second, monkeypatch):
    assert processes.place() == Place(1, 2, 1, 2)
    assert processes.is_other() and not processes.speaks_for_machine()
    assert processes.starter() == ["torchrun", "--nproc_per_node", "2"]
    monkeypatch.setenv("GROUP_WORLD_SIZE", "3")
    assert processes.starter() == ["torchrun", "--nnodes", "3", "--nproc_per_node", "2"]
    with pytest.raises(UserError, match="start it without torchrun"):
        processes.require_alone("prepare")


@pytest.mark.parametrize(
    "name, value, problem",
    [
        ("RANK", "2", "RANK=2, which is not among 2"),
        ("LOCAL_RANK", "5", "LOCAL_RANK=5, which is not among 2"),
        ("WORLD_SIZE", "0", "RANK=1, which is not among 0"),
        ("MASTER_PORT", "x", "a port that are no numbers"),
        ("MASTER_PORT", "70000", "MASTER_PORT=70000"),
        ("RANK", "", "ranks"),
    ],
)
def test_an_environment_that_names_no_place_is_told(second, monkeypatch, name, value, problem):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=problem):
        processes.place()


def test_wrong_flags_of_a_program_are_told_by_the_first(second, monkeypatch, capsys):
    for rank, told in (("1", 0), ("0", 1)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(SystemExit) as ended:
            command_line.build_parser("compare", "").parse_args(["--no"])
        assert ended.value.code == 2 and len(capsys.readouterr().err.splitlines()) == told


def test_a_first_process_that_does_not_come_is_told(second, monkeypatch, caplog):
    """Nobody listens at the port; waiting in torch would not hear a signal."""
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.setattr(processes, "MET_WITHIN", 0.1)
    monkeypatch.setattr(processes, "SILENT_FOR", 0)
    with caplog.at_level("INFO"), pytest.raises(UserError, match="did not start within"):
        processes.join(processes.place())
    assert len(caplog.messages) == 1 and "Waiting for the first process" in caplog.messages[0]


def test_the_first_makes_the_meeting_place_where_torchrun_has_none(second, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    first = processes._meeting_place(Place(0, 2, 0, 2))
    first.set("said", "something")
    assert processes._meeting_place(Place(1, 2, 1, 2)).get("said") == b"something"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's end")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL])
def test_a_launcher_that_ends_at_once_leaves_no_process_behind(tmp_path, number):
    told = tmp_path / "told"
    launcher = CONTEXT.Process(target=exchanges.launch_and_end, args=(told, number))
    launcher.start()
    launcher.join(60)
    deadline = time.monotonic() + 60
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert launcher.exitcode == -number and told.read_text() == "SIGTERM"


@pytest.mark.parametrize("said, level", [(None, "ERROR"), ("INFO", "INFO")])
def test_traces_of_torch_are_left_out_where_nobody_asks_for_them(second, monkeypatch, said, level):
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", said or "")
    if not said:
        monkeypatch.delenv("TORCH_CPP_LOG_LEVEL")
    processes.leave_out_traces_of_torch()
    assert os.environ["TORCH_CPP_LOG_LEVEL"] == level


def test_traces_of_torch_in_one_process_are_its_own(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "")
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL")
    processes.leave_out_traces_of_torch()
    assert "TORCH_CPP_LOG_LEVEL" not in os.environ


def test_one_process_is_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")  # of torchrun --nproc_per_node 1
    assert processes.place() == Place() and not processes.is_other()
    assert processes.starter() == ["python"] and processes.is_first_to_tell("a sentence")
    assert processes.of_others(RuntimeError("Connection closed by peer")) is None


@pytest.mark.parametrize(
    "said, torchruns, chosen", [("1", True, False), ("1", False, True), ("2", True, True)]
)
def test_threads_that_torchrun_chose_are_nobodys(monkeypatch, said, torchruns, chosen):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(processes, "STARTED_WITH", "/proc/none/environ/{}")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if torchruns:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert processes._has_chosen_threads() == chosen
