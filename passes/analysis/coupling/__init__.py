"""Tied dimensions: which loops and axes of memrefs have to follow when one of them changes."""
