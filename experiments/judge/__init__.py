"""From paired differences to verdicts: contrasts, intervals, power, rules."""
