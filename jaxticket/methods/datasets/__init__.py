"""Which examples are worth training on."""
