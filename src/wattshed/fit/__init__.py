"""Fit query models e(m, n) and r(m, n) to runs: forms, solvers, selection, intervals."""
