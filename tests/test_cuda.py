"""What the program does about GPUs, seen without one: torch's and faiss's answers are pretended."""

import gc
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple, cast

import faiss
import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import OF_THE_RUN

import build
import main
import parameters
from datasampler import BatchSampler
from datasets import ImageSplit, Splits, loading, transforms
from datasets.transforms import Transforms
from evaluation import Evaluator, Protocol, evaluate_embeddings, evaluator, faiss_library
from programs import command_line, trained
from training.optimizers import PlainOptimizer, _fuses
from utilities import errors, report, seeding
from utilities.errors import MemoryAdvice, UserError
from utilities.runtime import (
    CPU,
    Runtime,
    is_channels_last,
    memory_budget,
    select_device,
    select_precision,
)

GPU = torch.device("cuda", 0)
GB = 2**30
TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).\n"
    "Please update your GPU driver (Triggered internally at x.cpp:119.)"
)
FAISS_IS_FULL = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const AllocRequest&) "
    "at StandardGpuResources.cpp:518: Error: 'err == cudaSuccess' failed: StandardGpuResources: "
    "alloc fail type FlatData dev 0 space Device stream 0x1 size 9 bytes (cudaMalloc error out of "
    "memory [2])"
)
MEMORY_ERRORS = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "driver": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    "faiss": RuntimeError(FAISS_IS_FULL),
}


@pytest.fixture
def forbidden(monkeypatch) -> None:
    """A machine with a GPU on which nothing may make a CUDA context."""

    def refuse() -> None:
        raise AssertionError("CUDA was initialised")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in (torch.cuda, torch.cuda.random):  # the latter knows them by its own names
        monkeypatch.setattr(module, "device_count", lambda: 1)
        monkeypatch.setattr(module, "_lazy_init", refuse)


@pytest.fixture
def generation(monkeypatch):
    """Let the GPU be of a compute capability."""

    def pretend(*capability: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    return pretend


@pytest.fixture
def images(tmp_path) -> ImageSplit:
    for number in range(4):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
    files = [str(tmp_path / f"{number}.png") for number in range(4)]
    transform = transforms.evaluation("base", 16, (0.5,) * 3, (0.5,) * 3)
    return ImageSplit(files, np.array([0, 0, 1, 1]), ["a", "b"], transform=transform)


# The CPU alone


@pytest.mark.parametrize("device, is_hidden", [("cpu", True), ("auto", False)])
def test_a_run_on_the_cpu_hides_gpus_from_torch_itself(monkeypatch, device, is_hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(main, "run", lambda opt, command: None)
    monkeypatch.setattr(sys, "argv", ["main.py", "--device", device])
    assert main.main() == 0
    assert (os.environ["CUDA_VISIBLE_DEVICES"] == "") is is_hidden


def test_a_run_on_the_cpu_makes_no_cuda_context(forbidden, photos, tmp_path, monkeypatch):
    # As torch's optimisers find it once main.py has hidden the GPU.
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **asked: None)
    own = f"--source_path {photos} --save_path {tmp_path} --language_distill_w 0 --n_epochs 1"
    stored_within = "--checkpoint_every 1e-6 --kernels 1 --no_figures"
    assert main.main([*OF_THE_RUN.split(), *own.split(), *stored_within.split()]) == 0
    network = trained.load(tmp_path / "birds" / "run", "cpu")
    assert len(network.embed(photos / "birds" / "images" / "Dove", workers=1)) == 8


def test_streams_of_a_gpu_are_kept_where_it_is_in_use(forbidden, monkeypatch):
    assert seeding.state()["cuda"] == []
    restored: list[torch.Tensor] = []
    stream = torch.arange(3)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [stream])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    with seeding.randomness_kept():
        assert not restored
    assert len(restored) == 1 and restored[0] is stream


@pytest.mark.parametrize("runtime, pins", [(Runtime(), False), (Runtime(GPU), True)])
def test_batches_are_pinned_for_a_gpu_alone(images, runtime, pins):
    opt = parameters.parse(["--kernels", "0"])
    splits = Splits(images, None, images)
    data = build.Data(splits, cast(BatchSampler, [[0, 1]]), {})
    views = Transforms(images.transform, images.transform)
    found = build.build_evaluator(opt, splits, views, runtime).splits.values()
    loaders = [cast(loading.Batches, split.batches).loader for split in found]
    loaders.append(build.build_training_loader(opt, data, views, runtime))
    assert [loader.pin_memory for loader in loaders] == [pins] * 3


# Loading processes


def test_loading_processes_neither_need_cuda_nor_free_what_they_inherit(images, forbidden):
    before = gc.get_freeze_count()

    def opened(path: str) -> Image.Image:
        if gc.get_freeze_count() <= before:
            raise OSError("what was inherited may be collected")
        return images.open_image(path)

    batches = loading.evaluation_batches(images.opened_by(opened), batch_size=2, workers=1)
    assert [batch.indices.tolist() for batch in batches] == [[0, 1], [2, 3]]


# Choices of the device


@pytest.mark.parametrize(
    "capability, precision, channels_last",
    [((9, 0), "bf16", True), ((8, 0), "bf16", True), ((7, 5), "fp32", False)],
)
def test_auto_is_what_the_gpu_is_best_at(generation, capability, precision, channels_last):
    generation(*capability)
    assert select_precision("auto", GPU) == precision
    assert is_channels_last("auto", GPU) is channels_last
    assert (select_precision("fp16", GPU), select_precision("fp32", GPU)) == ("fp16", "fp32")
    assert is_channels_last("channels_last", GPU) and not is_channels_last("contiguous", GPU)
    assert select_precision("auto", CPU) == "fp32" and not is_channels_last("auto", CPU)


@pytest.mark.parametrize(
    "device, expected",
    [(CPU, ("fp32", "contiguous")), (GPU, ("bf16", "channels_last"))],
    ids=str,
)
def test_a_run_stores_and_says_what_it_computes_with(monkeypatch, generation, device, expected):
    generation(9, 0)
    monkeypatch.setattr(build, "select_device", lambda *asked: device)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    opt = parameters.parse([])
    runtime = build.build_runtime(opt)
    stored = parameters.stored(opt)
    assert (stored["precision"], stored["memory_format"], stored["channels_last"]) == (
        *expected,
        False,
    )
    assert runtime.precision == expected[0]
    assert runtime.describe().endswith("H100, bf16, channels_last" if device == GPU else "), fp32")


def products() -> str:
    return torch.backends.cuda.matmul.fp32_precision


@pytest.mark.parametrize(
    "runtime, is_tf32",
    [(Runtime(GPU, "fp32"), True), (Runtime(precision="bf16"), False), (Runtime(), False)],
    ids=str,
)
def test_products_are_in_tf32_within_an_fp32_network_on_a_gpu(runtime, is_tf32):
    before = products()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError), runtime.autocast():
            assert (products() == "tf32") is is_tf32
            raise ZeroDivisionError
    assert products() == before != "tf32"


class OnGpu(NamedTuple):
    """Stands for weights."""

    is_cuda: bool = True


def test_weights_on_a_gpu_are_updated_by_one_kernel():
    on_gpu, on_cpu = OnGpu(), torch.ones(1)
    assert _fuses([{"params": [on_gpu]}, {"params": [on_gpu]}]) is True
    assert _fuses([{"params": [on_gpu]}, {"params": [on_cpu]}]) is None


@pytest.mark.parametrize("stored, own", [(None, True), (True, None)])
def test_a_state_of_another_device_fits_the_own_kernel(stored, own):
    """By `fused` torch puts the count of steps beside the weights, in single precision."""

    def made(fused: bool | None) -> torch.optim.Adam:
        optimizer = torch.optim.Adam([torch.ones(3, requires_grad=True)], lr=0.1, fused=fused)
        for _ in range(2):
            (weights,) = optimizer.param_groups[0]["params"]
            weights.grad = torch.ones(3)
            optimizer.step()
        return optimizer

    state = deepcopy(made(stored).state_dict())
    state["state"][0]["step"] = state["state"][0]["step"].double()
    optimizer = made(own)
    PlainOptimizer(optimizer).load_state_dict(state)
    (group,), (values,) = optimizer.param_groups, optimizer.state.values()
    assert group["fused"] is own and values["step"] == 2
    assert values["step"].dtype == (torch.float32 if own else torch.float64)
    optimizer.step()


def test_a_state_takes_the_layout_of_the_weights():
    def made(layout: torch.memory_format) -> torch.optim.Adam:
        weights = torch.randn(2, 3, 2, 2).to(memory_format=layout).requires_grad_()
        optimizer = torch.optim.Adam([weights])
        weights.square().sum().backward()
        optimizer.step()
        return optimizer

    stored, optimizer = made(torch.contiguous_format), made(torch.channels_last)
    PlainOptimizer(optimizer).load_state_dict(deepcopy(stored.state_dict()))
    (expected,), ((weights, values),) = stored.state.values(), optimizer.state.items()
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(values[name], expected[name])
        assert values[name].stride() == weights.stride() != expected[name].stride()


# Memory


def test_the_reserve_of_torch_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GB, 80 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 * GB)
    assert memory_budget("auto", GPU) == 7 * GB


class Rows(NamedTuple):
    """What is asked of rows on a GPU before they are copied."""

    shape: tuple[int, int] = (2, 3)
    device: torch.device = GPU


class Resources:
    """Stands for faiss's; counts those that were made, and their sizes."""

    made: list["Resources"]

    def __init__(self) -> None:
        self.made.append(self)
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Callable[[int], None]:
        assert name == "setTempMemory"
        return self.sizes.append


@pytest.fixture
def resources(monkeypatch) -> Iterator[list[Resources]]:
    Resources.made = []
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda *asked: asked[1:], raising=False)
    monkeypatch.setattr(faiss_library, "_has_kernels_for", lambda gpu: True)
    faiss_library._gpu_resources.cache_clear()
    yield Resources.made
    faiss_library._gpu_resources.cache_clear()


def test_one_resource_of_faiss_keeps_within_the_budget(resources):
    rows = cast(torch.Tensor, Rows())
    for memory in (5, 80 * GB):
        gpu, index = cast(tuple, faiss_library._empty_index(rows, memory))
        assert gpu == 0 and index.d == 3
    (only,) = resources
    assert only.sizes == [5, 2**28]


@pytest.mark.parametrize(
    "trial, is_usable, said",
    [
        ("", True, ""),
        ("raise SystemExit('no kernel image is available')", False, "[no kernel image is availa"),
        ("import os; os.abort()", False, "[status -6]"),
    ],
)
def test_a_faiss_without_kernels_for_the_gpu_works_on_the_cpu(
    trial, is_usable, said, monkeypatch, caplog
):
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss_library, "TRIAL", trial)
    faiss_library._has_kernels_for.cache_clear()
    assert faiss_library.is_on_gpu(torch.device("cuda", 0)) == is_usable
    assert faiss_library.is_on_gpu(torch.device("cuda", 0)) == is_usable
    faiss_library._has_kernels_for.cache_clear()
    told = [record.getMessage() for record in caplog.records]
    assert told == [] if is_usable else len(told) == 1 and said in told[0]


def test_clusters_and_search_have_the_memory_of_the_evaluation(monkeypatch):
    asked: list[int] = []
    empty_index = faiss_library._empty_index

    def heard(rows: torch.Tensor, memory: int, may_use_gpu: bool = True) -> faiss_library.FlatIndex:
        asked.append(memory)
        return empty_index(rows, memory, may_use_gpu)

    monkeypatch.setattr(faiss_library, "_empty_index", heard)
    rows, labels = torch.randn(8, 4), torch.arange(8) % 2
    wanted = ["e_recall@1", "nmi"]
    evaluate_embeddings(rows, labels, wanted, backend="faiss", memory=2**21)
    assert asked == [2**21, 2**21]


@pytest.mark.parametrize("error", MEMORY_ERRORS.values(), ids=MEMORY_ERRORS)
def test_a_full_gpu_is_a_sentence_of_each_program(error, capsys):
    def work(*flags: object) -> None:
        raise error

    assert report.exit_status(work) == 2
    said = capsys.readouterr().err
    assert said == f"main.py: error: the GPU is out of memory; {errors.OF_A_RUN.gpu}.\n"
    assert command_line.run("embed", work, command_line.EmbeddingFlags(gpu=None)) == 2
    assert capsys.readouterr().err == (
        "python -m programs.embed: error: the GPU is out of memory; lower --bs, or use --precision "
        "bf16 or --device cpu.\n"
    )
    assert command_line.run("export", work, command_line.CheckpointFlags()) == 2
    assert "--" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [MEMORY_ERRORS["faiss"], MemoryError(), RuntimeError("another")])
def test_an_evaluation_without_memory_names_its_own_flags(monkeypatch, error):
    def refuse(*arguments: object, **settings: object) -> dict[str, float]:
        raise error

    monkeypatch.setattr(evaluator, "evaluate_embeddings", refuse)
    monkeypatch.setattr(evaluator, "embed", lambda *_, **__: {"embeds": torch.ones(2, 2)})
    split = evaluator.EvaluatedSplit((), Protocol(torch.tensor([0, 0])))
    evaluating = Evaluator({"Test": split}, [], evaltypes=["embeds"], runtime=Runtime())
    network = torch.nn.Identity()
    if str(error) == "another":
        with pytest.raises(RuntimeError, match="another"):
            evaluating.run(network)
        return
    with pytest.raises(UserError, match="^the evaluation of the Test split: .* lower --evaluation"):
        evaluating.run(network)


def flags_in(advice: MemoryAdvice) -> set[str]:
    return set(re.findall(r"--(\w+)", " ".join(advice)))


def test_the_flags_of_advice_are_there():
    advised = flags_in(errors.OF_A_RUN) | flags_in(evaluator.SHORT_OF_MEMORY)
    assert advised <= parameters.BY_NAME.keys()
    parser = command_line.build_parser("embed", "")
    command_line.add_embedding_flags(parser)
    options = {f"--{name}" for name in flags_in(command_line.OF_EMBEDDING)}
    assert options <= parser._option_string_actions.keys()


@pytest.fixture
def broken_faiss(monkeypatch, tmp_path) -> Iterator[None]:
    (tmp_path / "faiss").mkdir()
    (tmp_path / "faiss" / "__init__.py").write_text("raise RuntimeError('no driver')")
    monkeypatch.delitem(sys.modules, "faiss")
    monkeypatch.syspath_prepend(tmp_path)
    faiss_library.library.cache_clear()
    yield
    faiss_library.library.cache_clear()


def test_a_faiss_that_cannot_be_loaded_is_told_and_done_without(broken_faiss, caplog):
    assert faiss_library.clusters_with("auto", CPU) == "torch"
    assert "faiss is installed but cannot be loaded: no driver." in caplog.text
    with pytest.raises(UserError, match="--evaluation_backend faiss: .* cannot be loaded"):
        faiss_library.required()


# A GPU that cannot be had


def looked_for(told: str = "") -> bool:
    if told:
        warnings.warn(told, stacklevel=1)
    return False


@pytest.mark.parametrize(
    "visible, built_for, told, why",
    [
        (None, "13.0", "", ""),
        (
            None,
            "13.0",
            TOO_OLD,
            "(CUDA initialization: The NVIDIA driver on your system is too old",
        ),
        ("", "13.0", "", "(CUDA_VISIBLE_DEVICES hides them all)"),
        ("-1", "13.0", TOO_OLD, "(CUDA_VISIBLE_DEVICES hides them all)"),
        (None, None, "", "(this torch is built for the CPU alone)"),
    ],
)
def test_why_there_is_no_gpu(monkeypatch, caplog, recwarn, visible, built_for, told, why):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: looked_for(told))
    with caplog.at_level("INFO"):
        assert select_device("auto", [0]) == CPU
    with pytest.raises(UserError) as raised:
        select_device("cuda", [0])
    for sentence in (caplog.messages[-1], str(raised.value)):
        assert why in sentence and "\n" not in sentence and ("(" in sentence) is bool(why)
    assert not recwarn.list


@pytest.fixture
def one_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)


def test_a_gpu_that_others_keep_is_a_sentence(one_gpu, monkeypatch):
    def busy(gpu: int) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy\nCUDA kernel errors")

    monkeypatch.setattr(torch.cuda, "set_device", busy)
    with pytest.raises(UserError, match=r"--gpu 0: .*busy CUDA kernel errors\); --device cpu"):
        select_device("auto", [0])


def test_what_torch_says_of_a_gpu_is_one_line(one_gpu, monkeypatch, caplog, recwarn):
    words = "\n    NVIDIA X with CUDA capability sm_200 is not compatible\n    with this torch."
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: warnings.warn(words, stacklevel=1))
    assert select_device("auto", [0]) == GPU
    assert caplog.messages == [f"--gpu 0: {' '.join(words.split())}"] and not recwarn.list


# Settings


@pytest.mark.parametrize(
    "argv, stored, expected, told",
    [
        ([], {"precision": "fp32", "channels_last": False}, ("fp32", "contiguous"), "fp32"),
        ([], {"precision": "bf16", "channels_last": True}, ("bf16", "channels_last"), "bf16"),
        ([], {"precision": "bf16", "memory_format": "contiguous"}, ("bf16", "contiguous"), "bf16"),
        (["--precision", "fp16"], {"precision": "bf16"}, ("fp16", "auto"), ""),
        (["--channels_last"], {"memory_format": "contiguous"}, ("auto", "channels_last"), ""),
        ([], {}, ("auto", "auto"), ""),
    ],
)
def test_a_resumed_run_goes_on_in_its_own_format(argv, stored, expected, told):
    opt = parameters.parse(argv)
    said = parameters.keep_choices(opt, stored)
    assert (opt.precision, opt.memory_format) == expected
    assert said == ([f"--precision auto: {told}, in which the resumed run computes."] * bool(told))


@pytest.mark.parametrize(
    "config, argv, layout",
    [
        ("channels_last: true", [], "channels_last"),
        ("channels_last: false", [], "contiguous"),
        ("channels_last: true", ["--memory_format", "contiguous"], "contiguous"),
        ("memory_format: contiguous", ["--channels_last"], "channels_last"),
        ("lr: 0.1", [], "auto"),
    ],
)
def test_the_layout_on_the_command_line_wins(tmp_path: Path, config, argv, layout):
    (tmp_path / "c.yaml").write_text(config)
    opt = parameters.parse(["--config", str(tmp_path / "c.yaml"), *argv])
    assert (opt.memory_format, opt.channels_last) == (layout, False)


def test_two_layouts_contradict_each_other(capsys):
    with pytest.raises(SystemExit):
        parameters.parse(["--channels_last", "--memory_format", "contiguous"])
    assert "--channels_last and --memory_format contiguous contradict" in capsys.readouterr().err


def test_auto_is_any_run_and_agrees_with_a_sweep():
    opt = parameters.parse([])
    assert not parameters.matters("memory_format", opt, "channels_last")
    assert not parameters.matters("precision", opt, "bf16")
    assert parameters.matters("precision", parameters.parse(["--precision", "fp32"]), "bf16")
    opt.precision = "bf16"  # as build_runtime makes it
    assert parameters.disagreeing(opt, {"precision": "auto"}) == []
