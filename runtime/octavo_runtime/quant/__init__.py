"""Weights in fewer bits, and the projections that compute with them."""
