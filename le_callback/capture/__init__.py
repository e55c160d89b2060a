"""Find the classifier head and the labels, and capture what the head sees."""
