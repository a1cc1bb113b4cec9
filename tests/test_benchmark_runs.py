"""language_guidance_benchmark_runs.sh: its rows, what it starts, and what it says at the end."""

import itertools
import os
import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import parameters
from programs.results import published, settings
from programs.sweeping import study

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = "language_guidance_benchmark_runs.sh"
SHOWS = "printf %s\\n --- python"
# Notes its arguments; keeps the file of a sweep; a run leaves results, or fails, or was stopped.
PYTHON = """#!/usr/bin/env bash
echo "$(printf '%q ' "$@")" >>"$NOTES/calls"
[[ $* != *programs.sweep* ]] || cp "$3" "$NOTES/sweep.yaml"
if [[ $1 == main.py ]]; then
    case $3 in *"${STOPS:--}") exit 143 ;; *"${FAILS:--}") exit 2 ;; esac
    mkdir -p "$NOTES/runs/cub200/$3_s$5" && echo '{}' >"$NOTES/runs/cub200/$3_s$5/results.json"
fi
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


def call(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def shown(*words: str, **environment: str) -> list[parameters.Settings]:
    """The settings of each command that would be run."""
    done = call(*words, PYTHON=SHOWS, **environment)
    assert done.returncode == 0, done.stderr
    commands = [command.splitlines() for command in done.stdout.split("---\n")[1:]]
    return [parameters.parse(command[2:]) for command in commands]


@pytest.fixture
def noted(tmp_path) -> Callable[..., tuple[subprocess.CompletedProcess[str], list[list[str]]]]:
    """Run it on a stand-in of Python; with what that was called with."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(stat.S_IRWXU)

    def noted(**environment: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        there = {"PYTHON": str(python), "NOTES": str(tmp_path), "ONLY": "cub200-rn128"}
        done = call("--save_path", f"{tmp_path}/runs", **there, **environment)
        return done, [*map(shlex.split, (tmp_path / "calls").read_text().splitlines())]

    return noted


def test_the_table_has_all_its_rows():
    runs = shown(STUDY="table", SEEDS="0 3")
    kinds = {(one.dataset, one.loss, guidance_of(one), one.seed) for one in runs}
    assert len(runs) == 54 and kinds == set(
        itertools.product(
            ("cub200", "cars196", "online_products"),
            ("multisimilarity", "margin", "s2sd"),
            ("baseline", "elg", "plg"),
            (0, 3),
        )
    )
    for one in runs:
        assert one.group.endswith(f"_{guidance_of(one)}")
        assert one.embed_dim == 128 and one.resume == "auto" and one.completed
        made_of = settings.effective(parameters.stored(one))
        assert "e_recall@1" in published.of(one.dataset, [made_of])
    assert len({one.group for one in runs}) == 27


def guidance_of(one: parameters.Settings) -> str:
    if not one.language_distill_w:
        return "baseline"
    return "plg" if one.language_pseudoclass else "elg"


def test_a_row_of_both_studies_is_the_same_run():
    only = {"ONLY": "rn128_(msim|s2sd-msim)_(plg|baseline)$", "SEEDS": "2"}
    eight = {one.group: vars(one) for one in shown(**only)}
    table = {one.group: vars(one) for one in shown(STUDY="table", **only)}
    assert len(eight) == 8 and eight.items() <= table.items()


def test_rows_without_a_suggested_schedule_keep_their_names():
    runs = shown(STUDY="table", SEEDS="0", SCHEDULE="suggested", ONLY="cars196.*_elg")
    assert {one.group: (one.tau, one.gamma) for one in runs} == {
        "cars196-rn128_msim_suggested_elg": ([102], 0.25),
        "cars196-rn128_margin_elg": ([250], 1),
        "cars196-rn128_s2sd-msim_suggested_elg": ([110], 0.25),
    }


def test_the_old_variables_are_flags():
    (one,) = shown(ONLY="cub200-rn128_msim_plg", gpu="3", datapath="/d", SEEDS="7")
    assert (one.gpu, one.source_path, one.seed) == ([3], "/d", 7)
    (one,) = shown("--source_path", "x y", ONLY="cub200-rn128_msim_plg", datapath="/d")
    assert one.source_path == "x y" and one.seed == 2


@pytest.mark.parametrize(
    "environment, told",
    [
        ({"ONLY": "["}, "ONLY=[ is no regular expression."),
        (
            {"ONLY": "cub300"},
            "ONLY=cub300 matches no row of STUDY=published; there are cub200-rn128",
        ),
        ({"STUDY": "all"}, "STUDY is published or table, not all."),
        ({"SCHEDULE": "best"}, "SCHEDULE is constant or suggested, not best."),
        ({"SEEDS": "a"}, "SEEDS holds whole numbers with spaces between them, not a."),
    ],
)
def test_what_means_nothing_is_told(environment, told):
    done = call(PYTHON=SHOWS, **environment)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(f"{SCRIPT}: error: {told}") and done.stderr.count("\n") == 1


def test_help_is_the_head_of_the_file():
    done = call("--help", PYTHON="false")
    assert done.returncode == 0 and done.stdout.startswith("The runs of the paper")
    assert 'GPUS="0 1"' in done.stdout and "set -e" not in done.stdout and "#" not in done.stdout


def test_it_ends_with_the_comparison_of_what_has_finished(noted, tmp_path):
    """A failure stops no other and is told at the end."""
    done, calls = noted(FAILS="msim_plg")
    assert [words[0] for words in calls] == ["main.py"] * 4 + ["-m"]
    assert calls[-1][:2] == ["-m", "programs.compare"]
    assert [Path(folder).name for folder in calls[-1][2:]] == [
        "cub200-rn128_msim_baseline_s2",
        "cub200-rn128_s2sd-msim_baseline_s2",
    ]
    assert done.returncode == 1 and done.stderr == (
        "2 runs failed: cub200-rn128_msim_plg_s2 cub200-rn128_s2sd-msim_plg_s2.\n"
    )


def test_a_run_that_was_stopped_ends_it(noted):
    done, calls = noted(STOPS="msim_baseline")
    assert done.returncode == 143 and len(calls) == 2
    assert done.stderr == "The same command goes on from here.\n"


@pytest.mark.parametrize("seeds", ["", "0 4"])
def test_several_gpus_take_the_same_rows_as_a_sweep(noted, tmp_path, seeds):
    done, ((module, name, _, *words),) = noted(GPUS="0 1", SEEDS=seeds, gpu="3")
    assert done.returncode == 0 and (module, name) == ("-m", "programs.sweep")
    assert words == ["--gpus", "0", "1", "--", "--save_path", f"{tmp_path}/runs"]
    read = study.read(tmp_path / "sweep.yaml", words[4:])
    runs = {(run.group, run.settings.seed): vars(run.settings) for run in read.runs}
    alone = shown(*words[4:], ONLY="cub200-rn128", SEEDS=seeds)
    assert read.baseline is None and runs == {
        (one.group, one.seed): vars(one) | {"completed": False, "resume": None} for one in alone
    }
