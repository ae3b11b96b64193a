"""Campaigns: which queries are measured, how often, and a file of trials that survives anything."""
