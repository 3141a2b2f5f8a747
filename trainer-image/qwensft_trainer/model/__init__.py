"""The base model: where it comes from, where it is kept, and what its files say of it."""
