"""Tests with real services."""
