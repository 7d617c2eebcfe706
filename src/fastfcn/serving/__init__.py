"""What `fastfcn serve` is made of: queue, limits, formats, figures, and the page."""
