"""HTML report of one run or of two runs side by side: a single file that loads nothing else."""
