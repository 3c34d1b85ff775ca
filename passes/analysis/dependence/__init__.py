"""Dependence analysis: which iterations touch the same elements."""
