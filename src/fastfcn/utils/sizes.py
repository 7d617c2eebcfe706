"""Types and constants that every layer shares."""

Size = tuple[int, int]  # (height, width) in pixels

IGNORE_INDEX = 255  # label of pixels that neither train the network nor count in metrics
