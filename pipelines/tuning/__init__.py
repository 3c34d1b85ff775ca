"""Measuring which algorithm and register block is fastest."""
