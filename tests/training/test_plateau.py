"""The plateau schedule: when the rates fall, by what is measured, and how it goes on."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from training import schedules
from training.schedules import Course, PlainSchedule, Plateau

COURSE = Course(20, gamma=0.5, floor=0.2, patience=1)


def made(course: Course = COURSE, rate: float = 1.0) -> Plateau:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": share * rate} for share in (1, 0.1)]
    schedule = schedules.select("plateau", torch.optim.SGD(groups), course)
    assert isinstance(schedule, Plateau)
    return schedule


def rates(schedule: Plateau) -> list[float]:
    return [group["lr"] for group in schedule.optimizer.param_groups]


def go(schedule: Plateau, losses: list[float]) -> list[float]:
    """The first rate after each epoch with these losses."""
    found = []
    for loss in losses:
        schedule.step()
        schedule.hear({"loss": loss}, None)
        found.append(rates(schedule)[0])
    return found


def test_rates_fall_after_more_epochs_without_a_better_loss_than_are_borne():
    schedule = made()
    found = go(schedule, [3, 2, 2, 1.9, 2, 2, 2, 2, 2, 2, 2, 2])
    assert found == [1, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    assert rates(schedule) == pytest.approx([0.2, 0.02])


@pytest.mark.parametrize(
    "name, values", [("e_recall@1", [0.3, 0.2, 0.1]), ("dists@intra", [1, 2, 3])]
)
def test_a_metric_of_the_validation_part_counts_where_one_is_watched(name, values):
    schedule = made(COURSE._replace(watched=name))
    for loss, value in zip((3, 2, 1), values):
        schedule.hear({"loss": loss}, None)  # an epoch that is not evaluated does not count
        schedule.hear(
            {"loss": loss}, {"others": {"x": -loss}, "embeds": {"nmi": loss, name: value}}
        )
    assert rates(schedule)[0] == 0.5


@pytest.mark.parametrize("done", range(9))
def test_it_goes_on_as_it_would_have(done):
    losses = [3, 2, 2, 1.9, 2, 2, 2, 2, 1]
    whole, stored, restored = made(), made(), made()
    expected = go(whole, losses)
    go(stored, losses[:done])
    PlainSchedule(restored).load_state_dict(deepcopy(PlainSchedule(stored).state_dict()))
    assert rates(restored) == rates(stored)
    assert go(restored, losses[done:]) == expected[done:]
    assert restored.state_dict() == whole.state_dict()


def test_the_best_of_another_metric_is_none_of_this_one():
    """A recall of 0.9 is beyond any NMI, and the rates would fall whatever is learned."""
    stored, restored = (made(COURSE._replace(watched=name)) for name in ("e_recall@1", "nmi"))
    stored.hear({}, {"embeds": {"e_recall@1": 0.9}})
    PlainSchedule(restored).load_state_dict(PlainSchedule(stored).state_dict())
    for value in (0.3, 0.4, 0.5):
        restored.hear({}, {"embeds": {"nmi": value}})
    assert rates(restored)[0] == 1
    restored.hear({}, {"embeds": {"nmi": 0.5}})
    restored.hear({}, {"embeds": {"nmi": 0.5}})
    assert rates(restored)[0] == 0.5


def test_other_settings_count_from_the_beginning():
    stored, restored = made(), made(COURSE._replace(gamma=0.9, floor=0.0), rate=2.0)
    go(stored, [1, 2, 2, 2, 2])
    PlainSchedule(restored).load_state_dict(stored.state_dict())
    assert rates(restored) == pytest.approx([2 * 0.81, 0.2 * 0.81])


def test_other_schedules_and_this_one_take_over_from_each_other():
    schedule, optimizer = made(), torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    go(schedule, [1, 2, 2, 2])
    steps = schedules.select("step", optimizer, Course(9, tau=[3], gamma=0.1))
    PlainSchedule(steps).load_state_dict(PlainSchedule(schedule).state_dict())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    fresh = made()
    PlainSchedule(fresh).load_state_dict(PlainSchedule(steps).state_dict())
    assert fresh.epochs == 4 and rates(fresh) == [1.0, 0.1]
