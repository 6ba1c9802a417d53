"""What was measured and where it is kept: results, intervals, the store and its queue. No torch."""
