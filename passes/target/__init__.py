"""What code is generated for: the processor."""
