"""Tests without a real engine, registry, broker or network."""
