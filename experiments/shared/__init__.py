"""What the experiments share: data, models, flags, runner, plots."""
