"""Metrics for tables, as scikit-learn estimators: one-pass layers, and optimal metrics by solvers."""
