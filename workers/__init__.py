"""Processes on Docker hosts: they know git, BuildKit and registries, and no database."""
