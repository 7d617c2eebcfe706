"""How fast, how large, how much arithmetic: measured in fresh processes or counted, and shown as a table."""
