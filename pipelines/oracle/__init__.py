"""The rewritten nests back in PyTorch: module surgery, and which of the old weights are inherited."""
