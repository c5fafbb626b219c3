"""The version, known to every floor of the house."""

__version__ = "0.1.0"
