"""Recurrent networks that are pruned by part, and some that are connected like random graphs."""
