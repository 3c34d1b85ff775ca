"""One choice over all layers: solved on the table of variants, then judged on assembled networks."""
