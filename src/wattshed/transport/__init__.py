"""Assign many queries to few deployments under constraints, by the prices of the constraints."""
