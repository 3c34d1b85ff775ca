"""Rewritten networks in PyTorch alone: the modules that surgery puts in, what runs them, and files of them."""
