"""What the network learns, made from instances with NumPy alone: labels, borders, distances."""
