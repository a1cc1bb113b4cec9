"""Trunks with a head: parsing of --arch, shapes, pooling, frozen BatchNorm, weights from files."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import architectures
from architectures.embedding_network import ArchSpec
from utilities.errors import UserError

DIM = 8


def network(arch: str, size: int = 64, file=None) -> architectures.EmbeddingNetwork:
    torch.manual_seed(0)
    return architectures.select(
        arch,
        embed_dim=DIM,
        image_size=size,
        pretrained=file is not None,
        weights_file=file and str(file),
    )


def images(size: int = 64, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    "arch, expected",
    [
        ("resnet50_frozen_normalize", ArchSpec("resnet50", True, False, True)),
        ("resnet50_normalize_frozen", ArchSpec("resnet50", True, False, True)),
        ("mobilenetv2_100_frozen_normalize", ArchSpec("mobilenetv2_100", True, False, True)),
        ("vit_tiny_patch16_224_double", ArchSpec("vit_tiny_patch16_224", False, True, False)),
        ("resnet50.tv_in1k_normalize", ArchSpec("resnet50.tv_in1k", False, False, True)),
        ("resnet18", ArchSpec("resnet18", False, False, False)),
    ],
)
def test_parse_arch(arch, expected):
    assert architectures.parse_arch(arch) == expected


# Name, image size, features, map: convolutions, tokens, channels last, and a convolution after
# pooling.
TRUNKS = [
    ("test_resnet", 64, 96, (96, 2, 2)),
    ("test_convnext", 64, 64, (64, 2, 2)),
    ("test_vit", 32, 64, (64, 2, 2)),
    ("vit_tiny_patch16_224", 64, 192, (192, 4, 4)),
    ("focalnet_tiny_srf", 64, 768, (768, 2, 2)),
    ("swin_tiny_patch4_window7_224", 64, 768, (768, 2, 2)),
    ("mobilenetv3_small_050", 64, 1024, (288, 2, 2)),
]


@pytest.mark.parametrize("trunk, size, features, feature_map", TRUNKS)
def test_shapes_and_unit_rows(trunk, size, features, feature_map):
    plain, double = (
        network(trunk, size).eval(),
        network(f"{trunk}_double_frozen_normalize", size).eval(),
    )
    assert plain.feature_dim == double.feature_dim == features
    with torch.no_grad():
        for model in (plain, double):
            output = model(images(size))
            assert output.embeddings.shape == (2, DIM)
            assert output.features.shape == (2, features)
            assert output.feature_map.shape == (2, *feature_map)
            assert all(part.isfinite().all() for part in output)
        torch.testing.assert_close(output.embeddings.norm(dim=1), torch.ones(2))
        assert not torch.allclose(plain(images(size)).embeddings.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("trunk", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_features_are_the_mean_and_double_adds_the_maximum(trunk):
    with torch.no_grad():
        plain, double = network(trunk).eval()(images()), network(f"{trunk}_double").eval()(images())
    torch.testing.assert_close(plain.feature_map, double.feature_map)
    rows, columns = plain.feature_map.shape[-2:]
    for b in range(2):
        for c in range(0, plain.features.shape[1], 7):
            cells = [
                plain.feature_map[b, c, r, k].item() for r in range(rows) for k in range(columns)
            ]
            assert plain.features[b, c].item() == pytest.approx(sum(cells) / len(cells), abs=1e-5)
            assert double.features[b, c].item() == pytest.approx(
                sum(cells) / len(cells) + max(cells), abs=1e-5
            )


def test_feature_map_of_a_transformer_is_its_patches_in_reading_order():
    model = network("test_vit", 64).eval()
    with torch.no_grad():
        tokens = model.trunk.forward_features(images())
        found = model(images()).feature_map
    prefix = model.trunk.num_prefix_tokens
    for row in range(4):
        for column in range(4):
            torch.testing.assert_close(
                found[:, :, row, column], tokens[:, prefix + 4 * row + column]
            )


def test_double_of_a_transformer_adds_the_largest_patch():
    with torch.no_grad():
        plain, double = (
            network("test_vit", 64).eval()(images()),
            network("test_vit_double", 64).eval()(images()),
        )
    torch.testing.assert_close(double.features, plain.features + plain.feature_map.amax((2, 3)))


# Trunks that normalise the mean of their tokens and not the tokens, and what they do it by.
LATE_NORMS = [
    ("test_vit2", 64, "fc_norm"),
    ("test_vit4", 64, "fc_norm"),
    ("test_vit_relpos", 160, "fc_norm"),
    ("eva02_tiny_patch14_224", 28, "fc_norm"),
    ("hiera_tiny_224", 224, "head.norm"),
]


@pytest.mark.parametrize("trunk, size, norm", LATE_NORMS, ids=[name for name, *_ in LATE_NORMS])
def test_double_normalises_the_largest_patch_as_the_trunk_does_their_mean(trunk, size, norm):
    model = network(f"{trunk}_double", size).eval()
    with torch.no_grad():
        tokens = 100 * model.trunk.forward_features(images(size))  # of training they are large
        model.trunk.forward_features = lambda _: tokens
        mean, output = model.trunk.forward_head(tokens, pre_logits=True), model(images(size))
        largest = model.trunk.get_submodule(norm)(output.feature_map.amax((2, 3)))
    torch.testing.assert_close(output.features, mean + largest)
    assert output.features.square().mean().sqrt() < 5


def test_channels_last_trunk_gives_a_channels_first_map():
    model = network("swin_tiny_patch4_window7_224").eval()
    with torch.no_grad():
        raw = model.trunk.forward_features(images())
        torch.testing.assert_close(model(images()).feature_map, raw.permute(0, 3, 1, 2))
    assert raw.shape[-1] == 768


def test_unit_rows_also_under_autocast():
    model = network("test_resnet_normalize").eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        embeddings = model(images()).embeddings
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_keeps_batchnorm_statistics(frozen):
    model = network("test_resnet_frozen" if frozen else "test_resnet")
    model.train()
    assert norms(model) and all(module.training != frozen for module in norms(model))
    before = [module.running_mean.clone() for module in norms(model)]
    model(images())
    same = [torch.equal(old, module.running_mean) for old, module in zip(before, norms(model))]
    assert all(same) if frozen else not any(same)


def test_frozen_is_in_force_from_the_start_and_leaves_scale_and_shift_learning():
    model = network("test_resnet_frozen")
    assert not any(module.training for module in norms(model))
    assert model.training and model.trunk.conv1.training
    assert all(module.weight.requires_grad and module.bias.requires_grad for module in norms(model))


def test_frozen_survives_eval_and_train():
    model = network("test_resnet_frozen").eval().train()
    assert model.training and not any(module.training for module in norms(model))


def test_a_frozen_sample_does_not_depend_on_its_batch():
    model = network("test_resnet_frozen").train()
    torch.testing.assert_close(
        model(images(count=4)).embeddings[:1],
        model(images(count=4)[:1]).embeddings,
        atol=1e-5,
        rtol=1e-4,
    )


def test_warm_up_trains_the_head_only():
    model = network("test_resnet")
    model.train_trunk(False)
    model(images()).embeddings.sum().backward()
    assert all(p.grad is None for p in model.trunk.parameters())
    assert all(p.grad is not None for p in model.head.parameters())
    model.train_trunk(True)
    model(images()).embeddings.sum().backward()
    assert all(p.grad is not None for p in model.trunk.parameters())


def test_parameter_groups_hold_every_parameter_once():
    model = network("test_resnet")
    trunk, head = model.parameter_groups(1e-5, 1e-3)
    assert (trunk["lr"], head["lr"]) == (1e-5, 1e-3)
    grouped = [id(p) for group in (trunk, head) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_normalisation_constants_come_from_the_trunk():
    model = network("test_resnet")
    assert (model.mean, model.std) == (
        tuple(model.trunk.pretrained_cfg["mean"]),
        tuple(model.trunk.pretrained_cfg["std"]),
    )


# Weights from files.


def stored(folder, name: str, kind: str):
    """A file with weights of timm's `name`, classifier included, and the weights."""
    torch.manual_seed(7)
    weights = timm.create_model(name).state_dict()
    file = folder / f"weights.{kind}"
    save_file(weights, file) if kind == "safetensors" else torch.save(weights, file)
    return file, weights


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_weights_from_a_file(tmp_path, kind):
    file, expected = stored(tmp_path, "test_resnet", kind)
    found = network("test_resnet_frozen", file=file).trunk.state_dict()
    assert found.keys() == {name for name in expected if not name.startswith("fc.")}
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def test_weights_of_a_transformer_of_another_image_size(tmp_path):
    file, expected = stored(tmp_path, "test_vit", "pth")
    found = network("test_vit", 64, file=file).trunk
    assert torch.equal(
        found.state_dict()["blocks.0.attn.qkv.weight"], expected["blocks.0.attn.qkv.weight"]
    )
    assert found(images()).shape == (2, 64)


def test_weights_of_a_torchscript_archive(tmp_path):
    _, expected = stored(tmp_path, "test_resnet", "pth")
    model = timm.create_model("test_resnet").eval()
    model.load_state_dict(expected)
    torch.jit.trace(model, images()).save(str(tmp_path / "traced.pt"))
    found = network("test_resnet", file=tmp_path / "traced.pt").trunk.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("other", ["test_vit", "test_convnext", "resnet18"])
def test_a_file_of_another_architecture_is_refused(tmp_path, other):
    file, _ = stored(tmp_path, other, "pth")
    with pytest.raises(UserError, match="--arch_weights") as error:
        network("test_resnet", file=file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("content", ["empty", "own checkpoint", "text"])
def test_a_file_without_the_trunks_weights_is_refused(tmp_path, content):
    file = tmp_path / "weights.pth"
    if content == "text":
        file.write_text("not a checkpoint")
    else:
        torch.save({} if content == "empty" else {"optimizer": {"state": {}}}, file)
    with pytest.raises(UserError, match="--arch_weights") as error:
        network("test_resnet", file=file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    "kind, part", [("int8", "is int8"), ("complex64", "is complex64"), ("nan", "not finite")]
)
def test_weights_that_are_no_trained_floats_are_refused(tmp_path, kind, part):
    """torch casts the first two without a word; the third ended as a loss that is not finite."""
    file, weights = stored(tmp_path, "test_resnet", "pth")
    last = [name for name, value in weights.items() if value.ndim == 4][-1]
    is_nan = kind == "nan"
    weights[last] = weights[last] * torch.nan if is_nan else weights[last].to(getattr(torch, kind))
    torch.save(weights, file)
    with pytest.raises(UserError, match=rf"--arch_weights .*\({last} .*{part}"):
        network("test_resnet", file=file)
    weights[last] = torch.ones_like(weights[last], dtype=torch.float16)
    torch.save(weights, file)
    assert network("test_resnet", file=file).trunk.state_dict()[last].eq(1).all()


@pytest.mark.parametrize(
    "wrapper, prefix",
    [
        ("state_dict", "module."),
        ("model", "backbone."),
        ("teacher", "module.backbone."),
        ("net", "model."),
        ("model_state_dict", "_orig_mod."),
        ("module", "model."),
        ("state_dict", "module.encoder_q."),
        ("state_dict", "model.backbone."),
        (None, "model."),
        ("state_dict", "trunk."),
    ],
)
def test_weights_as_people_have_them(tmp_path, wrapper, prefix):
    _, expected = stored(tmp_path, "test_resnet", "pth")
    named = {f"{prefix}{name}": tensor for name, tensor in expected.items()}
    named |= {f"{prefix[:-1]}_head.weight": torch.ones(3), "queue": torch.ones(2)}
    file = tmp_path / "theirs.ckpt"
    torch.save({wrapper: named, "epoch": 3} if wrapper else named, file)
    found = network("test_resnet", file=file).trunk.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize(
    "beside",
    [
        {"ema": {"decay": 0.99, "updates": 5}},
        {"model": {"width": 64, "depths": [2, 2]}},
        {"state_dict_ema": {"shadow": {}, "settings": {"decay": 0.99}}},
    ],
    ids=["average", "settings", "empty"],
)
def test_what_is_named_as_weights_are_but_holds_none_is_passed_over(tmp_path, beside):
    _, expected = stored(tmp_path, "test_resnet", "pth")
    file = tmp_path / "theirs.ckpt"
    torch.save({**beside, "net": {"state_dict": expected}}, file)
    found = network("test_resnet", file=file).trunk.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_the_trunk_of_an_own_checkpoint(make_checkpoint):
    checkpoint = make_checkpoint("test_resnet_normalize")
    expected = torch.load(checkpoint, weights_only=True)["state_dict"]
    found = network("test_resnet", file=checkpoint).trunk.state_dict()
    assert all(torch.equal(found[name], expected[f"trunk.{name}"]) for name in found)


class RunsCode:
    def __reduce__(self):
        return (Path.touch, (Path("opened"),))


def test_no_pickle_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": RunsCode()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="--arch_weights"):
        network("test_resnet", file=tmp_path / "evil.pth")
    assert not (tmp_path / "opened").exists()


def test_unknown_trunk_suggests_known_ones():
    with pytest.raises(UserError, match="--arch.*resnet50") as error:
        network("resnt50_frozen_normalize")
    with pytest.raises(UserError, match="--arch: timm has no model 'resnet10t_frozen'"):
        network("resnet10t_frozen_normalize_frozen")
    assert "resnt50" in str(error.value)
    with pytest.raises(UserError, match="did you mean _normalize by _normalise"):
        architectures.require_known("resnet50_normalise_frozen")


@pytest.mark.parametrize(
    "arch, size", [("crossvit_9_240_normalize", 64), ("efficientvim_m1", 64), ("nest_tiny", 100)]
)
def test_what_is_no_trunk_or_not_at_this_size_is_a_sentence(arch, size):
    """Positions for other sizes, a list of maps, blocks that do not fit."""
    sizes = {"embed_dim": 8, "image_size": size, "pretrained": False, "weights_file": None}
    with pytest.raises(UserError, match=f"--arch {arch} gives no features of images of {size}"):
        architectures.select(arch, **sizes)


@pytest.mark.parametrize("pretrained", [True, False])
def test_unknown_tag_is_a_user_error(pretrained):
    with pytest.raises(UserError, match="nonsense"):
        architectures.select(
            "test_resnet.nonsense",
            embed_dim=DIM,
            image_size=64,
            pretrained=pretrained,
            weights_file=None,
        )


def test_no_network_says_how_to_go_on(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    monkeypatch.setattr(
        "timm.models._hub.hf_hub_download",
        lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no network")),
    )
    with pytest.raises(UserError, match="--arch_weights.*--not_pretrained"):
        architectures.select(
            "test_resnet", embed_dim=DIM, image_size=64, pretrained=True, weights_file=None
        )


def test_synchronised_norms_keep_weights_and_their_names():
    ours, images = network("test_resnet_normalize").eval(), torch.randn(2, 3, 32, 32)
    before, expected = ours.state_dict(), ours(images).embeddings
    ours.synchronise_norms(None)
    kinds = {type(norm) for norm in ours.batch_norms()}
    assert kinds and all(issubclass(kind, torch.nn.SyncBatchNorm) for kind in kinds)
    assert ours.state_dict().keys() == before.keys()
    assert torch.equal(ours(images).embeddings, expected)


def test_the_papers_trunk_has_torchvisions_weights():
    assert network("resnet50").trunk.pretrained_cfg["tag"] == "tv_in1k"


def test_weights_of_a_repository_of_the_hub(tmp_path, monkeypatch):
    import huggingface_hub

    torch.manual_seed(5)
    trunk = timm.create_model("test_resnet", num_classes=7)
    save_file(trunk.state_dict(), tmp_path / "model.safetensors")

    def download(repository: str, file: str, *, revision: str | None) -> str:
        if (repository, file, revision) != ("me/x", "model.safetensors", "v1"):
            raise OSError("404 Not Found")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(architectures.weights, "offline_unless_reachable", lambda: None)
    sizes = {"embed_dim": 8, "image_size": 32, "pretrained": True}
    network = architectures.select("test_resnet", weights_file="hf-hub:me/x@v1", **sizes)
    state = network.trunk.state_dict()
    assert all(torch.equal(state[name], trunk.state_dict()[name]) for name in state)
    with pytest.raises(UserError, match="--arch_weights hf-hub:me/y.*404 Not Found"):
        architectures.select("test_resnet", weights_file="hf-hub:me/y", **sizes)
