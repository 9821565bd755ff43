"""Real services and a sample repository, small enough for a demo and true enough for the tests."""
