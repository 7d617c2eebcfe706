"""Recipes: everything that decides what is trained and how it is evaluated, in one TOML file."""

from fastfcn.recipes.recipe import FORMAT, Recipe, load, names, parse

__all__ = ["FORMAT", "Recipe", "load", "names", "parse"]
