"""Turn dlib's face network into an ONNX graph that ``--similarity`` of `edge-sdk unlearn` and `edge-sdk audit` takes.

    pip download --no-deps face-recognition-models==0.3.0 && tar xzf face_recognition_models-0.3.0.tar.gz
    python -m benchmarks.photos.face_network --output face.onnx --faces DIR \\
        --weights face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat

The weights are dedicated to the public domain (CC0). The file is read by its layers' own records, nothing in it is
executed. A residual network of the same form with other widths, depths and picture sizes is taken as well.

``--faces`` is a folder of portraits of people who have nothing to do with the request, framed as the model's pictures
are. Their mean vector is subtracted, so that strangers are 0 alike in the mean. Without that they are 0.85 alike, and
the limits of `edge-sdk unlearn` refuse everyone as the same person.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.photos.command import run
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import load_photos
from edge_sdk.system.files import disk_errors, write_bytes

INPUT, CONVOLUTION, AFFINE, LINEAR = b"input_rgb_image_sized", b"con_4", b"affine_", b"fc_2"
TENSOR_VERSION, MOST_BYTES, MOST_VALUES = 2, 1 << 28, 1 << 26
OPSET, IR_VERSION = 17, 8
PICTURES, VECTORS = "pictures", "vectors"  # of the graph
MOST_FACES = 10_000
MARGIN = 0.15  # with which faces that fill their picture are told apart best, see the README


@dataclass(frozen=True)
class Convolution:
    """With the affine map that follows it."""

    weight: np.ndarray  # (O, I, h, w) float32
    bias: np.ndarray  # (O,) float32
    stride: int
    padding: int


@dataclass(frozen=True)
class Network:
    """Convolutions from the picture on: the first, then two a residual block; and the last matrix.

    Attributes:
        means: of red, green and blue, taken from pixels of 0 to 255 before they are divided by 256.
    """

    side: int
    means: np.ndarray  # (3,) float32
    convolutions: list[Convolution]
    linear: np.ndarray  # (O, F) float32


class Reader:
    """dlib's portable format: an integer is a byte with its sign and length, then its bytes; a float two integers."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def integer(self) -> int:
        control = self._take(1)[0]
        value = int.from_bytes(self._take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def number(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        return float(np.ldexp(float(mantissa), max(-2000, min(2000, exponent))))

    def tensor(self) -> np.ndarray:
        """All values of a tensor, (N,) float32."""
        version, *shape = (self.integer() for _ in range(5))
        count = int(np.prod(shape, dtype=object))
        if version != TENSOR_VERSION or not 0 < count <= MOST_VALUES:
            raise ValueError(f"a tensor of version {version} and shape {shape}")
        return np.frombuffer(self._take(4 * count), "<f4").astype(np.float32)

    def skip_to(self, names: tuple[bytes, ...]) -> bytes:
        """Go behind the next of some layers' names, each with its length before it; empty if there is none."""
        places = [(place, name) for name in names if (place := self._find(name)) >= 0]
        if not places:
            return b""
        place, name = min(places)
        self.at = place + 2 + len(name)
        return name

    def _find(self, name: bytes) -> int:
        return self.data.find(bytes([1, len(name)]) + name, self.at)

    def _take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise ValueError("the file ends early")
        self.at += count
        return taken


def read(path: Path) -> Network:
    """Read a network's weights.

    Raises:
        EdgeSdkError: no such file, a damaged one, or another kind of network.
    """
    try:
        with path.open("rb") as file:
            return _network(Reader(file.read(MOST_BYTES)))
    except (OSError, ValueError, IndexError) as error:
        raise EdgeSdkError(
            f"{path} is not a residual face network in dlib's format ({error}); give "
            "dlib_face_recognition_resnet_model_v1.dat, which face-recognition-models 0.3.0 has"
        ) from error


def _network(reader: Reader) -> Network:
    if reader.skip_to((INPUT,)) != INPUT:
        raise ValueError("it takes no picture of one size")
    means = np.array([reader.number() for _ in range(3)], np.float32)
    rows, columns = reader.integer(), reader.integer()
    if rows != columns or not 1 <= rows <= 4096:
        raise ValueError(f"it takes pictures of {rows} x {columns}")
    convolutions, inputs = [], 3
    while (name := reader.skip_to((CONVOLUTION, LINEAR))) == CONVOLUTION:
        convolutions.append(_convolution(reader, inputs))
        inputs = len(convolutions[-1].bias)
    if name != LINEAR or len(convolutions) % 2 != 1:
        raise ValueError(f"{len(convolutions)} convolutions and {'a' if name else 'no'} last matrix")
    outputs, _ = reader.integer(), reader.integer()
    values = reader.tensor()
    if len(values) != inputs * outputs or not np.isfinite(values).all():
        raise ValueError(f"a last matrix of {len(values)} values for {inputs} inputs and {outputs} outputs")
    return Network(rows, means, convolutions, values.reshape(inputs, outputs))


def _convolution(reader: Reader, inputs: int) -> Convolution:
    values = reader.tensor()
    filters, rows, columns, stride, _, padding, _ = (reader.integer() for _ in range(7))
    if filters < 1 or len(values) != filters * (inputs * rows * columns + 1) or not 1 <= stride <= 8:
        raise ValueError(f"{len(values)} weights for {filters} filters of {inputs} x {rows} x {columns}")
    weight, bias = values[:-filters].reshape(filters, inputs, rows, columns), values[-filters:]
    if reader.skip_to((AFFINE,)) != AFFINE:
        raise ValueError("a convolution without its affine map")
    scale, shift = reader.tensor().reshape(2, -1)
    if len(scale) != filters:
        raise ValueError(f"an affine map of {len(scale)} channels for {filters}")
    if not all(np.isfinite(part).all() for part in (values, scale, shift)):
        raise ValueError("a weight that is not finite")
    return Convolution(weight * scale[:, None, None, None], bias * scale + shift, stride, padding)


class Graph:
    """ONNX nodes as they are added; every method gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def convolve(self, x: str, layer: Convolution) -> str:
        weights = (self.constant(layer.weight), self.constant(layer.bias))
        return self.add("Conv", x, *weights, strides=[layer.stride] * 2, pads=[layer.padding] * 4)

    def padded(self, x: str, channels: int, sides: int) -> str:
        """With so many zero channels, rows and columns behind."""
        if not channels and not sides:
            return x
        pads = np.array([0, 0, 0, 0, 0, channels, sides, sides], np.int64)
        return self.add("Pad", x, self.constant(pads))


def build(network: Network, margin: float = 0.0, centre: np.ndarray | None = None) -> onnx.ModelProto:
    """A graph of pictures (N, 3, H, H) float32 in [-1, 1], RGB, to vectors (N, F).

    Where a block halves its input, the shortcut is a mean of 2 x 2; what is smaller is filled up with zeros.

    Args:
        margin: how far the edges are drawn out on each side, as a share of a picture's side. H is then smaller than
            the network's own side.
        centre: (F,) float32, which is subtracted from every vector.
    """
    graph, first = Graph(), network.convolutions[0]
    side = max(1, round(network.side / (1 + 2 * margin)))
    before = (network.side - side) // 2
    after, means = network.side - side - before, (127.5 - network.means).reshape(1, 3, 1, 1) / 256
    edges = np.array([0, 0, before, before, 0, 0, after, after], np.int64)
    x = graph.add("Pad", PICTURES, graph.constant(edges), mode="edge") if margin else PICTURES
    x = graph.add("Mul", x, graph.constant(np.float32(127.5 / 256)))
    x = graph.add("Add", x, graph.constant(means.astype(np.float32)))
    x = graph.add("Relu", graph.convolve(x, first))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    given, side, channels = side, _pooled(_convolved(network.side, first), 3), len(first.bias)
    for one, two in _blocks(network.convolutions[1:]):
        inner = graph.convolve(graph.add("Relu", graph.convolve(x, one)), two)
        inside, width = _convolved(_convolved(side, one), two), len(two.bias)
        if one.stride == 2:
            x, side = graph.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), _pooled(side, 2)
        most, widest = max(side, inside), max(channels, width)
        shortcut = graph.padded(x, widest - channels, most - side)
        x = graph.add("Relu", graph.add("Add", graph.padded(inner, widest - width, most - inside), shortcut))
        side, channels = most, widest
    if side < 1 or channels != len(network.linear):
        raise EdgeSdkError(f"the network ends in {channels} channels of {side} pixels; its last matrix does not fit")
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    x, width = graph.add("MatMul", x, graph.constant(network.linear)), network.linear.shape[1]
    centre = np.zeros(width, np.float32) if centre is None else centre
    graph.nodes.append(helper.make_node("Sub", [x, graph.constant(centre)], [VECTORS]))
    pictures = helper.make_tensor_value_info(PICTURES, TensorProto.FLOAT, ["N", 3, given, given])
    vectors = helper.make_tensor_value_info(VECTORS, TensorProto.FLOAT, ["N", width])
    made = helper.make_graph(graph.nodes, "face_network", [pictures], [vectors], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _blocks(layers: list[Convolution]) -> Iterator[tuple[Convolution, Convolution]]:
    yield from zip(layers[::2], layers[1::2], strict=True)


def _convolved(side: int, layer: Convolution) -> int:
    return (side + 2 * layer.padding - layer.weight.shape[-1]) // layer.stride + 1


def _pooled(side: int, window: int) -> int:
    return (side - window) // 2 + 1


def mean_vector(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    """Of pictures (N, 3, H, H) of the graph's own side, (F,) float32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.mean([session.run(None, {PICTURES: one[None]})[0][0] for one in pixels], axis=0, dtype=np.float32)


def convert(weights: Path, faces: Path | None, margin: float) -> onnx.ModelProto:
    """The graph of a weights file.

    Raises:
        EdgeSdkError: the file, the folder of faces or the margin cannot be used.
    """
    if not 0 <= margin <= 2:
        raise EdgeSdkError(f"margin is {margin:g}; it must be from 0 to 2")
    network = read(weights)
    model = build(network, margin)
    if faces is None:
        return model
    side = model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    return build(network, margin, mean_vector(model, load_photos(faces, side, what="faces", limit=MOST_FACES).pixels))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photos.face_network", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--weights", type=Path, required=True, help="dlib_face_recognition_resnet_model_v1.dat")
    parser.add_argument(
        "--faces", type=Path, help="folder of portraits whose mean vector is subtracted (default: none)"
    )
    parser.add_argument(
        "--margin", type=float, default=MARGIN, help="how far edges are drawn out, as a share of a side (default 0.15)"
    )
    parser.add_argument("--output", type=Path, default=Path("face.onnx"))
    args = parser.parse_args()
    model = convert(args.weights, args.faces, args.margin)
    with disk_errors(args.output):
        write_bytes(args.output, model.SerializeToString())
    print(f"wrote {args.output}; give it as --similarity {args.output}")


if __name__ == "__main__":
    run(main)
