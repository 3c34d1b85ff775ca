"""Least-squares repair: the weights with which a rewritten network is nearest to the trained one it came from."""
