"""What an experiment leaves: tables, figures, numbers, pages, a passport."""
