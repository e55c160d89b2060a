"""What a window says of its classes: one file a measure."""
