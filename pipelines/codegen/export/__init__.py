"""A compiled network outside of Python: object code, a C header, libraries, weights, CMake."""
