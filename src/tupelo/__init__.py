"""Deep metric learning: train an embedding from your own labels, measure it honestly, use it."""
