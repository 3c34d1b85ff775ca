"""Traditional neural architecture search, as a baseline: a space of cells, and BlockSwap's blocks.

Both end in ordinary programs, so that what differs from the unified space is the choice alone.
"""
