"""`fastfcn init`: a dataset description and a recipe for your own images, with comments that explain them."""
