"""Small servers that speak the protocols of hubs and stores, for tests with the real clients."""
