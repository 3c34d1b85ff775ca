"""What is kept across runs."""
