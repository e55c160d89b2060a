"""One rule a file. ``le_callback.alerts.defaults`` lists those that are asked unless others are named."""
