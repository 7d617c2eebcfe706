"""Data sets: their descriptions, one reader, the training transform and the order of samples."""
