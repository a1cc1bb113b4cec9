"""Batches of a loader: content, determinism whatever the processes, and broken images."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from datasets import loading, transforms
from datasets.images import ImageSplit
from utilities import signals
from utilities.errors import UserError, of_loading
from utilities.processes import Part
from utilities.types import Batch, PixelBatch

ROOT = Path(__file__).resolve().parents[2]
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
BATCHES = [[0, 5, 2], [1, 1, 4], [3], [2, 4]]


@pytest.fixture
def split(tmp_path) -> ImageSplit:
    """Six noisy images of two classes under a random training transform."""
    files = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        files.append(str(tmp_path / f"{number}.png"))
    return ImageSplit(
        files,
        np.array([0, 0, 0, 0, 1, 1]),
        ["a", "b"],
        transform=transforms.training("base", 16, MEAN, STD),
    )


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)


def images_of(batches) -> list[torch.Tensor]:
    """After flips, which are part of the augmentation."""
    return [batch.to(torch.device("cpu")).images for batch in batches]


def drawn(split, seed: int, workers: int) -> torch.Tensor:
    loader = loading.training_loader(split, BATCHES, workers=workers)
    return torch.cat(images_of(loading.Batches(loader, seed)))


def test_every_image_once_in_order(split):
    batches = loading.evaluation_batches(
        split.with_transform(transforms.evaluation("base", 16, MEAN, STD)), batch_size=4, workers=0
    )
    found = list(batches)
    assert len(batches) == len(found) == 2
    assert torch.cat([batch.indices for batch in found]).tolist() == list(range(6))
    assert torch.cat([batch.labels for batch in found]).tolist() == [0, 0, 0, 0, 1, 1]
    assert [tuple(batch.images.shape) for batch in found] == [(4, 3, 16, 16), (2, 3, 16, 16)]
    assert found[0].images.dtype == torch.uint8
    assert found[0].labels.dtype == found[0].indices.dtype == torch.long
    assert not any(len(batch.mirrored) for batch in found)


@pytest.mark.parametrize("augmentation", ["base", "adv", "big", "red"])
def test_parts_of_batches_are_those_of_whole_ones(split, augmentation):
    """Whoever reads an image, it is cropped, coloured and flipped by its place in the batch."""
    images = split.with_transform(transforms.training(augmentation, 16, MEAN, STD))
    batches = [[0, 5, 2, 3, 1], [1, 1, 4]]

    def read(part: Part) -> list[Batch | PixelBatch]:
        return list(loading.Batches(loading.training_loader(images, batches, workers=0, part=part)))

    whole, parts = read(Part()), [read(Part(number, 3)) for number in range(3)]
    for number, indices in enumerate(batches):
        shares = [part[number] for part in parts]
        assert torch.equal(torch.cat(images_of(shares)), *images_of([whole[number]]))
        assert all(share.indices.tolist() == indices for share in shares)
        assert all(torch.equal(share.labels, whole[number].labels) for share in shares)


def test_a_part_of_an_image_that_others_read_counts(split):
    """Crops are drawn by the size of the box, not of the image."""
    boxed = replace(split, boxes=np.array([[number, 2, 20 + number, 33] for number in range(6)]))
    loaders = [
        loading.training_loader(boxed, [[0, 1, 2, 3]], workers=0, part=part)
        for part in (Part(), Part(0, 2), Part(1, 2))
    ]
    whole, first, second = (images_of(loading.Batches(loader))[0] for loader in loaders)
    assert torch.equal(torch.cat([first, second]), whole)


def test_a_pass_over_a_split_is_divided_by_batches(split):
    seen = split.with_transform(transforms.evaluation("base", 16, MEAN, STD))
    found = [
        [
            batch.indices.tolist()
            for batch in loading.evaluation_batches(
                seen, batch_size=2, workers=0, part=Part(number, 4)
            )
        ]
        for number in range(4)
    ]
    assert found == [[], [[0, 1]], [[2, 3]], [[4, 5]]]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_the_sampler(split, workers, two_cores):
    found = list(loading.Batches(loading.training_loader(split, BATCHES, workers=workers)))
    assert [batch.indices.tolist() for batch in found] == BATCHES
    assert [batch.labels.tolist() for batch in found] == [[0, 1, 0], [0, 0, 1], [0], [0, 1]]


def test_augmentation_depends_on_the_seed_and_the_place_but_not_on_the_processes(split, two_cores):
    expected = drawn(split, 1, 0)
    assert torch.equal(drawn(split, 1, 1), expected) and torch.equal(drawn(split, 1, 2), expected)
    assert not torch.equal(drawn(split, 2, 0), expected)
    rows = [tuple(image.flatten().tolist()) for image in expected]
    assert len(set(rows)) == len(rows)  # image 1 comes twice in a batch, 2 and 4 in two of them


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_that_stay_take_the_seed_of_each_epoch(split, workers, two_cores):
    loader = loading.training_loader(split, BATCHES, workers=workers)
    epochs = [torch.cat(images_of(loading.Batches(loader, seed))) for seed in (1, 2, 1)]
    assert torch.equal(epochs[0], epochs[2]) and not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[1], drawn(split, 2, 0))


def test_processes_stay_for_all_epochs_and_an_epoch_may_be_left_early(split, two_cores):
    loader = loading.training_loader(split, BATCHES, workers=2)
    next(iter(loading.Batches(loader, 1)))
    before = [worker.pid for worker in loader._iterator._workers]
    assert torch.equal(torch.cat(images_of(loading.Batches(loader, 3))), drawn(split, 3, 0))
    assert [worker.pid for worker in loader._iterator._workers] == before and len(before) == 2


def test_an_evaluation_ends_its_processes_itself(split, two_cores):
    """Left to the loader's __del__, a Ctrl-C of that moment would be swallowed."""
    before = set(multiprocessing.active_children())
    batches = loading.evaluation_batches(split, batch_size=5, workers=2)
    assert sum(len(batch.indices) for batch in batches) == len(split)
    assert set(multiprocessing.active_children()) <= before


def test_only_a_reader_that_left_is_no_error_of_a_loading_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # undone at the end
    monkeypatch.delattr(signal, "sigwaitinfo")  # with it a thread takes this process's signals
    loading._leave_quietly()
    sys.excepthook(EOFError, EOFError(), None)
    assert capsys.readouterr().err == ""
    sys.excepthook(ValueError, ValueError("a real one"), None)
    assert "a real one" in capsys.readouterr().err


@pytest.mark.parametrize("kernels, cores, expected", [(6, 2, 2), (6, 8, 6), (0, 8, 0), (1, 1, 1)])
def test_no_more_processes_than_cores(split, monkeypatch, kernels, cores, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert loading.training_loader(split, BATCHES, workers=kernels).num_workers == expected


def test_half_of_the_images_are_flipped(split):
    indices = np.random.default_rng(0).integers(6, size=2000)
    (batch,) = loading.Batches(loading.training_loader(split, [indices.tolist()], workers=0))
    assert 900 < len(batch.mirrored) < 1100
    assert (batch.mirrored.diff() > 0).all() and batch.mirrored[-1] < 2000


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_does_not_draw_from_the_global_streams(split, workers):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    coloured = split.with_transform(transforms.training("adv", 16, MEAN, STD))
    list(loading.Batches(loading.training_loader(coloured, BATCHES, workers=workers)))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize(
    "transform, workers",
    [
        (transforms.training("base", 16, MEAN, STD), 0),
        (transforms.training("base", 16, MEAN, STD), 1),
        (v2.ToImage(), 0),
    ],
    ids=["here", "in a process", "another transform"],
)
def test_a_broken_image_is_named(split, workers, transform):
    Path(split.files[4]).write_bytes(b"no image")
    seen = split.with_transform(transform)
    with pytest.raises(UserError, match="--on_bad_image") as error:
        list(loading.evaluation_batches(seen, batch_size=3, workers=workers))
    assert split.files[4] in str(error.value)


def test_any_function_of_a_pillow_image_is_a_transform(split):
    """Such as the one a pretrained classifier was published with."""
    transform = v2.Compose(
        [v2.Resize((8, 12)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )
    seen = split.with_transform(transform)
    found = list(loading.evaluation_batches(seen, batch_size=4, workers=0))
    for batch in found:
        images = [Image.open(split.files[index]) for index in batch.indices]
        expected = torch.stack([transform(image) for image in images])
        assert torch.equal(batch.to(torch.device("cpu")).images, expected)
    assert torch.cat([batch.labels for batch in found]).tolist() == [0, 0, 0, 0, 1, 1]


def test_boxes_belong_to_their_images(split):
    boxes = np.array([[number, 2 * number, number + 20, 2 * number + 15] for number in range(6)])
    evaluation = transforms.evaluation("base", 16, MEAN, STD)
    boxed = ImageSplit(
        split.files, split.labels, split.class_texts, boxes=boxes, transform=evaluation
    )
    (found,) = images_of(loading.evaluation_batches(boxed, batch_size=6, workers=0))
    for number, path in enumerate(split.files):
        Image.open(path).crop(tuple(boxes[number].tolist())).save(path)
    (expected,) = images_of(
        loading.evaluation_batches(split.with_transform(evaluation), batch_size=6, workers=0)
    )
    assert torch.equal(found, expected)


def test_batches_go_through_pipes_where_shared_memory_is_short(
    split, monkeypatch, caplog, two_cores
):
    expected = drawn(split, 1, 0)
    monkeypatch.setattr(loading, "_free_shared_memory", lambda: 1000)
    loading._tell_of_pipes.cache_clear()
    loader = loading.training_loader(split, BATCHES, workers=2)
    with caplog.at_level("INFO"):
        batches = [batch for seed in (1, 1) for batch in loading.Batches(loader, seed)]
    assert torch.equal(torch.cat(images_of(batches[:4])), expected)
    assert torch.equal(torch.cat(images_of(batches[4:])), expected)
    assert all(batch.images.permute(0, 2, 3, 1).is_contiguous() for batch in batches)
    assert sum("--shm-size" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("free, is_shared", [(10**9, True), (3 * 768 + 1000, True), (2000, False)])
def test_shared_memory_must_hold_a_batch_of_each_process(monkeypatch, free, is_shared):
    pixels = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    number = torch.zeros(1, dtype=torch.long)
    batch = PixelBatch(pixels, number, number, number[:0], MEAN, STD)
    monkeypatch.setattr(loading, "_free_shared_memory", lambda: free)
    handed = loading._HandOver(2)(batch)
    assert (handed is batch) == is_shared and isinstance(handed, bytes) != is_shared


def test_processes_that_cannot_start_are_a_sentence(split, monkeypatch, two_cores):
    def full(loader):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", full)
    with pytest.raises(UserError, match="No space left on device.*--kernels 0"):
        list(loading.evaluation_batches(split, batch_size=3, workers=2))


@pytest.mark.parametrize(
    "message, part",
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "ended by SIGKILL, "),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", "ended, perhaps"),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is pos",
            "ended by SIGBUS, ",
        ),
        ("another", None),
    ],
)
def test_a_killed_process_is_recognised(message, part):
    sentence = of_loading(RuntimeError(message))
    assert part in sentence if part else sentence is None


def test_a_dying_process_is_waited_for():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    os.kill(process.pid, signal.SIGKILL)
    loading._await_its_end()
    with pytest.raises(ChildProcessError):  # nothing is left whose signal could come later
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def test_waiting_without_a_dying_process_ends():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    loading._await_its_end(seconds=0.01)
    assert process.is_alive()
    process.kill()
    process.join()


def test_a_signal_that_another_thread_gets_waits_until_processes_have_begun():
    """A mask is that of one thread, and Python answers in the main one whoever got the signal."""
    over, reached = threading.Event(), []
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        with signals.answered(), pytest.raises(signals.Stopped), loading._signals_wait():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            reached.append("the end")
    finally:
        over.set()
        other.join()
    assert reached == ["the end"]


@pytest.fixture
def a_minute() -> Iterator[None]:
    """What waits for ever fails after it."""

    def fail(*ignored: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_what_ends_processes_has_no_lock_to_be_killed_with(split, a_minute):
    """torch's loader asks its event also about processes that have ended, and sets it at last."""
    batches = iter(loading.Batches(loading.training_loader(split, [[0]] * 1000, workers=2)))
    next(batches)
    iterator = batches.gi_frame.f_locals["batches"]
    assert vars(iterator._workers_done_event).keys() == {"_flag"}
    os.kill(iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        for _ in batches:
            pass
    children = list(iterator._workers)
    iterator._shutdown_workers()
    assert not any(child.is_alive() for child in children)


def test_a_process_without_shared_memory_keeps_nobody_waiting(split, a_minute):
    batches = iter(loading.Batches(loading.training_loader(split, [[0]] * 1000, workers=1)))
    next(batches)
    [worker] = batches.gi_frame.f_locals["batches"]._workers
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (100, 100))
    with pytest.raises(RuntimeError) as caught:
        for _ in batches:
            pass
    assert "a process that reads images was ended" in of_loading(caught.value)


KILLS_ITS_READER = """
import os, signal, sys
import numpy as np
from datasets import loading, transforms
from datasets.images import ImageSplit
from utilities import report

def read():
    seen = transforms.evaluation("base", 16, (0.5,) * 3, (0.5,) * 3)
    split = ImageSplit([sys.argv[1]], np.zeros(1, dtype=int), ["a"], transform=seen)
    batches = loading.Batches(loading.training_loader(split, [[0]] * 100_000, workers=1))
    for batch in batches:
        os.kill(batches.loader._iterator._workers[0].pid, signal.SIGKILL)

sys.exit(report.exit_status(read))
"""


def test_a_killed_process_ends_a_program_with_a_sentence(split):
    command = [sys.executable, "-c", KILLS_ITS_READER, split.files[0]]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert "main.py: error: a process that reads images was ended" in ended.stderr
