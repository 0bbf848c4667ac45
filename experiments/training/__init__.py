"""The training of networks on small data: problems, lanes that share a program, levels and cells."""
