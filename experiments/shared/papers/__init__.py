"""The papers' own numbers, as data: nothing here is measured."""
