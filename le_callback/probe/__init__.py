"""A small fixed labelled set that is passed through the model now and then."""
