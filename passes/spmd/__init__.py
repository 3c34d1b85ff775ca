"""Code that all threads execute together: what runs in parallel, and where they wait for each other."""
