"""Measure energy and runtime of queries: meters, windows, engines, campaigns."""
