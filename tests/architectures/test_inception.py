"""BN-Inception against its published table, and torchvision's GoogLeNet against itself."""

import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, pad

import architectures
from architectures import bn_inception, googlenet, trunks
from utilities.errors import UserError

# Figure 5 of Ioffe and Szegedy with the numbers of Caffe's release. Of each block: its input, the
# branches (1x1 / reduce, 3x3 / reduce, 3x3, 3x3 / pooling, projection), and its output at 224.
TABLE = """
3a  192: 64  | 64 64   | 64 96 96    | avg 32   -> 256  28
3b  256: 64  | 64 96   | 64 96 96    | avg 64   -> 320  28
3c  320: -   | 128 160 | 64 96 96    | max -    -> 576  14
4a  576: 224 | 64 96   | 96 128 128  | avg 128  -> 576  14
4b  576: 192 | 96 128  | 96 128 128  | avg 128  -> 576  14
4c  576: 160 | 128 160 | 128 160 160 | avg 128  -> 608  14
4d  608: 96  | 128 192 | 160 192 192 | avg 128  -> 608  14
4e  608: -   | 128 192 | 192 256 256 | max -    -> 1056 7
5a 1056: 352 | 192 320 | 160 224 224 | avg 128  -> 1024 7
5b 1024: 352 | 192 320 | 192 224 224 | max 128  -> 1024 7
"""
BRANCHES = {
    "1x1": ["1x1"],
    "3x3": ["3x3_reduce", "3x3"],
    "double": ["double_3x3_reduce", "double_3x3_1", "double_3x3_2"],
}


def windows(x: torch.Tensor, stride: int, around: int, filler: float) -> torch.Tensor:
    """3 x 3 windows [B, C, h, w, 9]; those that begin within the image may go beyond its end."""
    x = pad(x, [around, around + stride, around, around + stride], value=filler)
    sides = [-(-(side - stride - 3) // stride) + 1 for side in x.shape[2:]]
    x = x.unfold(2, 3, stride).unfold(3, 3, stride)[:, :, : sides[0], : sides[1]]
    return x.flatten(-2)


def largest(x: torch.Tensor, stride: int, around: int = 0) -> torch.Tensor:
    return windows(x, stride, around, -torch.inf).amax(-1)


class Published:
    """The layers by name, on the weights of a file of the release."""

    def __init__(self, state: dict[str, torch.Tensor]):
        self.state = state
        self.normalised: dict[str, torch.Tensor] = {}
        self.sizes: dict[str, tuple[int, int]] = {}

    def unit(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weights, bias = (self.state[f"{name}.{part}"] for part in ("weight", "bias"))
        x = conv2d(x, weights, bias, stride, padding=(weights.shape[-1] - 1) // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (self.state[f"{name}_bn.{part}"] for part in names)
        x = batch_norm(x, mean, variance, scale, shift, eps=1e-5)
        self.normalised[f"{name}_bn"] = x
        return x.clamp(min=0)

    def block(self, row: str, x: torch.Tensor) -> torch.Tensor:
        name, _, rest = row.partition(":")
        name, inputs = name.split()
        widths = [part.split() for part in rest.partition("->")[0].split("|")]
        assert x.shape[1] == int(inputs)
        stride = 2 if widths[0] == ["-"] else 1
        parts = []
        for branch, outputs in zip(BRANCHES.values(), widths):
            y = x
            for layer, width in zip(branch, outputs):
                if width == "-":
                    break
                is_last = layer == branch[-1]
                y = self.unit(f"inception_{name}_{layer}", y, stride if is_last else 1)
                assert y.shape[1] == int(width)
            else:
                parts.append(y)
        kind, projection = widths[3]
        around = 2 - stride
        pooled = windows(x, 1, 1, 0.0).mean(-1) if kind == "avg" else largest(x, stride, around)
        if projection != "-":
            pooled = self.unit(f"inception_{name}_pool_proj", pooled)
        x = torch.cat([*parts, pooled], 1)
        self.sizes[name] = (x.shape[1], x.shape[2])
        return x

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        x = images[:, [2, 1, 0]]
        x = largest(self.unit("conv1_7x7_s2", x, 2), 2)
        x = largest(self.unit("conv2_3x3", self.unit("conv2_3x3_reduce", x)), 2)
        for row in TABLE.strip().splitlines():
            x = self.block(row, x)
        return x


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights as the release has them, classifier included."""
    torch.manual_seed(0)
    state = bn_inception.BNInception().state_dict()
    for name, tensor in state.items():
        if name.endswith("_bn.running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "_bn.weight", "_bn.bias")):
            tensor.normal_(0.5, 0.3)
    state |= {"last_linear.weight": torch.ones(1000, 1024), "last_linear.bias": torch.ones(1000)}
    path = tmp_path_factory.mktemp("release") / "bn_inception-52deb4733.pth"
    torch.save(state, path)
    return path


def network(arch: str, file=None, pretrained=True) -> architectures.EmbeddingNetwork:
    return architectures.select(
        arch,
        embed_dim=8,
        image_size=75,
        pretrained=pretrained,
        weights_file=file and str(file),
    )


def test_every_layer_of_bn_inception_is_that_of_the_published_table(file):
    trunk = network("bninception_frozen", file).trunk.eval()
    found = {}
    for name, module in trunk.named_modules():
        if name.endswith("_bn"):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: found.update({name: output.clone()})
            )
    published = Published(torch.load(file, weights_only=True))
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        last, expected = trunk.forward_features(images), published(images)
    assert found.keys() == published.normalised.keys() and len(found) == 69
    for name, output in found.items():
        torch.testing.assert_close(output, published.normalised[name], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    rows = [row.partition("->")[2].split() for row in TABLE.strip().splitlines()]
    assert list(published.sizes.values()) == [tuple(map(int, row)) for row in rows]


def test_bn_inception_sees_images_of_any_size():
    trunk = bn_inception.BNInception().eval()
    with torch.inference_mode():
        for size in (32, 33, 75, 100):
            image = torch.randn(1, 3, size, size + 3)
            assert trunk.forward_features(image).isfinite().all()


def test_bn_inception_has_the_names_of_the_release_and_no_other(file):
    state = network("bninception", file).trunk.state_dict()
    stored = torch.load(file, weights_only=True)
    assert stored.keys() - state.keys() == {"last_linear.weight", "last_linear.bias"}
    assert all(torch.equal(state[name], stored[name]) for name in state)
    learned = sum(weights.numel() for name, weights in stored.items() if "running" not in name)
    assert learned - sum(name.endswith("num_batches_tracked") for name in stored) == 11_295_240


def test_caffes_preprocessing():
    """Blue, green and red in 0..255, less 104, 117 and 128."""
    model = network("bninception_normalize", pretrained=False).eval()
    pixels = torch.rand(1, 3, 75, 75)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.mean, model.std))
    seen = []
    model.trunk.conv1_7x7_s2.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.inference_mode():
        output = model((pixels - mean) / std)
    blue_green_red = 255 * pixels[:, [2, 1, 0]] - torch.tensor([104.0, 117, 128]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], blue_green_red, rtol=0, atol=1e-4)
    assert output.features.shape == (1, 1024) and output.feature_map.shape == (1, 1024, 3, 3)


def test_googlenet_is_torchvisions(tmp_path):
    import torchvision

    torch.manual_seed(0)
    whole = torchvision.models.GoogLeNet(transform_input=True, init_weights=False).eval()
    torch.save(whole.state_dict(), tmp_path / "googlenet.pth")
    model = network("googlenet_frozen", tmp_path / "googlenet.pth").eval()
    pixels = torch.rand(1, 3, 75, 75)
    theirs = (pixels - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    seen = []
    whole.fc.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.inference_mode():
        whole(theirs)
        output = model((pixels - model.mean[0]) / model.std[0])
    torch.testing.assert_close(output.features, seen[0], rtol=1e-4, atol=1e-5)
    assert output.feature_map.shape == (1, 1024, 2, 2)
    assert not [name for name in model.trunk.state_dict() if "aux" in name or "fc" in name]


def test_depths_are_told_as_timm_tells_them():
    from timm.models import group_parameters

    for trunk, blocks in ((bn_inception.BNInception(), 10), (googlenet.GoogLeNet(), 9)):
        for coarse, count in ((False, blocks), (True, 3)):
            groups = group_parameters(trunk, trunk.group_matcher(coarse), reverse=True)
            assert len(groups) == sum(1 for _ in trunk.parameters())
            assert set(groups.values()) == set(range(count + 1))


@pytest.mark.parametrize("name", ["bninception", "googlenet"])
def test_weights_that_are_not_here_say_where_they_are(name, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(trunks, "answers", lambda address: False)
    with pytest.raises(UserError, match=r"fetch http\S+\.pth and .*--arch_weights FILE") as error:
        network(f"{name}_normalize")
    assert str(error.value).count(". ") == 0


def test_a_download_lies_where_torch_keeps_its_own(monkeypatch, tmp_path):
    def download(address: str, file: str, hash_prefix: str, progress: bool) -> None:
        assert hash_prefix == "1378be20"
        torch.save(googlenet.GoogLeNet().state_dict(), file)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(trunks, "answers", lambda address: True)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    network("googlenet")
    stored = torch.load(tmp_path / "checkpoints" / "googlenet-1378be20.pth", weights_only=True)
    monkeypatch.setattr(trunks, "answers", lambda address: pytest.fail("it is there"))
    found = network("googlenet").trunk.state_dict()
    assert all(torch.equal(found[name], stored[name]) for name in found)


def test_a_foreign_file_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="--arch_weights .*other.pth does not hold weights of bnin"):
        network("bninception", tmp_path / "other.pth")


def test_names_that_are_nearly_right():
    with pytest.raises(UserError, match="did you mean bninception"):
        architectures.require_known("bn_inception_normalize")
    with pytest.raises(UserError, match="--arch bninception_projected: only the towers"):
        network("bninception_projected", pretrained=False)
