"""Real services for the tests: each on a free port, in a folder of its own, ended by its pid."""
