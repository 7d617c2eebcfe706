"""`python -m fastfcn`."""

from fastfcn.cli import main

main()
