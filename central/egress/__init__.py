"""What leaves central: latest values, history, gaps, points, gateways, and live values."""
