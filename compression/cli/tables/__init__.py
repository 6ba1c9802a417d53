"""What the commands print as tables: three significant digits, units, intervals."""
