"""Analyses: what nests and programs are, found from their accesses; they change nothing."""
