"""The older sources (Srivastava et al. 2014, Wan et al. 2013): as the papers."""
