"""Graphs for Core ML, and an interpreter that runs the saved programs where there is no Core ML."""
