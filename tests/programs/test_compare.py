"""python -m programs.compare: what it prints and writes, and how it ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_runs import R1, make_run, unfinished

from programs import compare, constants
from programs.results import comparison, tables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runs(tmp_path) -> Path:
    for seed in (1, 2, 10):
        make_run(tmp_path / "runs", "base", seed, {R1: [0.4, 0.5 + seed / 100]})
        make_run(tmp_path / "runs", "other", seed, {R1: [0.5, 0.6]}, lr=0.1)
    unfinished(make_run(tmp_path / "runs", "other", 3))
    return tmp_path / "runs"


def test_the_table_goes_to_standard_output(runs, capsys):
    assert compare.main([str(runs), "--baseline", "base"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("shapes, Test\n\ne_recall@1 (%)  n") and not said.err
    assert "not finished" in " ".join(said.out.split()) and "other: --lr 0.1" in said.out


def test_folders_and_runs_are_taken_together(runs, capsys):
    places = [runs / "shapes" / "base_s1", runs / "shapes" / "base_s10", runs / "shapes"]
    assert compare.main([*map(str, places), "--format", "json"]) == 0
    said = capsys.readouterr()
    groups = json.loads(said.out)["groups"]
    assert [list(group["runs"]) for group in groups] == [["1", "2", "10"], ["1", "2", "10"]]
    assert "other_s3: not finished" in said.err


@pytest.mark.parametrize(
    "name, begins",
    [
        ("a.md", "### shapes, Test"),
        ("a.tex", "% Needs"),
        ("a.csv", "dataset,group,"),
        ("a.json", "{"),
        ("a.txt", "shapes, Test"),
    ],
)
def test_the_ending_of_the_file_says_the_form(runs, tmp_path, capsys, name, begins):
    argv = [str(runs), "--to", str(tmp_path / name)]
    assert compare.main(argv) == 0
    said = capsys.readouterr()
    assert (tmp_path / name).read_text().startswith(begins) and not said.out
    assert f"Written: {tmp_path / name}" in said.err and "not finished" in said.err
    assert compare.main(argv) == 0
    assert f"Replaced: {tmp_path / name}" in capsys.readouterr().err


def test_a_format_is_stronger_than_the_ending(runs, tmp_path):
    assert compare.main([str(runs), "--to", str(tmp_path / "a"), "--format", "csv"]) == 0
    assert (tmp_path / "a").read_text().startswith("dataset,group,")


def test_the_table_of_seeds(runs, capsys):
    """Values of each seed, mean and deviation of the best, mean of the last, in Markdown."""
    argv = [str(runs), "--format", "markdown", "--seeds_shown", "--metrics", "e_recall@1"]
    assert compare.main(argv) == 0
    lines = capsys.readouterr().out.split("\n")
    assert "| group | metric | n | seed 1 | seed 2 | seed 10 | best | last | settings |" in lines
    numbers = "3 | 51.0 | 52.0 | 60.0 | 54.3 ± 4.9 | 54.3 ± 4.9"
    assert any(line.startswith(rf"| base | e\_recall@1 (%) | {numbers}") for line in lines)


def test_curves_are_drawn_beside(runs, tmp_path, capsys):
    assert compare.main([str(runs), "--curves", str(tmp_path / "a.svg")]) == 0
    said = capsys.readouterr()
    assert (tmp_path / "a.svg").stat().st_size > 1000 and "e_recall@1" in said.out
    assert said.err == f"Written: {tmp_path / 'a.svg'}\n"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["NOWHERE"], "NOWHERE: there is no such folder."),
        (["RUNS", "--baseline", "bas"], "There is no group bas with finished runs (did you mean"),
        (["RUNS", "--metrics", "nmi"], "No run has the metric nmi of the split Test"),
        (["RUNS", "--split", "Val"], "No run has any metric of the split Val"),
        (["RUNS", "--value", "at_best_val"], "No run has the value at_best_val"),
        (["~no_such_user/x"], "there is no user 'no_such_user'"),
    ],
)
def test_what_is_wrong_with_runs_is_one_sentence(runs, capsys, flags, message):
    argv = [str(runs) if flag == "RUNS" else flag for flag in flags]
    assert compare.main(argv) == 2
    said = capsys.readouterr()
    assert said.err.startswith("python -m programs.compare: error: ") and message in said.err
    assert said.err.count("\n") == 1 and not said.out


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "required: RUN|FOLDER"),
        (["x", "--split", "test"], "--split: invalid choice: 'test'"),
        (["x", "--to", "table"], "table must end in .txt, .md, .tex, .csv, .json, or give"),
        (["x", "--to", "no/where.md"], "no/where.md: there is no folder no"),
        (["x", "--to", "."], ".: it is a folder"),
        (["x", "--curves", "a.gif"], "a.gif must end in .pdf, .svg, .png"),
    ],
)
def test_wrong_flags_are_one_sentence(capsys, flags, message):
    with pytest.raises(SystemExit) as ended:
        compare.main(flags)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and message in said and said.count("\n") == 1


def test_ctrl_c_is_130(runs, monkeypatch):
    def interrupted(*ignored, **others):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "compare", interrupted)
    assert compare.main([str(runs)]) == 130


def test_names_repeated_for_help_are_those_of_the_work():
    assert tuple(comparison.VALUES) == constants.VALUES
    assert {*tables.FOR_PEOPLE, *tables.FOR_PROGRAMS} == set(constants.COMPARISON_FILES.values())


def test_hundreds_of_runs_are_compared_without_torch_in_little_time(tmp_path):
    """200 in about a second of computing on any machine; the bound leaves room for a busy one."""
    for number in range(200):
        make_run(tmp_path, f"group{number % 20}", number // 20, {R1: [0.5, 0.5 + number / 1000]})
    code = (
        "import sys, time; from programs import compare\n"
        f"assert compare.main([{str(tmp_path)!r}, '--baseline', 'group0']) == 0\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules\n"
        "print(time.process_time(), file=sys.stderr)"
    )
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    print(f"{time.monotonic() - began:.1f} s, {ended.stderr.strip()} s of computing")
    assert ended.returncode == 0 and float(ended.stderr) < 6
    assert "group19" in ended.stdout


def test_records_of_other_programs_end_in_no_traceback(tmp_path, capsys):
    folder = make_run(
        tmp_path, "base", 0, facts={"epochs": "ten", "data": {"Test": {"images": ""}}}
    )
    text = (folder / "results.json").read_text()
    assert compare.main([str(tmp_path)]) == 0
    (folder / "results.json").write_text(text.replace("0.5", "1" + "0" * 400))
    assert compare.main([str(tmp_path)]) == 2
    (folder / "results.json").write_text(text[:100])
    (folder / "args.yaml").unlink()
    assert compare.main([str(tmp_path)]) == 2
    assert "results.json holds no results, and there is no args.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["x" * 300, ""])
def test_a_place_that_cannot_be_looked_at_is_a_sentence(place, capsys):
    assert compare.main([place]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_takes_the_place_of_a_pipe_or_of_a_link(runs, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(SystemExit):
        compare.main([str(runs), "--to", str(tmp_path / "pipe.md")])
    assert "it is a pipe or a device, not a file" in capsys.readouterr().err
    (tmp_path / "link.md").symlink_to(tmp_path / "table.md")
    assert compare.main([str(runs), "--to", str(tmp_path / "link.md")]) == 0
    assert (tmp_path / "link.md").is_symlink() and (tmp_path / "table.md").is_file()
