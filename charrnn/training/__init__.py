"""Learning: the objective, the optimizer, the jitted step, and the loop that yields events."""
