"""Render records for people: console tables, charts and one self-contained HTML page."""
