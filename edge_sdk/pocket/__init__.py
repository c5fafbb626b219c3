"""The small real model that ships with the package, and photos of a person it has never seen. See README.md here."""

from pathlib import Path

MODEL = Path(__file__).parent / "model"
PHOTOS = Path(__file__).parent / "photos"
