"""Passes: the nest view, the analyses and the transformations; one transformation a file."""
