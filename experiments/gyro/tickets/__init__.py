"""Figure 6: winning tickets, of weights and of units."""
