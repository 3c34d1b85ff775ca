"""Passes that choose how activations and weights lie in memory."""
