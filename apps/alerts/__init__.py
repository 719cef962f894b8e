"""What somebody has to look at, until somebody says that they did."""
