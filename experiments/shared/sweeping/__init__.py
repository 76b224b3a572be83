"""Many runs: cells named by their settings, grids, shards, what they found."""
