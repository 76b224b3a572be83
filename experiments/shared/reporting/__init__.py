"""What every experiment leaves: tables, figures, numbers, a passport."""
