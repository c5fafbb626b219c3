"""Mutated inputs through the command line: every reader must refuse in one line, or do its work.

``python -m tests.mutations --inputs 2000 --seed 0`` writes ``benchmarks/results/mutations.json``.
"""
