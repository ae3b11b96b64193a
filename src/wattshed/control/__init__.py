"""Controllers: how a replica is set while it serves. Pure; for the simulator and live alike."""
