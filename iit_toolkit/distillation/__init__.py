"""Causal distillation: losses, objective, trainer, and students made from their teacher."""
