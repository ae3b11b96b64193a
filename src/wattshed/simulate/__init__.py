"""Simulate replicas that serve requests: continuous batching, latency, and energy that adds up."""
