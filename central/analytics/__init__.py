"""Analytics: what flows through the live lane, as pipelines will be fed with it."""
