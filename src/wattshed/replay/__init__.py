"""Send a workload to live engines as it came, and report as simulations do."""
