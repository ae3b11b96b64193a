"""Policies: which endpoint a request goes to. Pure; for the simulator and the gateway alike."""
