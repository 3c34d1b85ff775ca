"""Whole jobs made of passes: import, compile, oracle, search, measurement."""
