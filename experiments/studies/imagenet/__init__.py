"""Sparse training on ImageNet, on one device or a mesh of many."""
