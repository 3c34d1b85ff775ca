"""The `morph` dialect: transform operations for schedules."""
