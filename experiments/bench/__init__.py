"""How fast: steps, products, masks, sweeps, loaders, and a suite for a GPU."""
