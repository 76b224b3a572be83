"""What the experiments share: settings and claims here, the rest in rooms."""
