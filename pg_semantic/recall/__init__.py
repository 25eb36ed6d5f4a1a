"""Recall of the vector index alone: measured on stored vectors, compared with an objective, kept in the database."""
