"""Metrics by mixed-integer optimisation, in the spirit of Kumaran et al. (1803.10647)."""
