"""From rows as users write them to tokens as LLaMA-Factory trains on them."""
