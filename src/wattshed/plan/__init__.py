"""Assign a workload to deployments at the least cost, and compare with every simpler rule."""
