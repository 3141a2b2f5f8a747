"""What the schema accepts the operator makes, and the API server takes: with the API server as the oracle."""
