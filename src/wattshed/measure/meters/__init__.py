"""One file per meter; see `wattshed.measure.meter`."""
