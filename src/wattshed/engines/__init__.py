"""What replicas do in a step, and what it costs: models, and the tables that rules read."""
