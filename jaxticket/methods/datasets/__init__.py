"""Methods that choose the examples worth training on."""
