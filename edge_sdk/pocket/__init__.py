"""The small real model that ships with the package, and photos of a person it has never seen. See README.md here.

Attributes:
    MODEL: float weights, a diffusers folder; what unlearning trains and ``--weights none`` and ``int4`` are made of.
    INT8: the same as an integer checkpoint, what a run uses by default.
    BUNDLE: the same as an exported bundle, for machines without PyTorch.
"""

from pathlib import Path

MODEL = Path(__file__).parent / "model"
INT8 = Path(__file__).parent / "int8"
BUNDLE = Path(__file__).parent / "bundle"
PHOTOS = Path(__file__).parent / "photos"
