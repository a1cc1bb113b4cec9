"""Every kind of trunk through main.py: steps, checkpoint, the run that goes on, what embeds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_networks import untrained

import architectures
import main
from programs import export, trained
from utilities import checkpoints
from utilities.errors import UserError
from utilities.run_folder import LAST_CHECKPOINT

STEP = """
    --dataset birds --not_pretrained --image_size 32 --embed_dim 8 --loss margin --bs 8 --lr 1e-3
    --kernels 0 --device cpu --n_epochs 1 --no_figures --no_train_metrics --group g
    --evaluation_metrics e_recall@1
"""
TEXTS = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
TOWERS = {
    "small-vit": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "small-resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4, "head_width": 16},
    "small-siglip": {
        "image_size": 32,
        "timm_model_name": "test_vit",
        "timm_pool": "map",
        "timm_proj": "none",
    },
}
TRUNKS = {  # and flags
    "bninception_frozen_normalize": ["--optim", "sgd", "--momentum", "0"],
    "googlenet_double": ["--optim", "sgd", "--momentum", "0"],
    "clip:small-vit_normalize": ["--lora_rank", "2"],
    "clip:small-resnet_projected_frozen": [],
    "clip:small-siglip_double_normalize": [],
    "test_vit_normalize": ["--lora_rank", "4", "--lora_alpha", "2", "--warmup", "1"],
    "local-dir:FOLDER_normalize": [],
}
EXPORTED = {  # format and status
    "clip:small-vit_normalize": [("torch", 0), ("hub", 2)],
    "test_vit_normalize": [("hub", 0)],
    "local-dir:FOLDER_normalize": [("hub", 0)],
    "bninception_frozen_normalize": [("hub", 2)],
}


@pytest.fixture(autouse=True)
def towers(tmp_path, monkeypatch):
    """Small towers that open_clip knows by name."""
    import open_clip
    from open_clip import factory

    known = dict(factory._MODEL_CONFIGS)
    for name, vision in TOWERS.items():
        model = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": TEXTS}
        (tmp_path / f"{name}.json").write_text(json.dumps(model))
        open_clip.add_model_config(tmp_path / f"{name}.json")
    yield
    factory._MODEL_CONFIGS.clear()
    factory._MODEL_CONFIGS.update(known)


@pytest.fixture
def call(photos, tmp_path):
    def run(*argv: str) -> int:
        places = ["--source_path", str(photos), "--save_path", str(tmp_path / "runs")]
        return main.main([*STEP.split(), *places, *argv])

    return run


def states(*folders: Path) -> list[dict]:
    return [torch.load(folder / LAST_CHECKPOINT, weights_only=True) for folder in folders]


@pytest.mark.parametrize("arch", TRUNKS)
def test_a_trunk_learns_goes_on_exactly_and_embeds(
    call, photos, tmp_path, capsys, monkeypatch, arch
):
    write, first = checkpoints.save, tmp_path / "first.pth.tar"

    def save(path: Path, state: dict) -> None:
        write(path, state)
        if state["epoch"] == 0 and not state["within"]:
            write(first, state)

    monkeypatch.setattr(checkpoints, "save", save)
    folder, flags = tmp_path / "runs" / "birds" / "g_s0", TRUNKS[arch]
    named = arch.replace("FOLDER", str(a_folder_of_timm(tmp_path)))
    flags = ["--arch", named, *flags]
    assert call(*flags, "--n_epochs", "2") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("trunk's adapters lr 0.001" in said) == ("--lora_rank" in flags)
    whole = folder.with_name("whole")
    folder.rename(whole)
    monkeypatch.setattr(checkpoints, "save", write)
    assert call(*flags, "--n_epochs", "2", "--resume", str(first)) == 0
    one, other = (state["state_dict"] for state in states(whole, folder))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    results = json.loads((folder / "results.json").read_text())
    every, learning = (results["weights"][name] for name in ("all", "trainable"))
    assert learning < every / 2 if "--lora_rank" in flags else learning == every

    network, dove = trained.load(folder), photos / "birds" / "images" / "Dove"
    assert network.embed(dove).shape == (8, 8)
    assert not any("lora" in name for name in network.network.state_dict())
    for form, status in EXPORTED.get(arch, ()):
        places = ["--to", str(tmp_path / form), "--check", str(dove)]
        assert export.main([str(folder), *places, "--format", form]) == status
        assert status == 0 or "timm has no model that is equal" in capsys.readouterr().err


def a_folder_of_timm(tmp_path: Path) -> Path:
    """As timm writes one, and programs.export."""
    import timm

    folder = tmp_path / "timm"
    model = timm.create_model("test_vit", num_classes=5, img_size=32)
    timm.models.save_for_hf(
        model, str(folder), model_args={"img_size": 32}, safe_serialization=True
    )
    return folder


def test_weights_of_a_folder_of_timm_are_its_own(tmp_path):
    folder = a_folder_of_timm(tmp_path)
    sizes = {"embed_dim": 8, "image_size": 32, "weights_file": None}
    network = architectures.select(f"local-dir:{folder}", pretrained=True, **sizes)
    stored = load_file(folder / "model.safetensors")
    found = network.trunk.state_dict()
    assert found.keys() == {name for name in stored if not name.startswith("head.")}
    assert all(torch.equal(found[name], stored[name]) for name in found)


def test_the_folder_of_a_trunk_may_be_moved(call, photos, tmp_path, capsys):
    folder = a_folder_of_timm(tmp_path)
    assert call("--arch", f"local-dir:{folder}_normalize") == 0
    run, moved = tmp_path / "runs" / "birds" / "g_s0", folder.rename(tmp_path / "moved")
    with pytest.raises(
        UserError, match=rf"CHECKPOINT {run}.* without its trunk: --arch local-dir:"
    ):
        trained.load(run, "cpu")
    evaluation = ["--evaluate_only", str(run), "--no_figures", "--kernels", "0"]
    assert main.main([*evaluation, "--arch", f"local-dir:{moved}_normalize"]) == 0
    further = ["--resume", str(run), "--n_epochs", "2"]
    assert call(*further, "--arch", f"local-dir:{moved}") == 2
    assert "was trained with --arch" in capsys.readouterr().err
    assert call(*further, "--arch", f"local-dir:{moved}_normalize") == 0
    (earlier,) = json.loads((run / "results.json").read_text())["earlier_settings"]
    assert earlier["settings"] == {"n_epochs": 1}


def test_another_rank_is_another_network(call, tmp_path, capsys):
    flags = ["--arch", "test_vit", "--lora_rank", "2"]
    assert call(*flags) == 0
    folder = tmp_path / "runs" / "birds" / "g_s0"
    for other in (["--lora_rank", "3"], ["--lora_rank", "0"], ["--lora_alpha", "3"]):
        assert call(*flags, *other, "--n_epochs", "2", "--resume", str(folder)) == 2
        assert f"was trained with {other[0]}" in capsys.readouterr().err
    again = ["--save_path", str(tmp_path / "again"), "--no_figures", "--kernels", "0"]
    assert main.main(["--evaluate_only", str(folder), *again]) == 0


@pytest.mark.parametrize(
    "argv, sentence",
    [
        ("--arch resnet18 --lora_rank 2", "the trunk of --arch resnet18 has no linear layers"),
        ("--arch convnext_atto --lora_rank 2", "take a transformer, or convnext_tiny or a larger"),
        ("--arch local-dir:nowhere", "--arch local-dir:nowhere: timm cannot open it"),
        ("--arch clip:small-vti", "open_clip has no such model; did you mean small-vit"),
        ("--arch test_vit --image_size 40", "the nearest --image_size: 32 or 48"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(call, tmp_path, capsys, argv, sentence):
    assert call(*argv.split()) == 2
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("args.yaml"))


def test_embeddings_of_merged_adapters_are_those_of_the_run(call, photos, tmp_path):
    flags = ["--arch", "test_vit_normalize", "--lora_rank", "2", "--lr", "0.1"]
    assert call(*flags) == 0
    folder = tmp_path / "runs" / "birds" / "g_s0"
    apart = untrained("test_vit_normalize", adapters=architectures.LowRank(2, 16)).eval()
    apart.load_state_dict(states(folder)[0]["state_dict"])
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        expected, found = apart(images), trained.load(folder).network(images)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-4, atol=1e-5)
    require_trunk_of(folder, "test_vit")


def require_trunk_of(run: Path, arch: str) -> None:
    """`--arch_weights` takes of a checkpoint the trunk that programs take, adapters added."""
    network = architectures.select(
        arch,
        embed_dim=3,
        image_size=32,
        pretrained=True,
        weights_file=str(run / LAST_CHECKPOINT),
    )
    found, expected = network.state_dict(), trained.load(run).network.state_dict()
    assert found.keys() == expected.keys()
    for name in (name for name in expected if name.startswith("trunk.")):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-7)
