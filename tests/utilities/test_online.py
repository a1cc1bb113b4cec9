"""Where what a run logs comes to stand at W&B."""

from typing import Any

import pytest

from utilities.online import Labels, OnlineRun

LABELS = Labels("project", "group", "name", "train")


class Run:
    """What W&B is asked for of a run that goes on at its step `starting_step`."""

    disabled, id = False, "abc"

    def __init__(self, starting_step: int):
        self.starting_step = starting_step
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.summary: dict[str, float] = {}

    def log(self, values: dict[str, Any], step: int | None) -> None:
        self.rows.append((step, values))


def online_run(starting_step: int = 0, *, is_new: bool = False, by_steps: bool = True) -> Any:
    online: Any = object.__new__(OnlineRun)
    online.run, online.is_new, online.by_steps = Run(starting_step), is_new, by_steps
    online.place = online.shift = 0 if is_new else None
    return online


def steps(online: Any) -> list[int | None]:
    return [step for step, _ in online.run.rows]


def test_a_new_run_counts_epochs_or_steps_of_training():
    for by_steps, expected in ((False, [1, 2]), (True, [8, 16])):
        online = online_run(is_new=True, by_steps=by_steps)
        for epoch in (1, 2):
            online.log(epoch, 8 * epoch, {"Train": {"loss": {"loss": 1.0}}})
        assert steps(online) == expected
        assert online.run.rows[0][1] == {"Train: loss": 1.0}


@pytest.mark.parametrize(
    "starting_step, known, by_steps, expected",
    [
        (0, None, True, [24, 32]),  # offline, where W&B cannot say what it has
        (17, 2, True, [24, 32]),  # its last row is the end of the second epoch
        (22, 2, True, [24, 32]),  # of the third, it has steps that are made again
        (25, 3, True, [24, 32]),  # or all of it
        (25, 2, True, [25, 33]),  # or all of its steps: it was left while it was evaluated
        (25, None, True, [25, 33]),
        (3, 2, False, [3, 4]),
        (4, 3, False, [3, 4]),
        (17, 2, False, [17, 18]),  # two epochs were counted in steps, which are not logged any more
        (200, 2, True, [200, 208]),  # epochs had more steps, with smaller batches
    ],
)
def test_a_run_that_goes_on_is_behind_what_is_there(starting_step, known, by_steps, expected):
    online = online_run(starting_step, by_steps=by_steps)
    if known:
        online.run.summary["Train: epochs"] = known
    for epoch in (3, 4):
        online.log(epoch, 8 * epoch, {})
    assert steps(online) == expected


def test_losses_of_steps_and_media_find_their_place():
    online = online_run(200)
    online.log_figures(2, {})
    online.log_steps(20, {"loss": 1.0})
    online.log(3, 24, {})
    online.log_steps(28, {"loss": 2.0})
    online.log_figures(3, {})
    assert steps(online) == [None, 20, 200, 204, 200]  # None: behind all that is there
    assert online.run.rows[3][1] == {"step": 28, "Steps/loss": 2.0}
    assert online.run.rows[4][1] == {"Train: epochs": 3}


def test_the_agent_of_a_sweep_says_which_run_this_is(monkeypatch):
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    monkeypatch.setenv("WANDB_JOB_TYPE", "ablation")
    given = LABELS.of_init("abc")
    assert (given["project"], given["id"], given["tags"]) == ("project", "abc", None)
    assert given["job_type"] == "ablation"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.delenv("WANDB_JOB_TYPE")
    given = LABELS.of_init("abc")
    assert given["project"] is given["entity"] is given["id"] is None
    assert (given["group"], given["job_type"]) == ("group", "train")


def test_the_summary_has_three_values_and_a_disabled_run_no_id():
    online = online_run()
    metric = {"best": 0.5, "best_epoch": 1, "at_best_val": 0.4, "last": 0.3, "last_epoch": 2}
    online.summarise(2, {"Test": {"embeds_nmi: nmi": metric}})
    assert online.run.summary == {
        "Test: embeds_nmi: nmi (best)": 0.5,
        "Test: embeds_nmi: nmi (at_best_val)": 0.4,
        "Test: embeds_nmi: nmi (last)": 0.3,
    }
    assert online.run_id == "abc"
    online.run.disabled = True
    assert online.run_id is None
