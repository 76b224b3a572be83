"""Tables 4 and 5: accuracy and generalization gap, dataset by dataset."""
