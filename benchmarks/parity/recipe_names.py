"""Names of the recipes whose networks mmsegmentation has too."""


def openmmlab_recipe(head: str, classes: int, jpu: bool) -> str:
    """The recipe of "psp", "aspp" or "enc" for Cityscapes (19 classes) or ADE20K (150), with JPU or dilated."""
    schedule = "cityscapes_80k_b8" if classes == 19 else "ade20k_80k_b16"
    return f"{'fastfcn' if jpu else 'dilated'}_r50_{head}_{schedule}"
