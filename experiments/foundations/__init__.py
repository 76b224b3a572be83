"""The older sources, Srivastava et al. 2014 and Wan et al. 2013: the same."""
