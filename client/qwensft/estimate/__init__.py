"""The memory that a training needs, and what to change so that it fits. Pure, and usable without a cluster."""
