"""Compiled code checked and timed, in processes of its own."""
