"""Streaming class moments: sums, the window, the metric."""
