"""Resuming as people ask for it: what goes on, where it is written, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import main
from programs import compare
from programs.results import runs
from training import Learner
from utilities import environment
from utilities.processes import VARIABLES
from utilities.run_folder import LAST_CHECKPOINT, RESULTS

TINY = """
    --dataset birds --arch test_resnet_normalize --not_pretrained --image_size 32 --embed_dim 8
    --loss margin --bs 8 --lr 1e-3 --kernels 0 --device cpu --n_epochs 1 --no_figures
    --no_train_metrics --evaluation_metrics e_recall@1 --group g
"""


ALL_BUT_NUMBERS = dict.fromkeys(VARIABLES, "0") | {"LOCAL_WORLD_SIZE": "two"}


@pytest.fixture
def call(photos, tmp_path):
    """Call main with the tiny settings, which name the run `g_s0`; returns its exit status."""

    def run(*argv: str) -> int:
        places = ["--source_path", str(photos), "--save_path", str(tmp_path / "runs")]
        return main.main([*TINY.split(), *places, *argv])

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of the run with the tiny settings."""
    return tmp_path / "runs" / "birds" / "g_s0"


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the ends of lines, which are where the width puts them."""
    return " ".join(capsys.readouterr().out.split())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def losses(folder: Path) -> list[str]:
    return (folder / "CSV_Logs" / "Data_Train_loss.csv").read_text().splitlines()[1:]


def test_a_file_of_texts_that_has_changed_is_told(call, photos, tmp_path, capsys):
    file = tmp_path / "texts.json"
    names = sorted(path.name for path in (photos / "birds" / "images").iterdir())
    file.write_text(json.dumps({name: f"bird {number}" for number, name in enumerate(names)}))
    vectors = tmp_path / "words.vec"
    vectors.write_text("bird 1 0 0\nsea 0 1 0\n0 0 0 1\n1 1 0 1\n2 1 1 0\n3 2 0 1\n")
    texts = ["--class_text", str(file), "--language_model", f"vectors:{vectors}"]
    guided = [*texts, "--language_distill_w", "1", "--cache_path", str(tmp_path / "cache")]
    assert call(*guided) == call(*guided, "--n_epochs", "2", "--resume", "auto") == 0
    assert "was guided by" not in printed(capsys)
    file.write_text(file.read_text().replace('"bird', '"sea'))
    assert call(*guided, "--n_epochs", "3", "--resume", "auto") == 0
    assert "was guided by other class texts until now" in printed(capsys)
    vectors.write_text(vectors.read_text().replace("sea 0", "sea 1"))
    assert call(*guided, "--n_epochs", "4", "--resume", "auto") == 0
    assert "was guided by other word vectors until now" in printed(capsys)


def test_an_evaluation_tells_that_its_texts_are_not_those_that_guided(
    call, folder, photos, tmp_path, capsys
):
    file, vectors = tmp_path / "texts.json", tmp_path / "words.vec"
    names = sorted(path.name for path in (photos / "birds" / "images").iterdir())
    file.write_text(json.dumps({name: f"bird {number}" for number, name in enumerate(names)}))
    vectors.write_text("bird 1 0 0\nsea 0 1 0\n0 0 0 1\n1 1 0 1\n2 1 1 0\n3 2 0 1\n")
    texts = ["--class_text", str(file), "--language_model", f"vectors:{vectors}"]
    cache = ["--cache_path", str(tmp_path / "cache")]
    assert call(*texts, *cache, "--language_distill_w", "1") == 0

    def told(*further: str) -> str:
        assert main.main(["--evaluate_only", str(folder), "--no_figures", *further]) == 0
        return printed(capsys)

    by_texts = ["--evaluation_metrics", "e_recall@1", "semantic_consistency"]
    assert "was guided by" not in told(*by_texts)
    file.write_text(file.read_text().replace('"bird', '"sea'))
    assert "was guided by other class texts than metrics are measured with" in told(*by_texts)
    assert "was guided by" not in told(*by_texts, "--class_text", str(file))  # asked for
    vectors.unlink()
    assert "was guided by" not in told("--evaluation_metrics", "e_recall@1")  # reads no text


def test_an_evaluation_goes_where_texts_and_classes_of_the_training_are_not(
    call, folder, photos, tmp_path, capsys
):
    """Nothing but figures would read them; of other data they say nothing."""
    texts, vectors = tmp_path / "texts.json", tmp_path / "words.vec"
    names = sorted(path.name for path in (photos / "birds" / "images").iterdir())
    texts.write_text(json.dumps(dict.fromkeys(names, "bird")))
    vectors.write_text("bird 1 0 0\nsea 0 1 0\n")
    guided = ["--class_text", str(texts), "--language_model", f"vectors:{vectors}"]
    assert call(*guided, "--cache_path", str(tmp_path / "cache"), "--language_distill_w", "1") == 0
    measured = runs.read(folder).values()["embeds_e_recall: e_recall@1"].last

    others = tmp_path / "others"
    for number, name in enumerate(names):
        shutil.copytree(photos / "birds" / "images" / name, others / f"sea{number}")
    vectors.write_text("".join(f"sea{number} {number} 1 0\n" for number in range(len(names))))
    on_others = ["--dataset", "folder", "--source_path", str(others)]
    assert main.main(["--evaluate_only", str(folder), *on_others]) == 0
    assert f"Of the training, --class_text {texts} is passed over here" in printed(capsys)
    evaluated = tmp_path / "runs" / "folder" / "g_s0_evaluation"
    assert (evaluated / "Figures" / "class_similarity.png").is_file()
    assert runs.read(evaluated).settings["class_text"] is None
    assert main.main(["--evaluate_only", str(folder), *on_others, *guided]) == 2  # asked for

    texts.unlink()
    assert main.main(["--evaluate_only", str(folder)]) == 0
    said = printed(capsys)  # a long path is abridged
    assert "Figures do not compare classes with language: --class_text" in said
    assert ": there is no such file" in said
    evaluated = folder.with_name("g_s0_evaluation")
    assert runs.read(evaluated).values()["embeds_e_recall: e_recall@1"].last == measured


def test_an_evaluation_tells_that_its_classes_have_other_images(
    call, folder, photos, tmp_path, capsys
):
    assert call() == 0
    shutil.copytree(photos, tmp_path / "photos")
    others = sorted((tmp_path / "photos" / "birds" / "images").iterdir())

    def told() -> str:
        place = ["--source_path", str(tmp_path / "photos")]
        assert main.main(["--evaluate_only", str(folder), "--no_figures", *place]) == 0
        return printed(capsys)

    assert "was trained on other images" not in told()
    first, *_ = sorted(others[0].iterdir())
    first.write_bytes(next(others[1].iterdir()).read_bytes() + b" ")
    assert "other images of these classes: other file sizes, other file contents" in told()
    first.unlink()
    assert "other images of these classes: 24 images (here 23)" in told()
    shutil.rmtree(others[0])
    assert "was trained on other images" not in told()  # of other classes


def test_an_evaluation_that_could_not_be_kept_does_not_begin(call, folder, tmp_path, capsys):
    assert call() == 0
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "runs")
    assert main.main(["--evaluate_only", str(folder), "--save_path", place]) == 2
    said = capsys.readouterr().err
    assert f"--save_path {place}: no run folder can be made there" in said


def test_an_evaluation_says_where_its_checkpoint_lies(call, folder, tmp_path, monkeypatch):
    assert call() == 0
    monkeypatch.chdir(folder.parent)
    assert main.main(["--evaluate_only", folder.name, "--no_figures"]) == 0
    assert runs.read(folder.with_name("g_s0_evaluation")).facts["checkpoint"] == str(folder)


def test_other_rates_and_decays_are_used_told_and_recorded(call, folder, capsys):
    assert call() == 0
    rates = ["--lr", "0.004", "--fc_lr", "0.002", "--decay", "0.3", "--criterion_decay", "0.2"]
    schedule = ["--tau", "1", "--gamma", "0.5", "--loss_margin_beta_lr", "0.01"]
    started = ["--loss_margin_beta", "0.7"]
    argv = ["--n_epochs", "2", *rates, *schedule, *started, "--resume", "auto"]
    capsys.readouterr()
    assert call(*argv) == 0
    said = printed(capsys)
    assert f"Resuming {folder / LAST_CHECKPOINT}: 1 of 2 epochs are done." in said
    for line in (
        "trunk lr 0.002, decay 0.3",
        "head lr 0.001, decay 0.3",
        "margin beta lr 0.005, decay 0.2",
        "--loss_margin_beta stays 1.2 (here 0.7)",
    ):
        assert line in said
    state = torch.load(folder / LAST_CHECKPOINT, weights_only=True)
    groups = state["optimizer"]["param_groups"]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (0.002, 0.3),
        (0.001, 0.3),
        (0.005, 0.2),
    ]
    assert state["settings"]["lr"] == 0.004 and state["settings"]["loss_margin_beta"] == 1.2
    assert yaml.safe_load((folder / "args.yaml").read_text()) == state["settings"]


def test_another_program_of_before_stays_in_the_records(call, folder, capsys, monkeypatch):
    def program(revision: str) -> None:
        monkeypatch.setattr(environment, "program", lambda: {"revision": revision, "torch": "2"})

    for epochs, revision in enumerate(("first", "first", "second", "second"), start=1):
        program(revision)
        assert call("--n_epochs", str(epochs), "--resume", "auto") == 0
    times = json.loads((folder / "results.json").read_text())["earlier_settings"]
    assert [time["program"] for time in times][1:] == [{"revision": "first"}, {}]
    assert capsys.readouterr().out.count("checkpoint's revision first (here second).") == 1
    assert compare.main([str(folder)]) == 0
    assert "was trained for 2 epochs by revision first, before" in capsys.readouterr().out


def test_settings_of_before_stay_in_the_records(call, folder, capsys):
    """However often the run goes on: its values are of no single setting."""
    assert call("--lr", "0.004") == 0
    assert call("--n_epochs", "2", "--resume", "auto") == 0
    assert call("--n_epochs", "2", "--resume", "auto", "--lr", "0.003") == 0
    assert "earlier_settings" in json.loads((folder / "results.json").read_text())
    assert call("--n_epochs", "3", "--resume", "auto", "--lr", "0.003") == 0
    times = json.loads((folder / "results.json").read_text())["earlier_settings"]
    assert [(time["epochs"], set(time["settings"])) for time in times] == [
        (1, {"n_epochs", "lr"}),
        (2, {"n_epochs", "lr"}),
    ]
    assert times[0]["settings"]["lr"] == 0.004
    capsys.readouterr()
    assert compare.main([str(folder)]) == 0
    said = printed(capsys)
    assert "birds/g: seed 0 was trained for 1 epochs by --lr 0.004, before it was" in said
    assert "birds/g: seed 0 was trained for 2 epochs by --lr 0.001, before it was" in said


RECIPES = [
    "--optim adamw --scheduler cosine --lr_floor 0.1 --decay_matrices_only",
    "--optim sgd --momentum 0.8 --clip_gradient 0.5 --lr_rise 3 --micro_batch 3",
    "--optim timm:cadamw --scheduler cosine --lr_rise 1 --clip_gradient 2",
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_goes_on_exactly(call, folder, recipe, capsys):
    flags = recipe.split()
    assert call("--n_epochs", "2", *flags) == 0
    said = printed(capsys)
    assert f"optimiser {flags[1]}" in said and "has no effect" not in said
    whole = folder.with_name("whole")
    folder.rename(whole)
    assert call("--n_epochs", "1", *flags) == 0
    assert call("--n_epochs", "2", *flags, "--resume", str(folder)) == 0
    states = [torch.load(each / LAST_CHECKPOINT, weights_only=True) for each in (whole, folder)]
    for part in ("state_dict", "criterion"):
        values = [state[part] for state in states]
        assert values[0].keys() == values[1].keys()
        assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])
    assert losses(whole) == losses(folder)


def test_what_follows_the_steps_may_begin_when_a_run_is_resumed(call, folder):
    """A rise of the rates begins with the first step then, an average with the weights."""
    assert call() == 0
    assert call("--n_epochs", "2", "--lr_rise", "2", "--ema", "0.5", "--resume", str(folder)) == 0
    state = torch.load(folder / LAST_CHECKPOINT, weights_only=True)
    steps = state["optimizer"]["state"][0]["step"] / 2  # of an epoch
    assert state["rise"] == {"done": steps} and state["ema"].keys() == state["state_dict"].keys()


def test_a_run_that_goes_on_without_texts_keeps_none_of_those_before(
    call, photos, folder, tmp_path
):
    names = sorted(path.name for path in (photos / "birds" / "images").iterdir())
    rows = [",".join([name, *["0.5"] * len(names)]) for name in names]
    (tmp_path / "alike.csv").write_text("\n".join([",".join(["", *names]), *rows]))
    guided = ["--language_distill_w", "1", "--language_model", f"matrix:{tmp_path / 'alike.csv'}"]
    assert call(*guided) == 0
    texts, overview = folder / "class_texts.csv", folder / "Language"
    assert texts.is_file() and (overview / "similarities.csv").is_file()
    (overview / "classes_9.png").touch()
    random = ["--language_distill_w", "1", "--language_control", "random", "--resume", str(folder)]
    assert call("--n_epochs", "2", *random) == 0
    assert not texts.exists() and not (overview / "classes_9.png").exists()
    assert (overview / "similarities.csv").is_file()
    (overview / "notes.txt").touch()
    assert call("--n_epochs", "3", "--resume", str(folder)) == 0
    assert [each.name for each in overview.iterdir()] == ["notes.txt"]


def test_what_begins_with_a_step_of_the_run_counts_those_before_it(call, folder):
    """Guidance and a memory that are asked for when the run is resumed, for a step behind it."""
    assert call() == 0
    steps = torch.load(folder / LAST_CHECKPOINT, weights_only=True)["optimizer"]["state"][0]["step"]
    guided = ["--language_distill_w", "1", "--language_control", "random", "--language_delay", "2"]
    memory = ["--xbm_size", "9", "--xbm_start", "2"]
    assert call("--n_epochs", "2", *guided, *memory, "--resume", str(folder)) == 0
    state = torch.load(folder / LAST_CHECKPOINT, weights_only=True)
    assert state["guide"]["_extra_state"] == state["memory"]["steps"] == 2 * steps
    assert state["memory"]["kept"] == 8 * steps


def test_a_checkpoint_of_before_goes_on_without_decay_of_the_objective(call, folder):
    """Its groups have no names and the decay of the network, and it says nothing of its data."""
    assert call() == 0
    state = torch.load(folder / LAST_CHECKPOINT, weights_only=True)
    del state["data"], state["settings"]["criterion_decay"]
    state["settings"]["savename"] = "g_s0"
    for group in state["optimizer"]["param_groups"]:
        del group["name"]
        group["weight_decay"] = 4e-4
    torch.save(state, folder / LAST_CHECKPOINT)
    # Its tables have no column of epochs, and what counts them counts from 0.
    for path in (folder / "CSV_Logs").iterdir():
        rows = [row.partition(",")[2] for row in path.read_text().splitlines()]
        path.write_text("\n".join(rows) + "\n")
    (folder / "CSV_Logs" / "Data_Train_epochs.csv").write_text("epochs\n0\n")
    results = json.loads((folder / RESULTS).read_text())
    del results["epochs"]
    results["metrics"]["Train"]["loss"]["last_epoch"] = 0
    (folder / RESULTS).write_text(json.dumps(results))
    assert call("--n_epochs", "2", "--resume", str(folder)) == 0
    state = torch.load(folder / LAST_CHECKPOINT, weights_only=True)
    decays = [group["weight_decay"] for group in state["optimizer"]["param_groups"]]
    assert decays == [4e-4, 4e-4, 0] and len(losses(folder)) == 2
    assert [row.split(",")[0] for row in losses(folder)] == ["1", "2"]
    assert not (folder / "CSV_Logs" / "Data_Train_epochs.csv").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["g_s0"]


def _add_an_image(images: Path) -> None:
    shutil.copy(images / "Finch" / "Finch_0.png", images / "Finch" / "Finch_9.png")


def _write_an_image_again(images: Path) -> None:
    shutil.copy(images / "Dove" / "Dove_0.png", images / "Finch" / "Finch_0.png")


def _add_a_class(images: Path) -> None:
    shutil.copytree(images / "Finch", images / "Gull")


@pytest.mark.parametrize(
    ("change", "flags", "told"),
    [
        (_add_an_image, "", "other test images until now: 24 images (here 25), other file names"),
        (_write_an_image_again, "", "other test images until now: other file sizes"),
        (_add_a_class, "", "other test images until now: 24 images (here 32), 3 classes (here 4)"),
        (_add_an_image, "--no_test_metrics", None),
        (Path.exists, "", None),
    ],
    ids=["image", "pixels", "class", "unmeasured", "moved"],
)
def test_other_images_that_a_resumed_run_is_measured_on_are_told(
    change, flags, told, call, photos, tmp_path, capsys
):
    assert call(*flags.split()) == 0
    source = tmp_path / "moved"
    shutil.copytree(photos, source)
    change(source / "birds" / "images")
    again = [*flags.split(), "--source_path", str(source), "--resume", "auto"]
    assert call(*again, "--n_epochs", "2") == 0
    said = printed(capsys)
    assert ("was measured on other" in said) == (told is not None) and (told or "") in said
    assert call(*again, "--n_epochs", "3") == 0
    assert "was measured on other" not in printed(capsys)


@pytest.mark.parametrize(("first", "part"), [(8, "test"), (16, "validation")], ids=["test", "val"])
def test_another_part_of_the_images_that_search_is_told(first, part, tmp_path, capsys):
    """Which images of a table are queries, where nothing else of it has changed."""
    rows = []
    for number in range(24):
        place, is_query = tmp_path / f"{number}.png", number % 4 == 0
        Image.new("RGB", (40, 32), (number * 10, 90, 30)).save(place)
        split = ("train", "test", "val")[number // 8]
        rows.append(f"{place},{number // 4},{split},{int(is_query)},{int(not is_query)}")
    table = tmp_path / "table.csv"
    own = ["--dataset", "table", "--source_path", table, "--save_path", tmp_path / "runs"]

    def call(*argv: str) -> int:
        table.write_text("\n".join(["path,label,split,is_query,is_gallery", *rows]) + "\n")
        return main.main([*TINY.split(), *map(str, own), *argv])

    assert call() == 0
    rows[first] = rows[first].replace(",1,0", ",0,1")
    rows[first + 1] = rows[first + 1].replace(",0,1", ",1,0")
    assert call("--n_epochs", "2", "--resume", "auto") == 0
    told = printed(capsys)
    assert f"other {part} images until now: other queries and gallery." in told
    assert told.count("images until now") == 1


def test_other_images_behind_the_same_flags_are_refused(call, photos, folder, tmp_path, capsys):
    assert call() == 0
    before = contents(folder)
    source = tmp_path / "moved"
    shutil.copytree(photos, source)
    places = ["--source_path", str(source)]
    (source / "birds" / "images" / "Auklet").rename(source / "birds" / "images" / "Albatross")
    assert call("--n_epochs", "2", "--resume", "auto", *places) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "was trained on other images: other class names" in message
    assert contents(folder) == before
    (source / "birds" / "images" / "Albatross").rename(source / "birds" / "images" / "Auklet")
    assert call("--n_epochs", "2", "--resume", "auto", *places) == 0
    assert len(losses(folder)) == 2


@pytest.mark.parametrize("where", ["in the run folder", "elsewhere"])
def test_records_that_go_further_stay_and_the_run_gets_a_new_folder(
    call, folder, tmp_path, where, capsys
):
    is_inside = where == "in the run folder"
    middle = folder / "middle.pth.tar" if is_inside else tmp_path / "a" / "b.pt"
    best = ["--store_improvements"] if is_inside else []
    assert call(*best) == 0
    middle.parent.mkdir(exist_ok=True)
    shutil.copy(folder / LAST_CHECKPOINT, middle)
    assert call("--n_epochs", "2", "--resume", str(folder), *best) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert call("--n_epochs", "2", "--resume", str(middle), *best) == 0
    again, said = folder.with_name("g_s0_1"), capsys.readouterr().out
    assert f"this run goes on in {again}" in said
    assert ("checkpoints of its best epochs until now stay where they are" in said) == is_inside
    after = contents(tmp_path)
    assert all(after[path] == content for path, content in before.items())
    assert all(again in path.parents for path in after.keys() - before.keys())
    assert losses(again) == losses(folder)  # whole records, and the same training


def test_auto_starts_goes_on_and_ends(call, folder, capsys):
    """One line starts a job, and starts it again whenever it was ended."""
    argv = ["--n_epochs", "2", "--resume", "auto"]
    assert call("--resume", "auto") == 0
    assert "no run in" in capsys.readouterr().out
    assert call(*argv) == 0 and len(losses(folder)) == 2
    before = contents(folder)
    capsys.readouterr()
    assert call(*argv) == 0
    assert "all 2 epochs are done; nothing to do" in capsys.readouterr().out
    assert contents(folder) == before
    whole = json.loads((folder / RESULTS).read_text())["metrics"]
    for damage in (Path.unlink, lambda file: file.write_text('{"metrics": {"Te')):
        damage(folder / RESULTS)  # ended before its results were written, or a copy was cut
        assert call(*argv) == 0
        assert json.loads((folder / RESULTS).read_text())["metrics"] == whole
    assert [path.name for path in folder.parent.iterdir()] == ["g_s0"]


def test_completed_compares_settings_and_names_what_differs(call, folder, tmp_path, capsys):
    assert call() == 0
    elsewhere = ["--kernels", "1", "--cache_limit", "3"]  # and what has no effect in this run
    elsewhere += ["--loss_s2sd_w", "3", "--language_temp", "2", "--tau", "500"]
    assert call("--completed", *elsewhere) == 0
    assert f"--completed: {folder} is finished; nothing to do." in capsys.readouterr().out
    assert call("--completed", "--lr", "0.5") == 0
    said = capsys.readouterr().out
    assert "is finished under other settings: --lr 0.001 (here 0.5).\n" in said
    assert f"--completed: a new run begins, in {folder}_1." in said
    assert folder.with_name("g_s0_1").is_dir()
    for argv in ([], ["--lr", "0.5"]):
        assert call("--completed", *argv) == 0
        assert "nothing to do" in capsys.readouterr().out
    moved = tmp_path / "moved"
    assert call("--completed", "--source_path", str(moved)) == 2  # own data of another place
    assert "--source_path" in capsys.readouterr().out
    # The settings of a run are a configuration for other seeds, which are other runs.
    config = ["--config", str(folder / "args.yaml")]
    assert main.main([*config, "--seed", "1", "--completed"]) == 0
    assert main.main([*config, "--seed", "1", "--completed"]) == 0
    assert sorted(path.name for path in folder.parent.iterdir()) == ["g_s0", "g_s0_1", "g_s1"]


@pytest.mark.parametrize(
    "others, problem", [({}, "without RANK, LOCAL_RANK"), (ALL_BUT_NUMBERS, "no numbers")]
)
def test_processes_that_would_train_the_same_run_are_refused(
    call, folder, capsys, monkeypatch, others, problem
):
    for name, value in {"WORLD_SIZE": "2", **others}.items():
        monkeypatch.setenv(name, value)
    assert call() == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "WORLD_SIZE=2" in message and problem in message and "torchrun" in message
    assert not folder.exists()


def left_before_its_first_checkpoint(call, *argv: str) -> None:
    """As far as the files go, a run that is killed in its first step."""

    def killed(self, batch, seed):
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(Learner, "step", killed)
        call(*argv)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(call, folder, capsys):
    left_before_its_first_checkpoint(call)
    (folder / "note.txt").write_text("mine")
    assert call("--kernels", "1") == 0  # another number of processes is no other run
    assert f"{folder} was left with these settings before its" in capsys.readouterr().out
    assert len(losses(folder)) == 1 and (folder / "note.txt").read_text() == "mine"
    log = (folder / "log.txt").read_text()
    assert log.count("  Started: ") == 2 and "ZeroDivisionError" in log
    assert call() == 0 and (folder.with_name("g_s0_1") / RESULTS).is_file()  # never over results


def test_what_may_be_of_another_run_is_not_begun_again(call, folder, capsys):
    left_before_its_first_checkpoint(call)
    assert call("--lr", "0.5") == 0 and (folder.with_name("g_s0_1") / RESULTS).is_file()
    left_before_its_first_checkpoint(call)
    newest = folder.with_name("g_s0_2")
    command = [sys.executable, "-c", WRITER, str(newest / "log.txt")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "locked\n"
        assert call() == 0  # it may be running
        writer.communicate("")
    assert (folder.with_name("g_s0_3") / RESULTS).is_file()
    assert not (newest / RESULTS).exists() and "was left" not in capsys.readouterr().out


WRITER = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_finished_run_that_goes_on_has_not_ended(call, folder, capsys):
    """Nor where it is killed there; what it had at its end comes with the checkpoint."""
    assert call() == 0
    ended = json.loads((folder / RESULTS).read_text())["metrics"]
    left_before_its_first_checkpoint(call, "--n_epochs", "3", "--resume", "auto")
    (run,) = runs.find([folder])
    assert run.progress().startswith("not finished, 1 of 3 epochs done")
    capsys.readouterr()
    assert compare.main([str(folder)]) == 2
    assert "There is no finished run to compare." in capsys.readouterr().err
    assert call("--resume", "auto") == 0  # its end as it was
    assert json.loads((folder / RESULTS).read_text())["metrics"] == ended


def test_a_run_that_another_process_writes_is_left_alone(call, folder, capsys):
    assert call() == 0
    command = [sys.executable, "-c", WRITER, str(folder / "log.txt")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "locked\n"
        before = contents(folder.parent)
        assert call("--n_epochs", "2", "--resume", "auto") == 2
        assert f"{folder} is being written by another process" in capsys.readouterr().err
        assert contents(folder.parent) == before
        writer.communicate("")
    assert call("--n_epochs", "2", "--resume", "auto") == 0
