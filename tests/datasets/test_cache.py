"""Decoded images that are kept: reading does not depend on it, memory is bounded and shared."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import cache, loading, transforms
from datasets.cache import START, ImageCache
from datasets.decoding import UNREADABLE, open_image
from datasets.images import ImageSplit, Splits
from utilities.errors import UserError

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
BATCHES = [[0, 5, 2], [1, 1, 4], [3], [2, 4]]


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Six JPEGs of different sizes, about 6 KB decoded."""
    paths = [str(tmp_path / f"{number}.jpg") for number in range(6)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(
            0, 256, (40 + number, 50, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(path, quality=95)
    return paths


def make(files, tmp_path, kind: str, limit: int = 10**6, short_side: int = 0) -> ImageCache:
    return ImageCache(
        files,
        file=tmp_path / "kept.bin" if kind == "disk" else None,
        limit=limit,
        short_side=short_side,
    )


def splits(files) -> Splits:
    transform = transforms.training("base", 16, MEAN, STD)
    return Splits(
        ImageSplit(files, np.arange(len(files)) // 4, ["a", "b"], transform=transform),
        None,
        ImageSplit(files[:2], np.zeros(2, dtype=np.int64), ["c"], transform=transform),
    )


def whole(source) -> torch.Tensor:
    return source.pixels(1, source.height).values


def epoch(split, workers: int) -> torch.Tensor:
    loader = loading.training_loader(split, BATCHES, workers=workers)
    return torch.cat([batch.images for batch in loading.Batches(loader, 3)])


def kept(images: ImageCache) -> int:
    return int((images.table[:, START] > 0).sum())


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_images_read_the_same_before_and_after_they_are_kept(files, tmp_path, kind):
    images = make(files, tmp_path, kind)
    for path in files:
        first, second, expected = images.open_image(path), images.open_image(path), open_image(path)
        assert first[:2] == second[:2] == expected[:2]
        assert torch.equal(whole(first), whole(expected))
        assert torch.equal(whole(second), whole(expected))
    assert kept(images) == 6
    for path in files:
        os.remove(path)
    assert whole(images.open_image(files[5])).shape == (45, 50, 3)  # not from the file any more


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_batches_are_those_without_a_cache(files, tmp_path, kind, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    plain, cached = (
        cache.attached(
            splits(files), each, limit=1, short_side=0, folder=str(tmp_path / "cache"), fast=False
        )
        for each in ("none", kind)
    )
    assert cached.validation is None
    expected = epoch(plain.training, 0)
    for _ in range(2):
        assert torch.equal(epoch(cached.training, workers), expected)


def test_what_one_process_keeps_all_have(files, tmp_path):
    images = make(files, tmp_path, "ram")
    process = multiprocessing.get_context("fork").Process(
        target=lambda: [images.open_image(path) for path in files]
    )
    process.start()
    process.join()
    assert process.exitcode == 0 and kept(images) == 6


def test_processes_that_write_at_once_do_not_overwrite_each_other(files, tmp_path):
    images, context = make(files, tmp_path, "ram"), multiprocessing.get_context("fork")
    processes = [
        context.Process(target=lambda: [images.open_image(path) for path in files])
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert kept(images) == 6
    assert all(
        torch.equal(whole(images.open_image(path)), whole(open_image(path))) for path in files
    )


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_images_beyond_the_limit_are_decoded_each_time_and_read_the_same(files, tmp_path, kind):
    images = make(files, tmp_path, kind, limit=15000)  # room for two
    for _ in range(2):
        assert all(
            torch.equal(whole(images.open_image(path)), whole(open_image(path))) for path in files
        )
    assert kept(images) == 2


def test_another_run_finds_the_images_in_the_file(files, tmp_path):
    first = make(files, tmp_path, "disk")
    expected = [whole(first.open_image(path)) for path in files]
    for path in files:
        os.remove(path)
    second = make(files, tmp_path, "disk", limit=1)  # the file keeps its limit
    assert all(
        torch.equal(whole(second.open_image(path)), values) for path, values in zip(files, expected)
    )


def test_a_changed_image_or_size_makes_another_file(files, tmp_path):
    def attach(short_side):
        cache.attached(
            splits(files),
            "disk",
            limit=1,
            short_side=short_side,
            folder=str(tmp_path / "cache"),
            fast=True,
        )
        return len(list((tmp_path / "cache").iterdir()))

    assert attach(0) == attach(0) == 1
    assert attach(30) == 2
    Path(files[0]).write_bytes(Path(files[1]).read_bytes())
    assert attach(30) == 3


def test_larger_images_are_kept_at_the_size_of_evaluation(files, tmp_path):
    """Reduced to the short side of evaluation its crops are the same.

    Those of training come from fewer pixels.
    """
    images = make(files, tmp_path, "ram", short_side=18)
    evaluation = transforms.evaluation("base", 16, MEAN, STD)
    for path in files:
        images.open_image(path)
        source, expected = images.open_image(path), open_image(path)
        assert source[:2] == expected[:2] and min(whole(source).shape[:2]) == 18
        assert torch.equal(
            evaluation.crop(source, np.random.default_rng(0)),
            evaluation.crop(expected, np.random.default_rng(0)),
        )
    small = make(files, tmp_path, "ram", short_side=100)
    assert torch.equal(whole(small.open_image(files[0])), whole(open_image(files[0])))


def test_crops_of_a_reduced_image_lie_where_they_would_in_the_whole(tmp_path):
    channels = np.broadcast_arrays(np.arange(200)[:, None], np.arange(240), 0)
    ramp = np.stack(channels, axis=2).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    path, crops = str(tmp_path / "a.png"), transforms.training("base", 32, MEAN, STD)
    images = make([path], tmp_path, "ram", short_side=100)
    for seed in range(20):
        found, expected = (
            crops.crop(opened, np.random.default_rng(seed)).int()
            for opened in (images.open_image(path), open_image(path))
        )
        assert (found - expected).abs().max() <= 3


def test_a_broken_image_is_not_kept(files, tmp_path):
    Path(files[2]).write_bytes(b"no image")
    images = make(files, tmp_path, "ram")
    for _ in range(2):
        with pytest.raises(UNREADABLE):
            images.open_image(files[2])
    assert kept(images) == 0


def test_a_folder_that_cannot_be_written_is_named(files, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="--cache disk.*--cache_path"):
        cache.attached(
            splits(files),
            "disk",
            limit=1,
            short_side=0,
            folder=str(tmp_path / "file" / "below"),
            fast=True,
        )


def test_the_bound_is_said_and_within_half_of_the_memory(files, tmp_path, caplog):
    with caplog.at_level("INFO"):
        images = make(files, tmp_path, "ram", limit=10**15)
    assert images.end <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 + 1000
    assert "in memory, up to" in caplog.text


def test_pixels_as_shown_and_as_they_lie_are_kept_apart(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = str(tmp_path / "a.jpg")
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    for _ in range(2):
        for oriented, height in ((True, 60), (False, 40)):
            for kind in ("disk", "none"):
                open_kept = cache.opener(
                    [path],
                    kind,
                    limit=0.001,
                    short_side=0,
                    folder=str(tmp_path / "kept"),
                    fast=True,
                    oriented=oriented,
                )
                source = open_kept(path)
                assert source.height == height and len(source.pixels(1, height).values) == height
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_a_raised_limit_and_the_entry_of_a_killed_process(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for path in paths:
        Image.new("RGB", (60, 40), (1, 2, 3)).save(path)
    file, size = tmp_path / "kept.bin", 3 * 60 * 40

    def opened(images: int) -> cache.ImageCache:
        return cache.ImageCache(paths, file=file, limit=images * size, short_side=0)

    small = opened(1)
    for path in paths:
        small.open_image(path)
    assert (small.table[:, cache.START] > 0).sum() == 1
    small.table[3, cache.START] = cache.BEING_WRITTEN
    large = opened(4)
    for path in paths:
        large.open_image(path)
    assert (large.table[:, cache.START] > 0).all()
    for kept in (small, large):  # the smaller mapping does not reach all of them
        values = kept.open_image(paths[3]).pixels(1, 40).values
        assert values.shape == (40, 60, 3) and (values == torch.tensor([1, 2, 3])).all()


@pytest.mark.parametrize(
    "row",
    [
        (0, 0, 0, 0, 300),
        (40, 60, 80, 60, 300),
        (2**40, 2**40, 2**40, 2**40, 300),
        (-40, -60, 40, 60, 300),
        (40, 60, 40, 60, 5),
        (40, 60, 40, 60, -7),
        (40, 60, 40, 60, 2**62),
    ],
)
def test_rows_of_a_damaged_file_are_read_anew(files, tmp_path, caplog, row):
    images = make(files, tmp_path, "disk")
    for path in files:
        images.open_image(path)
    images.table[2] = row
    images.used[0] = -1
    again = make(files, tmp_path, "disk")
    assert "1 kept images are damaged" in caplog.text and kept(again) == 5
    for path in files:  # the third is put behind the others, not over them
        assert torch.equal(whole(again.open_image(path)), whole(open_image(path)))
    for path in files:
        assert torch.equal(whole(again.open_image(path)), whole(open_image(path)))


@pytest.mark.parametrize(
    "left, intact",
    [(1.0, 6), (0.9, 5), (0.5, 3), (0.0, 0), (-1, 0)],
    ids=["none", "end", "half", "pixels", "table"],
)
def test_images_that_were_cut_off_a_file_are_read_anew(files, tmp_path, left, intact):
    """As a copy is on a full disk: where the file grows again, there are zeros."""
    first = make(files, tmp_path, "disk")
    for path in files:
        first.open_image(path)
    start = 8 + 8 * cache.COLUMNS * len(files)
    size = start + int(left * (first.used[0] - start)) if left >= 0 else 50
    os.truncate(tmp_path / "kept.bin", size)
    again = make(files, tmp_path, "disk")
    assert kept(again) == intact and again.used[0] <= max(size, start)
    for _ in range(2):
        for path in files:
            assert torch.equal(whole(again.open_image(path)), whole(open_image(path)))
    assert kept(again) == 6


def test_noise_in_the_place_of_a_kept_file_is_read_anew(files, tmp_path):
    (tmp_path / "kept.bin").write_bytes(np.random.default_rng(0).bytes(4000))
    images = make(files, tmp_path, "disk")
    for path in files:
        assert torch.equal(whole(images.open_image(path)), whole(open_image(path)))


def test_a_kept_image_is_not_taken_for_another_of_its_size_and_time(tmp_path):
    file, kept = tmp_path / "0.bmp", []
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 8), colour).save(file)
        os.utime(file, ns=(0, 0))
        options = {"limit": 0.001, "short_side": 0, "folder": str(tmp_path), "fast": False}
        kept.append(whole(cache.opener([str(file)], "disk", **options)(str(file))))
    assert kept[0][0, 0].tolist() == [255, 0, 0] and kept[1][0, 0].tolist() == [0, 0, 255]
