"""Many runs: sweeps of cells, what they cost, what was trained."""
