"""The search for a faster network that stays legal."""
