"""Trials that take minutes, run by hand: each is one command, and prints what it did and whether it succeeded."""
