"""Shared by serve_load.py and serve_hostile.py: the service as a subprocess, and an HTTP client."""
