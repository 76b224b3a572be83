"""Tables and pages of single experiments, ours beside the papers'."""
