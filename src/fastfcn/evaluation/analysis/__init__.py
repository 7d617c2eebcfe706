"""What a report tells of a run: figures collected while it is evaluated, and what the run itself recorded."""
