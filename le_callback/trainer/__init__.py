"""What knows Lightning: everything between the Trainer and the engine."""
