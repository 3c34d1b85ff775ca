"""The dependence graph of a network's layers: taken at a stage of the way to machine code, and shown."""
