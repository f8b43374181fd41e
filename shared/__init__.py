"""What gateway and central both speak: readings, batches, link frames, keys, time and errors."""
