"""Datasets: descriptions, reading images and masks, training transforms, and the order of samples."""
