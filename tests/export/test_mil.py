"""The interpreter of Core ML programs: every operation by itself, rounding, compressed weights, damaged packages."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.coreml import writer as coreml
from edge_sdk.export.coreml.interpreter import OPERATIONS, Interpreter
from edge_sdk.export.coreml.narrow import CHANNELS, NARROW, half
from edge_sdk.export.coreml.ops import TARGET, Function, mb, types
from edge_sdk.export.coreml.package import Model_pb2

RNG = np.random.default_rng(0)
X, Y = (RNG.standard_normal((2, 4, 6, 5)).astype(np.float32) for _ in range(2))
W, ROW = RNG.standard_normal((3, 4, 3, 3)).astype(np.float32), RNG.standard_normal(5).astype(np.float32)
MATRIX, MASK = RNG.standard_normal((7, 5)).astype(np.float32), np.triu(np.full((6, 6), -1e4, np.float32), 1)
IDS = np.array([[3, 0, 2]], np.int32)
Q4, ZERO = RNG.integers(0, 16, (2, 8, 2, 1), np.uint8), RNG.integers(0, 16, (2, 2, 2, 1), np.uint8)
SCALE = RNG.uniform(0.01, 1, (2, 2, 2, 1)).astype(np.float32)
Q8 = RNG.integers(-128, 128, (7, 5)).astype(np.int8)
ONES = np.ones(1, np.float32)
MODEL, WEIGHTS = "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"


def save(path: Path, inputs: dict[str, np.ndarray], build: Callable[..., dict[str, object]]) -> Path:
    kinds = {np.dtype(np.float32): types.fp32, np.dtype(np.int32): types.int32}
    given = {name: mb.placeholder(x.shape, kinds[x.dtype], name=name) for name, x in inputs.items()}
    with Function(given, opset_version=TARGET) as function:
        made = build(**function.inputs)
        function.set_outputs([mb.identity(x=value, name=name) for name, value in made.items()])
    coreml.save({"main": function}, path)
    return path


def four_bits(values: np.ndarray) -> np.ndarray:
    return values.astype(types.np_uint4_dtype)


def unpacked() -> np.ndarray:
    """What a scale for blocks of 4 channels at one tap means, written out."""
    out = np.zeros(Q4.shape, np.float32)
    for n, c, h, w in np.ndindex(*Q4.shape):
        out[n, c, h, w] = SCALE[n, c // 4, h, w] * (int(Q4[n, c, h, w]) - int(ZERO[n, c // 4, h, w]))
    return out


def operations(x: object, y: object, ids: object) -> dict[str, object]:
    flat = mb.reshape(x=x, shape=[2, 4, -1])
    pieces = mb.split(x=x, split_sizes=[1, 3], axis=1)
    halves = mb.split(x=x, num_splits=2, axis=2)
    small = mb.slice_by_size(x=x, begin=[0, 1, 0, 2], size=[2, -1, 4, 3])
    four = mb.constexpr_blockwise_shift_scale(data=four_bits(Q4), scale=SCALE, offset=four_bits(ZERO))
    eight = mb.constexpr_blockwise_shift_scale(data=Q8, scale=np.abs(MATRIX[:, :1]))
    some = mb.greater_equal(x=x, y=y)
    return {
        "add": mb.add(x=x, y=y),
        "sub": mb.sub(x=x, y=y),
        "mul": mb.mul(x=x, y=y),
        "exp": mb.exp(x=x),
        "cos": mb.cos(x=x),
        "sin": mb.sin(x=x),
        "sigmoid": mb.sigmoid(x=x),
        "silu": mb.silu(x=x),
        "gelu": mb.gelu(x=x, mode="EXACT"),
        "clip": mb.clip(x=x, alpha=np.float32(-0.5), beta=np.float32(0.25)),
        "linear": mb.linear(x=x, weight=MATRIX, bias=MATRIX[:, 0]),
        "linear_int8": mb.linear(x=x, weight=eight),
        "conv": mb.conv(x=x, weight=W, strides=[2, 2], pad_type="custom", pad=[0, 1, 2, 3], bias=W[:, 0, 0, 0]),
        "conv_int4": mb.conv(x=mb.concat(values=[x, y], axis=1), weight=four, pad_type="valid"),
        "scaled_dot_product_attention": mb.scaled_dot_product_attention(query=x, key=y, value=y, attn_mask=MASK),
        "layer_norm": mb.layer_norm(x=x, axes=[-1], gamma=ROW, beta=ROW, epsilon=np.float32(1e-3)),
        "layer_norm_channels": mb.layer_norm(x=x, axes=[1], gamma=ROW[:4], beta=ROW[1:], epsilon=np.float32(1e-3)),
        "instance_norm": mb.instance_norm(x=flat, epsilon=np.float32(1e-3)),
        "instance_norm_pictures": mb.instance_norm(x=x, epsilon=np.float32(1e-3)),
        "softmax": mb.softmax(x=x, axis=1),
        "einsum": mb.einsum(values=(x, mb.transpose(x=y, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
        "select": mb.select(cond=some, a=x, b=y),
        "equal": mb.cast(x=mb.equal(x=ids, y=np.int32(2)), dtype="int32"),
        "cast": mb.cast(x=x, dtype="int32"),
        "gather": mb.gather(x=MATRIX, indices=ids, axis=0),
        "gather_axis": mb.gather(x=x, indices=ids, axis=1),
        "concat": mb.concat(values=[x, y], axis=2),
        "split_sizes": pieces[1],
        "split": halves[1],
        "slice_by_size": small,
        "transpose": mb.transpose(x=x, perm=[0, 2, 3, 1]),
        "reshape": flat,
        "expand_dims": mb.expand_dims(x=flat, axes=[-1, 1]),
        "reduce_mean": mb.reduce_mean(x=x, axes=[1, 2, 3], keep_dims=False),
        "reduce_sum": mb.reduce_sum(x=x, axes=[1], keep_dims=True),
        "reduce_max": mb.reduce_max(x=x, axes=[2], keep_dims=False),
        "upsample_nearest_neighbor": mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
    }


def expected() -> dict[str, object]:
    x, y, w = map(torch.from_numpy, (X, Y, W))
    scores = X @ Y.transpose(0, 1, 3, 2) / np.float32(5**0.5) + MASK
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mean, var = X.mean(-1, keepdims=True), X.var(-1, keepdims=True)
    channels = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-3)
    flat = X.reshape(2, 4, -1)
    flat_mean, flat_var = flat.mean(-1, keepdims=True), flat.var(-1, keepdims=True)
    return {
        "add": X + Y,
        "sub": X - Y,
        "mul": X * Y,
        "exp": np.exp(X),
        "cos": np.cos(X),
        "sin": np.sin(X),
        "sigmoid": 1 / (1 + np.exp(-X)),
        "silu": X / (1 + np.exp(-X)),
        "gelu": X / 2 * (1 + torch.erf(x / 2**0.5).numpy()),
        "clip": np.clip(X, -0.5, 0.25),
        "linear": X @ MATRIX.T + MATRIX[:, 0],
        "linear_int8": X @ (Q8.astype(np.float32) * np.abs(MATRIX[:, :1])).T,
        "conv": F.conv2d(F.pad(x, (2, 3, 0, 1)), w, w[:, 0, 0, 0], stride=2),
        "conv_int4": F.conv2d(torch.cat([x, y], 1), torch.from_numpy(unpacked())),
        "scaled_dot_product_attention": (weights / weights.sum(-1, keepdims=True)) @ Y,
        "layer_norm": (X - mean) / np.sqrt(var + 1e-3) * ROW + ROW,
        "layer_norm_channels": channels * ROW[:4, None, None] + ROW[1:, None, None],
        "instance_norm": (flat - flat_mean) / np.sqrt(flat_var + 1e-3),
        "instance_norm_pictures": ((flat - flat_mean) / np.sqrt(flat_var + 1e-3)).reshape(X.shape),
        "softmax": np.exp(X) / np.exp(X).sum(1, keepdims=True),
        "einsum": np.einsum("nchw,nuhw->nchu", X, Y),
        "select": np.maximum(X, Y),
        "equal": (IDS == 2).astype(np.int32),
        "cast": np.trunc(X).astype(np.int32),
        "gather": MATRIX[IDS],
        "gather_axis": X[:, IDS],
        "concat": np.concatenate([X, Y], 2),
        "split_sizes": X[:, 1:],
        "split": X[:, :, 3:],
        "slice_by_size": X[:, 1:, :4, 2:],
        "transpose": X.transpose(0, 2, 3, 1),
        "reshape": flat,
        "expand_dims": flat[:, None, ..., None],
        "reduce_mean": X.mean((1, 2, 3)),
        "reduce_sum": X.sum(1, keepdims=True),
        "reduce_max": X.max(2),
        "upsample_nearest_neighbor": X.repeat(2, 2).repeat(3, 3),
    }


EXPECTED = {name: np.asarray(value) for name, value in expected().items()}
INPUTS = {"x": X, "y": Y, "ids": IDS}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All operations in one program."""
    return save(tmp_path_factory.mktemp("mil") / "all.mlpackage", INPUTS, operations)


@pytest.fixture(scope="module")
def computed(package: Path) -> dict[str, np.ndarray]:
    return Interpreter(package).run(INPUTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_operation_is_what_its_definition_says(name: str, computed: dict[str, np.ndarray]) -> None:
    assert computed[name].dtype == EXPECTED[name].dtype
    np.testing.assert_allclose(computed[name], EXPECTED[name], rtol=2e-5, atol=2e-6)


def test_every_operation_of_the_interpreter_is_tested(package: Path) -> None:
    assert set(OPERATIONS) == {op.type for op in Interpreter(package).package.block.operations} - {"const"}


def test_float16_values_are_rounded_when_they_are_made(tmp_path: Path) -> None:
    def build(x: object) -> dict[str, object]:
        half = mb.cast(x=x, dtype="fp16")
        total = mb.sub(x=mb.add(x=half, y=np.float16(2048)), y=np.float16(2048))
        return {"y": mb.cast(x=total, dtype="fp32"), "z": mb.cast(x=half, dtype="fp32")}

    x = np.array([1.0 + 2**-12, 3.0, 7e4], np.float32)
    path = save(tmp_path / "half.mlpackage", {"x": x}, build)
    rounded, exact = Interpreter(path).run({"x": x}), Interpreter(path, rounding=False).run({"x": x})
    assert rounded["y"].tolist() == [0.0, 4.0, np.inf]  # 2049 and 2051 are ties between even numbers; 7e4 is too large
    assert rounded["z"].tolist() == [1.0, 3.0, np.inf]
    np.testing.assert_array_equal(exact["z"], x)


HALVES = {"x": RNG.standard_normal((2, 40, 3, 5)).astype(np.float32)}
KERNEL = RNG.standard_normal((6, 40, 1, 1)).astype(np.float16)


def half_chain(x: object) -> dict[str, object]:
    """Operations on float16, each of whose results is an output."""
    half = mb.cast(x=x, dtype="fp16")
    scaled = mb.mul(x=half, y=np.float16(1.1))
    moved = mb.add(x=scaled, y=np.float16(30))
    back = mb.sub(x=moved, y=np.float16(29.9))
    power = mb.exp(x=back)
    product = mb.conv(x=power, weight=KERNEL, bias=KERNEL[:, 0, 0, 0], pad_type="valid")
    made = {"half": half, "scaled": scaled, "moved": moved, "back": back, "power": power, "product": product}
    return {name: mb.cast(x=value, dtype="fp32") for name, value in made.items()}


def half_by_hand(x: np.ndarray, channels: int) -> dict[str, np.ndarray]:
    """The same in numpy's float16; products of so many channels are summed before they are rounded."""
    made = {"half": x.astype(np.float16)}
    made["scaled"] = made["half"] * np.float16(1.1)
    made["moved"] = made["scaled"] + np.float16(30)
    made["back"] = made["moved"] - np.float16(29.9)
    made["power"] = np.exp(made["back"].astype(np.float32)).astype(np.float16)
    power, kernel = made["power"].astype(np.float64), KERNEL[:, :, 0, 0].astype(np.float64)
    total = np.zeros((2, 6, 3, 5))
    for first in range(0, 40, channels):
        some = slice(first, first + channels)
        total = total + np.einsum("bchw,nc->bnhw", power[:, some], kernel[:, some]).astype(np.float16)
        total = total.astype(np.float16) if channels < 40 else total
    wide = np.einsum("bchw,nc->bnhw", power, kernel) if channels >= 40 else total
    made["product"] = (wide + kernel[:, 0, None, None]).astype(np.float16)
    return {name: value.astype(np.float32) for name, value in made.items()}


@pytest.mark.parametrize("narrow", [False, True], ids=["wide sums", "narrow sums"])
def test_every_float16_operation_rounds_as_by_hand(narrow: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "chain.mlpackage", HALVES, half_chain)
    found = Interpreter(path, narrow=narrow).run(HALVES)
    wanted = half_by_hand(HALVES["x"], CHANNELS if narrow else 40)
    for name in ("half", "scaled", "moved", "back", "power"):
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    same = found["product"] == wanted["product"]  # a float32 sum may fall on the other side of a tie
    assert same.mean() > 0.98 and np.abs(found["product"] - wanted["product"]).max() < 0.1
    other = half_by_hand(HALVES["x"], 40 if narrow else CHANNELS)["product"]
    assert (found["product"] == other).mean() < 0.9  # the two kinds of sums can be told apart


def test_norms_and_softmax_in_steps_round_each_of_them() -> None:
    x = half(torch.from_numpy(RNG.standard_normal((1, 8, 1, 4)).astype(np.float32) * 3 + 40))

    def steps(axis: int) -> np.ndarray:
        centered = x.numpy() - np.float16(x.numpy().mean(axis, keepdims=True))
        centered = centered.astype(np.float16)
        variance = np.float16((centered * centered).astype(np.float32).mean(axis, keepdims=True))
        root = np.float16(1 / np.sqrt((variance + np.float16(1e-3)).astype(np.float32)))
        return (centered * root).astype(np.float32)

    ones, zeros = torch.ones(8), torch.zeros(8)
    norm = {"x": x, "axes": torch.tensor([1]), "gamma": ones, "beta": zeros, "epsilon": torch.tensor(1e-3)}
    np.testing.assert_array_equal(NARROW["layer_norm"](norm), steps(1))
    shares = NARROW["softmax"]({"x": x, "axis": torch.tensor(1)})
    powers = np.exp((x - x.amax(1, keepdim=True)).half().float().numpy()).astype(np.float16)
    total = np.float16(powers.astype(np.float32).sum(1, keepdims=True))
    np.testing.assert_array_equal(half(shares).numpy(), (powers / total).astype(np.float32))


def test_resident_weights_change_nothing(package: Path, computed: dict[str, np.ndarray]) -> None:
    program = Interpreter(package, resident=True)
    for _ in range(2):
        for name, value in program.run(INPUTS).items():
            np.testing.assert_array_equal(value, computed[name])


def test_four_bit_weights_take_half_a_byte(package: Path) -> None:
    stored = {(w.name, w.role): w for w in Interpreter(package).package.weights() if w.op.startswith("constexpr")}
    (data,) = [w for w in stored.values() if w.role == "data" and w.dtype == "uint4"]
    assert data.bytes == Q4.size // 2 and data.shape == Q4.shape


def test_an_unknown_operation_is_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "tan.mlpackage", {"x": ONES}, lambda x: {"y": mb.tan(x=x)})
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*operation tan, which the interpreter does not know$"):
        Interpreter(path)


@pytest.mark.parametrize("inputs", [{}, {"x": np.ones(2, np.float32)}], ids=["missing", "of another shape"])
def test_a_wrong_input_is_one_line(inputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = save(tmp_path / "sin.mlpackage", {"x": ONES}, lambda x: {"y": mb.sin(x=x)})
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*input x is (missing|of shape \(2,\)); it must be \(1,\) float32$"):
        Interpreter(path).run(inputs)


def test_a_program_that_contradicts_itself_is_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "sum.mlpackage", INPUTS, lambda x, y, ids: {"z": mb.add(x=x, y=y)})
    model = Model_pb2.Model.FromString((path / MODEL).read_bytes())
    function = model.mlProgram.functions["main"]
    add = next(op for op in function.block_specializations[function.opset].operations if op.type == "add")
    add.outputs[0].type.tensorType.dimensions[1].constant.size = 5
    (path / MODEL).write_bytes(model.SerializeToString())
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*add .* is \(2, 4, 6, 5\) [^\n]*declares \(2, 5, 6, 5\) float32$"):
        Interpreter(path).run(INPUTS)


def test_a_row_beyond_the_table_is_one_line(package: Path) -> None:
    with pytest.raises(EdgeSdkError, match=r"^gather takes entries"):
        Interpreter(package).run(INPUTS | {"ids": IDS + 9})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def point_elsewhere(path: Path) -> None:
    path.write_text(json.dumps({"rootModelIdentifier": "x", "itemInfoEntries": {"x": {"path": "none"}}}))


def name_no_entries(path: Path) -> None:
    path.write_text(json.dumps({"rootModelIdentifier": 1, "itemInfoEntries": "x"}))


def lead_outside(path: Path) -> None:
    manifest = json.loads(path.read_text())
    (entry,) = (one for one in manifest["itemInfoEntries"].values() if one["path"].endswith(".mlmodel"))
    entry["path"] = f"../Data/{entry['path']}"
    path.write_text(json.dumps(manifest))


DAMAGES = [(file, how) for file in ("Manifest.json", MODEL, WEIGHTS) for how in (Path.unlink, cut, scramble)]
DAMAGES += [("Manifest.json", how) for how in (point_elsewhere, name_no_entries, lead_outside)]


@pytest.mark.parametrize(("file", "how"), DAMAGES, ids=lambda v: getattr(v, "__name__", Path(str(v)).name))
def test_a_damaged_package_is_one_line(file: str, how: Callable[[Path], None], tmp_path: Path) -> None:
    path = save(tmp_path / "m.mlpackage", {"x": X}, lambda x: {"y": mb.linear(x=x, weight=MATRIX)})
    how(path / file)
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*(cannot be read|is damaged)[^\n]*$"):
        Interpreter(path).run({"x": X})
