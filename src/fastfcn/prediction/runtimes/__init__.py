"""Export formats and their runtimes, one module per format; each module defines a `RUNTIME` entry.

`registry` collects the entries. To add a format, add a module here and an extra in pyproject.toml.
"""
