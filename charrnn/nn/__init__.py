"""The network: cells as their equations, the scans that run them over time, the layers around them."""
