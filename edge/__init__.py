"""The gateway: collects readings, keeps them on disk until central has them, and tells of every loss."""
