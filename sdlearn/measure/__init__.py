"""Measuring a trained Tiny SD: ``python -m sdlearn.measure {evaluate,grid,edits}``."""
