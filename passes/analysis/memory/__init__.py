"""What lies where in memrefs, who reads and writes it, and when."""
