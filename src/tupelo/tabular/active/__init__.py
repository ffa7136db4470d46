"""Where to label next: regions around outliers and boundaries, recommendations, ask and tell."""
