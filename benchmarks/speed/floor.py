"""The least processor time that a forward pass can take on this machine: its products at the peak of the instructions.

The peak is measured, of one core, with sums in registers. Cores that share units have less together.
"""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edge_sdk.quantization.native import FLAGS, SOURCES

PROGRAM = Path(__file__).with_suffix(".cpp")
SAVED = {"winograd 2": 2.25, "winograd 4": 4.0}  # times fewer products than a direct convolution


def peaks() -> dict[int, float]:
    """Products a second by the bits of activations, 16 and 8.

    Raises:
        subprocess.CalledProcessError: the compiler fails.
        OSError: there is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "floor"
        command = ["c++", *FLAGS, f"-I{SOURCES[0].parent}", str(PROGRAM), "-o", str(program)]
        subprocess.run(command, check=True, capture_output=True)
        lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    return {int(bits): float(rate) for bits, rate in map(str.split, lines)}


def floor_seconds(counts: Mapping[str, int], peaks: Mapping[int, float], bits: int) -> float:
    """Processor seconds for the products of `products.Products.counts`.

    Attention's products, and Winograd's of transformed activations, have 16 bits at any width of activations.
    """
    return sum(count / SAVED.get(kind, 1) / peaks[bits if kind == "linear" else 16] for kind, count in counts.items())


def direct_seconds(counts: Mapping[str, int], peaks: Mapping[int, float], bits: int) -> float:
    """The same without Winograd's transform, and with attention in ``bits``: what another program may do."""
    return sum(counts.values()) / peaks[bits]
