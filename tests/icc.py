"""ICC profiles for tests, made from the numbers of their specification, and what their colours are in sRGB."""

import struct

import numpy as np

# Columns: the primaries' XYZ relative to D50.
PRIMARIES = {
    "sRGB": [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]],
    "Display P3": [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]],
    "Adobe RGB": [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]],
    "ProPhoto": [[0.79767, 0.13519, 0.03135], [0.28804, 0.71188, 0.00009], [0.0, 0.0, 0.82491]],
}
GAMMA = {"Display P3": 2.2, "Adobe RGB": 2.199, "ProPhoto": 1.8}
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(name: str) -> bytes:
    columns = np.transpose(PRIMARIES[name])
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(GAMMA[name] * 256)) + bytes(2)
    tags = {f"{c}XYZ": _xyz(column) for c, column in zip("rgb", columns, strict=True)}
    return _profile("RGB ", "XYZ ", tags | dict.fromkeys(("rTRC", "gTRC", "bTRC"), curve))


def grey_profile(gamma: float) -> bytes:
    return _profile("GRAY", "XYZ ", {"kTRC": b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + bytes(2)})


def cmyk_profile() -> bytes:
    """Every ink darkens alike: L* falls from 100 to 0 with the amount of the heaviest one, and a* and b* are 0."""
    ramp = bytes(range(256))
    corners = [[255 if not any(inks) else 0, 128, 128] for inks in np.ndindex(2, 2, 2, 2)]
    matrix = struct.pack(">9i", *(np.eye(3, dtype=int).ravel() * 65536).tolist())
    head = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    return _profile("CMYK", "Lab ", {"A2B0": head + matrix + ramp * 4 + bytes(np.ravel(corners).tolist()) + ramp * 3})


def to_srgb(name: str, rgb: np.ndarray) -> np.ndarray:
    """(..., 3) bytes in a profile's colours -> the nearest sRGB bytes, by the definition."""
    linear = (rgb / 255.0) ** GAMMA[name] @ np.transpose(PRIMARIES[name]) @ np.linalg.inv(PRIMARIES["sRGB"]).T
    return encode(linear)


def encode(linear: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB bytes."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def _xyz(values: np.ndarray | tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _profile(space: str, connection: str, tags: dict[str, bytes]) -> bytes:
    text = b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78)
    all_tags = {"desc": text, "cprt": b"text" + bytes(4) + b"none\0\0\0\0", "wtpt": _xyz(_D50)} | tags
    table, data = struct.pack(">I", len(all_tags)), b""
    start = 128 + 4 + 12 * len(all_tags)
    for name, content in all_tags.items():
        table += name.encode() + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    kind = b"prtr" if space == "CMYK" else b"mntr"
    fields = (start + len(data), 0x02100000, kind, space.encode(), connection.encode(), b"acsp")
    illuminant = (round(value * 65536) for value in _D50)
    return struct.pack(">I4xI4s4s4s12x4s28x3i48x", *fields, *illuminant) + table + data
