"""The drill: random faults under load, and a checker that shares no code with the farm."""
