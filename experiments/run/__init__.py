"""One run: its configuration, what it needs, the loop that trains it."""
