"""Raising: nests back to what PyTorch can run, as plain data."""
