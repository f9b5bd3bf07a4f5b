"""Scoring: how surprising a text of any size is to a model, in all, by line and by character."""
