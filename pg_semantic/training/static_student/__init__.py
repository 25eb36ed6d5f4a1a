"""A static student: a table of words that imitates an index's encoder, and computes next to nothing."""
