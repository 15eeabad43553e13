"""Fitting: phases, callbacks, resuming."""
