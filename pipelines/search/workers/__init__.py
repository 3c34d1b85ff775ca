"""The workers of a search: what they are sent, where they are, and what becomes of their replies."""
