"""The study of structured tickets."""
