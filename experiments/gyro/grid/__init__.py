"""Figure 1, tables 1, 2 and 6: grids over Sigma, tau and blocks."""
