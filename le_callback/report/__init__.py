"""What is told: tags, charts, tables."""
