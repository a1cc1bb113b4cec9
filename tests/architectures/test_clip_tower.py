"""Image towers of open_clip as trunks, through tiny configurations with random weights."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import architectures
from utilities.errors import UserError

TEXTS = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
SIGLIP = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"}
OF_TIMM = {"image_size": 32, "timm_model_name": "test_convnext", "timm_pool": "avg"}
MODELS = {
    "tiny-vit": {"embed_dim": 16, "vision_cfg": VIT},
    "tiny-mean": {"embed_dim": 16, "vision_cfg": VIT | {"pool_type": "avg"}},
    "tiny-late": {"embed_dim": 16, "vision_cfg": VIT | {"final_ln_after_pool": True}},
    "tiny-coca": {"embed_dim": 16, "vision_cfg": VIT | {"attentional_pool": True}},
    "tiny-resnet": {"embed_dim": 16, "vision_cfg": RESNET},
    "tiny-siglip": {"embed_dim": 64, "vision_cfg": SIGLIP, "custom_text": True},
    "tiny-square": {"embed_dim": 32, "vision_cfg": VIT},
    "tiny-linear": {"embed_dim": 16, "vision_cfg": OF_TIMM | {"timm_proj": "linear"}},
    "tiny-head": {"embed_dim": 16, "vision_cfg": OF_TIMM | {"timm_proj": None}},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """Weights of the tiny models, which open_clip knows by their names."""
    import open_clip
    from open_clip import factory

    known = dict(factory._MODEL_CONFIGS)
    folder = tmp_path_factory.mktemp("towers")
    written = {}
    for name, model in MODELS.items():
        (folder / f"{name}.json").write_text(json.dumps(model | {"text_cfg": TEXTS}))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    for name in MODELS:
        written[name] = folder / f"{name}.pt"
        torch.save(open_clip.create_model(name).state_dict(), written[name])
    yield written
    factory._MODEL_CONFIGS.clear()
    factory._MODEL_CONFIGS.update(known)


def network(arch: str, size: int = 32, **options) -> architectures.EmbeddingNetwork:
    options = {"pretrained": True, "weights_file": None} | options
    torch.manual_seed(1)
    return architectures.select(arch, embed_dim=8, image_size=size, **options).eval()


def images(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))


def whole(name: str, file: Path, **options):
    import open_clip

    return open_clip.create_model(name, pretrained=str(file), **options).eval()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "tiny-siglip"])
def test_projected_features_are_what_is_compared_with_texts(files, name):
    model = network(f"clip:{name}/{files[name]}_projected_frozen_normalize")
    with torch.inference_mode():
        output, expected = model(images()), whole(name, files[name]).encode_image(images())
    torch.testing.assert_close(output.features, expected, rtol=1e-4, atol=1e-5)
    assert model.feature_dim == MODELS[name]["embed_dim"] and output.embeddings.shape == (2, 8)


@pytest.mark.parametrize("name", MODELS)
def test_features_without_projection_are_what_it_projects(files, name):
    model = network(f"clip:{name}/{files[name]}")
    clip = whole(name, files[name])
    with torch.inference_mode():
        found, expected = model(images()), clip.encode_image(images())
    if name == "tiny-resnet":
        assert torch.equal(found.features, found.feature_map.mean((2, 3)))
        assert found.feature_map.shape == (2, 256, 1, 1)
        return
    assert found.feature_map.shape == (2, model.trunk.num_features, *found.feature_map.shape[2:])
    layers = {
        "tiny-siglip": lambda x: x,
        "tiny-linear": lambda x: clip.visual.head(x),
        "tiny-head": lambda x: clip.visual.trunk.head.fc(x),
    }
    project = layers.get(name, lambda x: x @ clip.visual.proj)
    with torch.inference_mode():
        torch.testing.assert_close(project(found.features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [32, 48])
def test_the_map_is_the_patches_at_any_size(files, size):
    """Positions are interpolated as open_clip does it."""
    model = network(f"clip:tiny-vit/{files['tiny-vit']}", size)
    clip = whole("tiny-vit", files["tiny-vit"], force_image_size=size)
    with torch.inference_mode():
        found = model(images(size)).feature_map
        expected = clip.visual.forward_intermediates(
            images(size), indices=1, normalize_intermediates=True, intermediates_only=True
        )
    last = expected["image_intermediates"][-1]
    assert last.shape == (2, 32, size // 8, size // 8)
    torch.testing.assert_close(found, last, rtol=1e-4, atol=1e-5)


def test_siglip_is_a_model_of_timm_with_its_grid_at_another_size(files):
    output = network(f"clip:tiny-siglip/{files['tiny-siglip']}", 48)(images(48))
    assert output.feature_map.shape == (2, 64, 3, 3) and output.features.shape == (2, 64)


def test_weights_may_be_given_beside_the_name_or_as_a_folder(files, tmp_path):
    beside = network("clip:tiny-vit", weights_file=str(files["tiny-vit"]))
    by_name = network(f"clip:tiny-vit/{files['tiny-vit']}")
    configuration = {
        "model_cfg": MODELS["tiny-vit"] | {"text_cfg": TEXTS},
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.4, 0.4]},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(configuration))
    weights = torch.load(files["tiny-vit"], weights_only=True)
    torch.save(weights, tmp_path / "open_clip_pytorch_model.bin")
    of_folder = network(f"clip:any/{tmp_path}_projected")
    for name, tensor in by_name.trunk.state_dict().items():
        assert torch.equal(tensor, beside.trunk.state_dict()[name])
        assert torch.equal(tensor, of_folder.trunk.state_dict()[name])
        assert torch.equal(tensor, weights[name.replace("tower.", "visual.")])
    assert (of_folder.mean, of_folder.std) == ((0.1, 0.2, 0.3), (0.4,) * 3)


def test_a_trunk_that_could_not_be_built_again_as_it_sees_is_refused(files, tmp_path):
    """A checkpoint has no weights file beside it: the name alone says what images go through."""
    folder = tmp_path / "folder"
    folder.mkdir()
    torch.save(
        torch.load(files["tiny-vit"], weights_only=True), folder / "open_clip_pytorch_model.bin"
    )
    model = MODELS["tiny-vit"] | {"text_cfg": TEXTS}
    for changes, what in (
        ({"preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}, "mean"),
        ({"model_cfg": model | {"quick_gelu": True}}, "activation"),
        ({}, None),
    ):
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model} | changes))
        if what:
            told = rf"--arch_weights {folder} has another {what} .* clip:tiny-vit/{folder} without"
            with pytest.raises(UserError, match=told):
                network("clip:tiny-vit", weights_file=str(folder))
        else:
            trained = network("clip:tiny-vit", weights_file=str(folder))
            assert network("clip:tiny-vit", pretrained=False).mean == trained.mean
    folder.rename(tmp_path / "moved")
    with pytest.raises(
        UserError, match=f"there is no folder {folder}, whose open_clip_config.json"
    ):
        network(f"clip:tiny-vit/{folder}", pretrained=False)


def test_a_checkpoint_is_read_without_the_file_that_it_began_with(files, tmp_path):
    gone = tmp_path / "gone.pt"
    gone.write_bytes(files["tiny-vit"].read_bytes())
    arch = f"clip:tiny-vit/{gone}_projected_normalize"
    trained = network(arch)
    gone.unlink()
    again = network(arch, pretrained=False)
    again.load_state_dict(trained.state_dict())
    with torch.inference_mode():
        assert torch.equal(again(images()).embeddings, trained(images()).embeddings)
    with pytest.raises(UserError, match="neither a file nor weights of tiny-vit"):
        network(arch)


@pytest.mark.parametrize(
    "tower, options, rank",
    [
        ("tiny-vit", "", 0),
        ("tiny-vit", "", 2),
        ("tiny-vit", "_projected", 2),
        ("tiny-late", "_projected", 0),
        ("tiny-resnet", "", 0),
        ("tiny-siglip", "", 2),
        ("tiny-head", "_projected", 0),
    ],
)
def test_a_checkpoint_of_a_run_is_weights_of_another(files, tmp_path, tower, options, rank):
    from architectures.low_rank import LowRank

    arch = f"clip:{tower}/{files[tower]}{options}_normalize"
    trained = network(arch, adapters=LowRank(rank, 4.0) if rank else None)
    for parameter in trained.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    state = {"state_dict": trained.state_dict(), "settings": {"lora_alpha": 4.0}}
    torch.save(state, tmp_path / "run.pth.tar")
    again = network(arch, weights_file=str(tmp_path / "run.pth.tar"))
    with torch.inference_mode():
        ours, theirs = (one(images()).features for one in (again, trained))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_positions_of_a_checkpoint_fit_another_size(files, tmp_path):
    trained = network(f"clip:tiny-vit/{files['tiny-vit']}")
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "run.pth.tar")
    arch, file = f"clip:tiny-vit/{files['tiny-vit']}", str(tmp_path / "run.pth.tar")
    ours, published = network(arch, 64, weights_file=file), network(arch, 64)
    name = "trunk.tower.positional_embedding"
    assert ours.state_dict()[name].shape == (1 + 8 * 8, 32)
    assert torch.equal(ours.state_dict()[name], published.state_dict()[name])


def test_a_projection_is_behind_every_stage(files):
    from architectures import stages

    trunk = network("clip:tiny-vit_projected", pretrained=False).trunk
    names = stages.names(trunk)
    assert names[:2] == ["tower", "tower.conv1"] and "tower.transformer.resblocks.0" in names
    fixed = stages.before(trunk, names[-1])
    assert {"tower.class_embedding", "tower.conv1.weight"} <= fixed and "tower.proj" not in fixed


def test_preprocessing_and_activation_are_those_of_the_weights(files, monkeypatch):
    from open_clip import pretrained
    from open_clip.transformer import QuickGELU

    grey = {"mean": [0.5] * 3, "std": [0.25] * 3, "quick_gelu": True}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-vit", {"grey": grey, "dark": grey})
    one, other = (
        network(f"clip:tiny-vit{tag}", weights_file=str(files["tiny-vit"])) for tag in ("/grey", "")
    )
    assert one.mean == other.mean == (0.5,) * 3 and one.std == (0.25,) * 3
    kinds = [type(module) for module in one.trunk.modules()]
    assert QuickGELU in kinds
    assert network("clip:tiny-mean", pretrained=False).mean == pytest.approx(
        (0.48145466, 0.4578275, 0.40821073)
    )


@pytest.mark.parametrize("by_flag", [False, True])
def test_an_archive_of_openai_wants_the_name_that_says_its_activation(tmp_path, by_flag):
    archive = tmp_path / "ViT-B-32.pt"
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(archive))
    behind, file = ("", str(archive)) if by_flag else (f"/{archive}", None)
    with pytest.raises(UserError) as told:
        network(f"clip:ViT-B-32{behind}_normalize", weights_file=file)
    assert str(told.value).endswith(f"write --arch clip:ViT-B-32-quickgelu{behind}.")


def test_what_cannot_be_is_a_sentence(files):
    cases = {
        ("clip:tiny-vti/x", 32): "--arch clip:tiny-vti: open_clip has no such model; did you mean",
        ("clip:tiny-vit/nonsense", 32): "nonsense is neither a file nor weights of tiny-vit",
        (f"clip:tiny-vit/{files['tiny-vit']}", 36): "--image_size: 32 or 40",
        (f"clip:tiny-square/{files['tiny-square']}_double_projected", 32): "leave _double out",
        (f"clip:tiny-siglip/{files['tiny-siglip']}_projected", 32): "has no projection",
        (f"clip:tiny-resnet/{files['tiny-resnet']}_projected", 64): "give --image_size 32",
        (f"clip:tiny-vit/{files['tiny-vit']}_projected_double", 32): "leave _double out",
        (f"clip:tiny-vit/{files['tiny-resnet']}", 32): "--arch clip:tiny-vit.* cannot be loaded",
    }
    for (arch, size), sentence in cases.items():
        with pytest.raises(UserError, match=sentence):
            network(arch, size)


@pytest.mark.parametrize("mark", ["", "local-dir:"])
def test_a_folder_without_a_model_before_it_says_what_to_write(tmp_path, mark):
    with pytest.raises(UserError) as told:
        network(f"clip:{mark}{tmp_path}")
    assert str(told.value).endswith(
        f"{tmp_path} has no model before the path to its weights; write "
        f"clip:<model>/{tmp_path}, such as clip:ViT-B-32/{tmp_path}."
    )


def test_depths_are_told_as_timm_tells_them(files):
    from timm.models import group_parameters

    for name, depth in (("tiny-vit", 3), ("tiny-resnet", 5)):
        trunk = network(f"clip:{name}", pretrained=False).trunk
        groups = group_parameters(trunk, trunk.group_matcher(), reverse=True)
        assert set(groups.values()) == set(range(depth)), name


@pytest.mark.parametrize("name", ["tiny-late", "tiny-mean"])
def test_double_adds_the_largest_patch_as_pooled_features_are_normalised(files, name):
    model = network(f"clip:{name}/{files[name]}_double")
    tower = model.trunk.tower
    with torch.inference_mode():
        tokens = tower.transformer(tower._embeds(images()))
        normed = tower.ln_post(tokens)
        largest = {
            "tiny-late": tower.ln_post(tokens[:, 1:].amax(1)),
            "tiny-mean": normed[:, 1:].amax(1),
        }
        pooled = model.trunk.forward_head(model.trunk.forward_features(images()))
        torch.testing.assert_close(model(images()).features, pooled + largest[name])
