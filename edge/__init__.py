"""The gateway: collects readings, keeps them until central has them, tells of every loss."""
