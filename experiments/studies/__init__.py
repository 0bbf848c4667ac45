"""The studies, a module or package each: what is asked, its configuration, its claims."""
