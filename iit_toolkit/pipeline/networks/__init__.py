"""Runs whose teacher is a program or a network, and whose students are networks of torch."""
