"""The studies, a module or package each: its question, its configuration, its claims."""
