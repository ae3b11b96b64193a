"""Engine drivers: have an engine answer a query of a given size."""
