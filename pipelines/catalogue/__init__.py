"""The catalogue: a page of all transformations and schedules, written from their own texts."""
