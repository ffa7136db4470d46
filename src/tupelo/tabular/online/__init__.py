"""Metrics learned from a stream in one pass: layers, the stack of them, and the estimators."""
