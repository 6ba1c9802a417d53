"""What methods learn from calibration images, and searches over amounts."""
