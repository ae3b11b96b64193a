"""Workloads: queries as columns of token counts, and readers for the formats they come in."""
