"""Variants of the layers of a network: which there are, and what each costs and gives."""
