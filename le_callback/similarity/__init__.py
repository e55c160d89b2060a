"""Similarity models: how classes pull on each other."""
