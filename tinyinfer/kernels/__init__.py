"""Fast loops, and what they share."""
