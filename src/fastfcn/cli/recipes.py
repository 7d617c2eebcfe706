"""`fastfcn recipes` and `fastfcn recipe`: list, print and compare recipes."""

from typing import Annotated

import typer

from fastfcn.utils.console import out_console


def recipes() -> None:
    """List the recipes with their published mIoU.

    [dim]fastfcn recipes[/]
    """
    from fastfcn.cli.tables.recipes import show_recipes

    show_recipes(out_console)


def recipe(
    name: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a recipe or OpenMMLab config, or path of a recipe file.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Overrides, or another recipe to compare with."),
    ] = None,
) -> None:
    """Print a recipe, with overrides marked, or compare two recipes.

    [dim]fastfcn recipe fastfcn_r50_psp_camvid optim.lr=0.02\n
    fastfcn recipe fastfcn_r50_psp_camvid dilated_r50_psp_camvid[/]
    """
    from fastfcn import recipes
    from fastfcn.cli.tables.recipes import show_differences, show_recipe

    changes = changes or []
    if len(changes) == 1 and "=" not in changes[0]:
        show_differences(recipes.load(name), recipes.load(changes[0]), out_console)
    else:
        loaded = recipes.load(name, changes)
        if any(change.startswith("backbone") for change in changes):
            from fastfcn import build  # imports torch, which takes seconds

            build.check_backbone(loaded)
        show_recipe(loaded, out_console)
