"""Trains the heads of several experiments in one program, on the features of a shared prefix."""
