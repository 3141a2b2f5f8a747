"""The hubs that models and datasets are downloaded from."""
