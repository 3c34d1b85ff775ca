"""The compiler's own schedules: cost models, choices, and the steps that they lead to."""
