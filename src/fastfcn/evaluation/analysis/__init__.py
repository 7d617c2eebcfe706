"""Detailed analysis of a network on a dataset split, collected in one evaluation pass; shown by `fastfcn report`."""
