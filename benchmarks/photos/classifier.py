"""A small network that tells Fashion-MNIST's classes and styles apart: the ruler of what the product photos show.

    python -m benchmarks.photos.classifier --output benchmarks/work/products.safetensors

It is trained on all classes and styles, those included that no generator has seen. Its last hidden layer, as an ONNX
graph, is an encoder for ``--similarity``.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.photos import fashion
from benchmarks.photos.command import run
from benchmarks.photos.face_network import IR_VERSION, OPSET, PICTURES, VECTORS, Convolution, Graph
from edge_sdk.errors import EdgeSdkError, one_line

CHANNELS, HIDDEN = (16, 32, 64), 96
BATCH, LEARNING_RATE = 128, 3e-3
KINDS = len(fashion.CLASSES) * fashion.STYLES


class Classifier(nn.Module):
    """Pictures (N, 3, 32, 32) in [-1, 1] to styles of all classes, (N, KINDS) logits."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1) for i in range(len(CHANNELS))
        )
        self.hidden = nn.Linear(CHANNELS[-1] * 16, HIDDEN)
        self.last = nn.Linear(HIDDEN, KINDS)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, HIDDEN)."""
        for layer in self.convolutions:
            x = layer(x).relu()
        return self.hidden(x.flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(x).relu())

    @torch.inference_mode()
    def read(self, pixels: np.ndarray) -> np.ndarray:
        """Probability of each style of each class in pictures (N, 3, 32, 32): (N, 10, STYLES)."""
        logits = torch.cat([self(part) for part in torch.from_numpy(pixels).float().split(500)])
        return logits.softmax(dim=1).numpy().reshape(len(pixels), len(fashion.CLASSES), fashion.STYLES)


def train(photos: np.ndarray, kinds: np.ndarray, epochs: int, seed: int = 0) -> Classifier:
    """Of photos (N, 28, 28) uint8 and numbers of styles (N,), class times STYLES plus style."""
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), Classifier()
    steps = epochs * len(photos) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, max(2, steps))
    for _ in range(steps):
        index = rng.integers(len(photos), size=BATCH)
        x, labels = torch.from_numpy(fashion.pictures(photos[index])), torch.from_numpy(kinds[index])
        noisy = x + 0.1 * torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        loss = F.cross_entropy(model(noisy), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def load(path: Path) -> Classifier:
    """Raises EdgeSdkError if there is no such file, or it holds something else."""
    model = Classifier()
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise EdgeSdkError(
            f"{path} is not the network of benchmarks.photos.classifier ({one_line(error, 100)}); "
            "make it with that script"
        ) from error
    return model.eval()


def graph(model: Classifier, centre: np.ndarray) -> onnx.ModelProto:
    """The hidden layer less a mean vector (HIDDEN,): pictures (N, 3, 32, 32) to vectors (N, HIDDEN)."""
    out, x = Graph(), PICTURES
    for layer in model.convolutions:
        weight, bias = (value.detach().numpy() for value in (layer.weight, layer.bias))
        x = out.add("Relu", out.convolve(x, Convolution(weight, bias, 2, 1)))
    weight, bias = (value.detach().numpy() for value in (model.hidden.weight, model.hidden.bias))
    x = out.add("MatMul", out.add("Flatten", x), out.constant(weight.T))
    out.nodes.append(helper.make_node("Add", [x, out.constant(bias - centre)], [VECTORS]))
    side = fashion.PADDED
    pictures = helper.make_tensor_value_info(PICTURES, TensorProto.FLOAT, ["N", 3, side, side])
    vectors = helper.make_tensor_value_info(VECTORS, TensorProto.FLOAT, ["N", HIDDEN])
    made = helper.make_graph(out.nodes, "products", [pictures], [vectors], out.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos.classifier", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=fashion.FOLDER, help="folder of Fashion-MNIST's files")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/work/products.safetensors"))
    args = parser.parse_args()
    photos, classes = fashion.read("train", args.data)
    kinds = classes.astype(np.int64) * fashion.STYLES + fashion.styles(photos, classes, args.data)
    model = train(photos, kinds, args.epochs)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), args.output)
    photos, classes = fashion.read("t10k", args.data)
    read, styles = model.read(fashion.pictures(photos)), fashion.styles(photos, classes, args.data)
    right = read.sum(axis=2).argmax(axis=1) == classes
    within = read[np.arange(len(read)), classes].argmax(axis=1) == styles
    print(
        f"of the test half, {right.mean():.3f} of the classes and, within the class, {within.mean():.3f} of the styles"
    )


if __name__ == "__main__":
    run(main)
