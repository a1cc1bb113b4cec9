"""Paths that lead nowhere: what is there instead."""

import os

import pytest

from utilities import paths, run_folder


@pytest.mark.parametrize(
    "path, wanted, sentence",
    [
        ("runs", "file", "it is a folder, not a file."),
        ("a.csv", "folder", "it is a file, not a folder."),
        ("other", "file", "there is no such file."),
        ("a.cvs", "file", "there is no such file; did you mean a.csv?"),
        ("run", "file", "there is no such file."),
        ("run", "folder", "there is no such folder; did you mean runs?"),
        ("Vögl.csv", "file", "there is no such file; did you mean Vögel.csv?"),
        ("link", "file", "it is a link that leads nowhere."),
        ("pipe", "file", "it is a pipe or a device, not a file."),
        ("runs/x", "image", "there is no such image."),
        ("no/where/x", "file", "there is no such file; the path leads no further than {here}."),
        ("a.csv/x", "file", "there is no such file; the path leads no further than {here}/a.csv."),
    ],
)
def test_what_is_wrong_with_a_path(tmp_path, path, wanted, sentence):
    (tmp_path / "runs").mkdir()
    (tmp_path / "a.csv").touch()
    (tmp_path / "Vögel.csv").touch()
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert paths.absent(tmp_path / path, wanted) == sentence.format(here=tmp_path)


def test_a_folder_that_is_of_no_run_names_those_below(tmp_path):
    run = tmp_path / "runs" / "birds" / "a_s0"
    run.mkdir(parents=True)
    no_run = "the folder is of no run: there is no checkpoint_last.pth.tar in it."
    assert run_folder.absent_checkpoint(run.parents[1]) == no_run
    (run / run_folder.LAST_CHECKPOINT).touch()
    has_one = f"the folder is of no run, but has {run}."
    assert run_folder.absent_checkpoint(run.parents[1]) == has_one
    assert run_folder.absent_checkpoint(run.parent) == has_one
    sentence = "there is no such checkpoint (a file or a run folder, or auto); did you mean runs?"
    assert run_folder.absent_checkpoint(tmp_path / "run", "or auto") == sentence
    (run / run_folder.LAST_CHECKPOINT).rename(run / run_folder.SETTINGS)
    assert "no checkpoint yet" in run_folder.absent_checkpoint(run)
