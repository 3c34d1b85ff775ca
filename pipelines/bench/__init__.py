"""Comparisons: networks with what a user would pick instead, operators with the layers that they replace."""
