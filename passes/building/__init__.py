"""Building and rebuilding nests: what the transformations share."""
